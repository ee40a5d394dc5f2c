// log(1 - p + eps)
fn unlikelihood(prob: TargetProb, eps: f32) -> TokenEval {
  let p = target_prob_p(prob);
  let rest = prob.one_minus_p + eps;
  if (p + p < 1.0) {
    return TokenEval(ln_1p(eps - p), -p / rest, true);
  }
  if (rest + rest > 1.0) {
    return TokenEval(ln_1p(prob.one_minus_p - (1.0 - eps)), -p / rest, true);
  }
  return TokenEval(ln(rest), -p / rest, true);
}
