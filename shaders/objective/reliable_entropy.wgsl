// H where it is below a share of the greatest possible one; the row is dropped elsewhere
fn reliable_entropy(row: RowSummary, share: f32) -> RowEval {
  let entropy = row_stats_entropy(row.stats);
  if (entropy >= share * ln(row_stats_counted(row.stats))) {
    return row_eval_dropped();
  }
  return RowEval(entropy, RowPartials(0.0, 0.0, 1.0, 0.0, 0.0), true);
}
