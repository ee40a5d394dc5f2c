// What logits are taken for: scale (link(z) - margin [j = t]), and -infinity where a class is masked. The twin of
// core/src/logit_map.rs.
const HAS_MAP = true;

@group(0) @binding(15) var<storage, read_write> class_mask: array<u32>;

struct RowMap {
  guide: Guide,
  scale: f32,
  margin: f32,
  goal: u32,   // the target's column in this dispatch, or beyond its last
  mask: u32,   // the first word
}

fn row_map(row: u32, goal: u32) -> RowMap {
  let own = row_numbers(row, ROW_MAP_WORDS);
  return RowMap(guide_of(row), own.x, own.y, goal, params.mask_first + row * params.mask_stride);
}

fn is_allowed4(map: RowMap, columns: vec4<u32>) -> vec4<bool> {
  if ((params.flags & FLAG_MASK) == 0u) {
    return vec4<bool>(true);
  }
  // Columns outside the row are not looked at.
  let classes = min(params.column_first + columns, vec4<u32>(params.classes - 1u));
  let at = map.mask + classes / 32u;
  let words = vec4<u32>(class_mask[at.x], class_mask[at.y], class_mask[at.z], class_mask[at.w]);
  return ((words >> (classes % 32u)) & vec4<u32>(1u)) != vec4<u32>(0u);
}

// By bits, and what is no number stays what it is: a mask and a fault must not become numbers.
fn map4(map: RowMap, bits: vec4<u32>, columns: vec4<u32>) -> vec4<u32> {
  let special = is_special(bits);
  let z = select(bitcast<vec4<f32>>(bits), vec4<f32>(0.0), special);
  let margin = select(vec4<f32>(0.0), vec4<f32>(map.margin), columns == vec4<u32>(map.goal));
  let mapped = select(vec4<u32>(params.neg_infinity), bitcast<vec4<u32>>((link4(z) - margin) * map.scale), is_allowed4(map, columns));
  return select(mapped, bits, special);
}

// From the logit, since from a value near the cap it would cancel.
fn map_derivative4(map: RowMap, bits: vec4<u32>) -> vec4<f32> {
  let z = select(bitcast<vec4<f32>>(bits), vec4<f32>(LOWEST), is_special(bits));
  return link_derivative4(z) * map.scale;
}
