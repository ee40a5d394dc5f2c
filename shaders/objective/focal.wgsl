// -(1 - p)^gamma log p
fn focal(prob: TargetProb, gamma: f32) -> TokenEval {
  let damp = pow_of_fraction(prob.one_minus_p, gamma);
  let p = target_prob_p(prob);
  // gamma p (-log p) / (1 - p), whose ratio is 1 at p = 1; p log p is 0 at p = 0.
  var pull = 0.0;
  if (p != 0.0) {
    var ratio = 1.0;
    if (prob.one_minus_p != 0.0) {
      ratio = -prob.log_p / prob.one_minus_p;
    }
    pull = gamma * p * ratio;
  }
  var loss = 0.0;
  if (damp != 0.0) {
    loss = -damp * prob.log_p;
  }
  return TokenEval(loss, -damp * (1.0 + pull), true);
}
