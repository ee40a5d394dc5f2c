// lambda lse^2
fn z_loss(row: RowSummary, lambda: f32) -> RowEval {
  // A driver may double the log-sum-exp first, and 0 times infinity is not 0.
  if (lambda == 0.0) {
    return row_eval_zero();
  }
  let lse = row_stats_lse(row.stats);
  let pull = lambda * lse;
  return RowEval(pull * lse, RowPartials(0.0, pull + pull, 0.0, 0.0, 0.0), true);
}
