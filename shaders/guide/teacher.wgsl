// Rows are led away from a teacher's: strength z + (1 - strength) u. The twin of core/src/guided.rs.

const ROW_MAP_WORDS = 4u;   // scale, margin, strength and the row's weight

struct Guide {
  strength: f32,
  first: u32,      // element of the teacher's row
}

fn guide_of(row: u32) -> Guide {
  let strength = row_maps[params.row_maps_first + ROW_MAP_WORDS * row + 2u];
  return Guide(strength, params.teacher_first + row * params.teacher_stride);
}

// A NaN or a +infinity.
fn is_fault4(bits: vec4<u32>) -> vec4<bool> {
  return is_special(bits) & !is_masked(bits);
}

// By bits, and what is no number stays what it is. What the teacher alone masks is masked, and +infinity above 1.
fn guide4(guide: Guide, bits: vec4<u32>, columns: vec4<u32>) -> vec4<u32> {
  if (guide.strength == 1.0) {
    return bits;
  }
  let of_teacher = load_teacher(guide.first, columns);
  let special = is_special(of_teacher);
  let own = is_special(bits);
  let z = select(bitcast<vec4<f32>>(bits), vec4<f32>(0.0), own);
  let u = select(bitcast<vec4<f32>>(of_teacher), vec4<f32>(0.0), special);
  let both = bitcast<vec4<u32>>(guide.strength * z + (1.0 - guide.strength) * u);
  let pushed_off = is_masked(of_teacher) & vec4<bool>(guide.strength > 1.0);
  let guided = select(both, select(of_teacher, vec4<u32>(0x7f800000u), pushed_off), special);
  return select(guided, bits, own & !is_fault4(of_teacher));
}

// The status of a row with a NaN or a +infinity in it, by the first column of one and the bits of the student's logit there.
fn fault_of(guide: Guide, column: u32, bits: u32) -> u32 {
  let is_own = is_fault4(vec4<u32>(bits)).x;
  if (is_own || guide.strength == 1.0 || !is_fault4(load_teacher(guide.first, vec4<u32>(column))).x) {
    return column + 1u;
  }
  return STATUS_TEACHER + column + 1u;
}

// What a row's partials are multiplied by.
fn row_scale(row: u32) -> f32 {
  if ((params.flags & FLAG_SCALE) == 0u) {
    return 1.0;
  }
  let at = params.row_maps_first + ROW_MAP_WORDS * row;
  return row_maps[at + 3u] * row_maps[at + 2u] * bitcast<f32>(totals[params.totals_first + TOTAL_SCALE]);
}
