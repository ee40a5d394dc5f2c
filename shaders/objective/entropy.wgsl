// lambda H
fn entropy(row: RowSummary, lambda: f32) -> RowEval {
  return RowEval(lambda * row_stats_entropy(row.stats), RowPartials(0.0, 0.0, lambda, 0.0, 0.0), true);
}
