// (1 - p^alpha) / alpha with alpha = sg(sum_j p_j^2)
fn deft(row: RowSummary) -> RowEval {
  let alpha = row_stats_sum_p_squared(row.stats);
  let exponent = alpha * row.prob.log_p;
  return RowEval(-exp_m1(exponent) / alpha, row_partials_of_slope(-exp_any(exponent)), true);
}
