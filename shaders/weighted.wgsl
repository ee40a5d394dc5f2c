// A factor of a row's gradient times a weight, of which 0 takes out whatever the factor is.
fn weighted(factor: f32, weight: f32) -> f32 {
  return select(factor * weight, 0.0, weight == 0.0);
}
