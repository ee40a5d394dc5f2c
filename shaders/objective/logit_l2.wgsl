// lambda / 2 sum_j z_j^2
fn logit_l2(row: RowSummary, lambda: f32) -> RowEval {
  // The energy of logits beyond 1e19 is infinite, and 0 times that is not 0.
  if (lambda == 0.0) {
    return row_eval_zero();
  }
  let half = lambda / 2.0;
  return RowEval(half * row.stats.energy, RowPartials(0.0, 0.0, 0.0, 0.0, half), true);
}
