// Rows are judged as they are.

const ROW_MAP_WORDS = 2u;   // scale and margin

struct Guide {
  strength: f32,
}

fn guide_of(row: u32) -> Guide {
  return Guide(1.0);
}

fn guide4(guide: Guide, bits: vec4<u32>, columns: vec4<u32>) -> vec4<u32> {
  return bits;
}

// The status of a row with a NaN or a +infinity in it, by the first column of one and the bits of the logit there.
fn fault_of(guide: Guide, column: u32, bits: u32) -> u32 {
  return column + 1u;
}

// What a row's partials are multiplied by.
fn row_scale(row: u32) -> f32 {
  return scale_of(row);
}
