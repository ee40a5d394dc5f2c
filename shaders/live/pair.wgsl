// A pair is pushed back where the objective's partials, or what the divergence is multiplied by, say so.

fn is_live(row: u32) -> bool {
  let partials = record_partials(row);
  let factor = state_f32(row, STATE_FACTOR);
  let weight = weight_if_scaled(row);
  let pulls = row_partials_of_slope(weighted(factor, weight));
  let scale = scale_of(row);
  // The probabilities that the sum of the pulls is multiplied by add up to 1.
  let of_pulls = abs(weighted(factor, scale)) * (state_f32(row, STATE_PULL_SIZE) + abs(state_f32(row, STATE_PULL)));
  let norm = row_partials_norm_bound(row_partials_scaled(partials, scale), record_summary(row)) + of_pulls;
  return (row_partials_is_live(pulls) || row_partials_is_live(row_partials_scaled(partials, weight))) && reaches(norm);
}
