// lambda / 2 sum_j z_j^2
fn logit_l2(row: RowSummary, lambda: f32) -> RowEval {
  let half = lambda / 2.0;
  return RowEval(half * row.stats.energy, RowPartials(0.0, 0.0, 0.0, 0.0, half), true);
}
