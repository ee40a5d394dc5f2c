// -p^gamma log p with gamma = sg(1 + lambda (clamp(exp(-(log p + H) / beta), 0.1, 2) - 1))
fn idft(row: RowSummary, beta: f32, lambda: f32) -> RowEval {
  let log_p = row.prob.log_p;
  let phi = log_p + row_stats_entropy(row.stats);
  let gamma = 1.0 + lambda * (clamp(exp_any(-phi / beta), 0.1, 2.0) - 1.0);
  let power = exp_any(gamma * log_p);
  if (power == 0.0) {
    return RowEval(0.0, row_partials_zero(), true);
  }
  return RowEval(-power * log_p, row_partials_of_slope(-power * (1.0 + gamma * log_p)), true);
}
