// -log p + epsilon (1 - p)
fn poly1(prob: TargetProb, epsilon: f32) -> TokenEval {
  return TokenEval(-prob.log_p + epsilon * prob.one_minus_p, -(1.0 + epsilon * target_prob_p(prob)), true);
}
