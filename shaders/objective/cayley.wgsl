// (1 - p^alpha) / alpha with alpha = sg(clamp(a0 + (1 - a0) p / (2 - p), 0.001, 1)) and a0 = mean_p / 2
fn cayley(row: RowSummary, mean_p: f32) -> RowEval {
  let least = mean_p / 2.0;
  let own = target_prob_p(row.prob) / (1.0 + row.prob.one_minus_p);
  let alpha = clamp(least + (1.0 - least) * own, 0.001, 1.0);
  let exponent = alpha * row.prob.log_p;
  return RowEval(-exp_m1(exponent) / alpha, row_partials_of_slope(-exp_any(exponent)), true);
}
