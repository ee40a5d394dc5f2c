// Huber loss on the error 1 - p
fn huber(prob: TargetProb, delta: f32) -> TokenEval {
  let error = prob.one_minus_p;
  if (error <= delta) {
    return TokenEval(0.5 * error * error, -error * target_prob_p(prob), true);
  }
  return TokenEval(delta * (error - 0.5 * delta), -delta * target_prob_p(prob), true);
}
