// What each row has of its own, side by side in one buffer: eight bindings are not enough for all of them. One invocation a
// row.

@group(0) @binding(18) var<storage, read_write> strengths: array<f32>;   // [rows]
@group(0) @binding(19) var<storage, read_write> gathered: array<f32>;    // [rows, 4]: scale, margin, strength, weight

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = row_of(group) * WG + lane;
  if (row >= params.rows) {
    return;
  }
  var strength = params.strength;
  if ((params.flags & FLAG_STRENGTHS) != 0u) {
    strength = strengths[params.rows_first + row];
  }
  let own = row_numbers(row, 2u);
  let at = params.lists_first + 4u * row;
  gathered[at] = own.x;
  gathered[at + 1u] = own.y;
  gathered[at + 2u] = strength;
  gathered[at + 3u] = weight_of(row);
}
