// -sg((H / log count)^alpha) log p
fn entropy_gated(row: RowSummary, alpha: f32) -> RowEval {
  let most = ln(row_stats_counted(row.stats));
  var share = 0.0;
  if (most != 0.0) {
    share = row_stats_entropy(row.stats) / most;
  }
  let weight = pow_of_fraction(share, alpha);
  if (weight == 0.0) {
    return RowEval(0.0, row_partials_of_slope(0.0), true);
  }
  return RowEval(-weight * row.prob.log_p, row_partials_of_slope(-weight), true);
}
