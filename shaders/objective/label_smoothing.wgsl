// -(1 - epsilon) log p - epsilon mean_j log p_j
fn label_smoothing(row: RowSummary, epsilon: f32) -> RowEval {
  let sharp = 1.0 - epsilon;
  // Either term may be infinite, and 0 times that is not 0.
  var loss = 0.0;
  if (sharp != 0.0) {
    loss = -sharp * row.prob.log_p;
  }
  if (epsilon != 0.0) {
    loss += epsilon * row_stats_uniform_cross_entropy(row.stats);
  }
  return RowEval(loss, RowPartials(-sharp, 1.0, 0.0, -epsilon, 0.0), true);
}
