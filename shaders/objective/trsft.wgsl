// -log p, and below p = a its tangent
fn trsft(prob: TargetProb, a: f32) -> TokenEval {
  let p = target_prob_p(prob);
  if (p >= a) {
    return TokenEval(-prob.log_p, -1.0, true);
  }
  if (a == 1.0) {
    return TokenEval(prob.one_minus_p, -p, true);
  }
  return TokenEval((1.0 - p / a) - ln(a), -p / a, true);
}
