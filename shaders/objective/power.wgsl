// (1 - p^alpha) / alpha, which is -log p at alpha = 0
fn power(prob: TargetProb, alpha: f32) -> TokenEval {
  if (alpha == 0.0) {
    return TokenEval(-prob.log_p, -1.0, true);
  }
  // Saturates for alpha < 0 inside exp_any.
  let exponent = alpha * prob.log_p;
  return TokenEval(-exp_m1(exponent) / alpha, -exp_any(exponent), true);
}
