// -sg(w) log p with w = p max(0, 1 - logit p / logit ceiling)
fn infosft(prob: TargetProb, ceiling: f32) -> TokenEval {
  let p = exp_any(prob.log_p);
  if (p == 0.0 || prob.one_minus_p == 0.0) {
    return TokenEval(0.0, 0.0, true);
  }
  let logit = prob.log_p - ln(prob.one_minus_p);
  let highest = ln(ceiling) - ln(1.0 - ceiling);
  let weight = p * max(1.0 - logit / highest, 0.0);
  if (weight == 0.0) {
    return TokenEval(0.0, 0.0, true);
  }
  return TokenEval(-weight * prob.log_p, -weight, true);
}
