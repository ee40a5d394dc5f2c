// A row is pushed back where its partials say so.

fn is_live(row: u32) -> bool {
  let partials = record_partials(row);
  let scaled = row_partials_scaled(partials, scale_of(row));
  return row_partials_is_live(row_partials_scaled(partials, weight_if_scaled(row)))
    && reaches(row_partials_norm_bound(scaled, record_summary(row)));
}
