// lambda (z_t - gamma)^2
fn target_l2(row: RowSummary, lambda: f32, gamma: f32) -> RowEval {
  if (lambda == 0.0) {
    return row_eval_zero();
  }
  let off = row.goal_logit - gamma;
  let pull = lambda * off;
  return RowEval(pull * off, RowPartials(pull + pull, 0.0, 0.0, 0.0, 0.0), true);
}
