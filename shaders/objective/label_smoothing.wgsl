// -(1 - epsilon) log p - epsilon mean_j log p_j
fn label_smoothing(row: RowSummary, epsilon: f32) -> RowEval {
  let sharp = 1.0 - epsilon;
  var hard = 0.0;
  if (sharp != 0.0) {
    hard = -sharp * row.prob.log_p;
  }
  let loss = hard + epsilon * row_stats_uniform_cross_entropy(row.stats);
  return RowEval(loss, RowPartials(-sharp, 1.0, 0.0, -epsilon, 0.0), true);
}
