// -lambda log p + (1 - lambda)(1 - p)
fn mix(prob: TargetProb, lambda: f32) -> TokenEval {
  let rest = 1.0 - lambda;
  var log = 0.0;
  if (lambda != 0.0) {
    log = -lambda * prob.log_p;
  }
  return TokenEval(log + rest * prob.one_minus_p, -(lambda + rest * target_prob_p(prob)), true);
}
