// A matrix product in tiles: a workgroup computes SIDE x SIDE sums, each of its invocations, of which there must be
// 256, 4 x 4 of them in registers, from slices of both operands in workgroup memory.

const SIDE = 64u;
const SLICE = 16u;
// One more than SIDE, so that lanes that write down a column do not all meet the same bank.
const PITCH = 65u;
// Slices that are added up before their sum joins the rest: nested sums lose less than one long one.
const RUN = 32u;

var<workgroup> slice_a: array<f32, 1040>;   // [SLICE, PITCH]
var<workgroup> slice_b: array<f32, 1040>;
var<workgroup> count_shared: u32;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (lane == 0u) {
    count_shared = list[0];
  }
  let count = workgroupUniformLoad(&count_shared);
  let rows = select(count, params.depth, SUMS_OVER_LIST);
  let depth = select(params.depth, count, SUMS_OVER_LIST);
  let across = (params.columns + SIDE - 1u) / SIDE;
  let index = group.y * params.grid_x + group.x;
  let first_row = index / across * SIDE;
  let first_column = index % across * SIDE;
  if (first_row >= rows || depth == 0u) {
    return;
  }

  let my_row = lane / 16u * 4u;
  let my_column = lane % 16u * 4u;
  var total: array<vec4<f32>, 4>;
  var sums: array<vec4<f32>, 4>;
  var run = 0u;
  for (var start = 0u; start < depth; start += SLICE) {
    for (var i = lane; i < SIDE * SLICE; i += WG) {
      // Neighbouring lanes read neighbouring elements.
      let a = select(vec2<u32>(i / SIDE, i % SIDE), vec2<u32>(i % SLICE, i / SLICE), A_ALONG_DEPTH);
      var value = 0.0;
      if (first_row + a.y < rows && start + a.x < depth) {
        value = load_a(first_row + a.y, start + a.x);
      }
      slice_a[a.x * PITCH + a.y] = value;
      let b = select(vec2<u32>(i / SIDE, i % SIDE), vec2<u32>(i % SLICE, i / SLICE), B_ALONG_DEPTH);
      value = 0.0;
      if (first_column + b.y < params.columns && start + b.x < depth) {
        value = load_b(start + b.x, first_column + b.y);
      }
      slice_b[b.x * PITCH + b.y] = value;
    }
    workgroupBarrier();
    for (var k = 0u; k < SLICE; k++) {
      let a = k * PITCH + my_row;
      let b = k * PITCH + my_column;
      let right = vec4<f32>(slice_b[b], slice_b[b + 1u], slice_b[b + 2u], slice_b[b + 3u]);
      sums[0] += slice_a[a] * right;
      sums[1] += slice_a[a + 1u] * right;
      sums[2] += slice_a[a + 2u] * right;
      sums[3] += slice_a[a + 3u] * right;
    }
    workgroupBarrier();
    run++;
    if (run == RUN) {
      run = 0u;
      for (var i = 0u; i < 4u; i++) {
        total[i] += sums[i];
        sums[i] = vec4<f32>(0.0);
      }
    }
  }

  for (var i = 0u; i < 4u; i++) {
    for (var j = 0u; j < 4u; j++) {
      if (first_row + my_row + i < rows && first_column + my_column + j < params.columns) {
        store(first_row + my_row + i, first_column + my_column + j, total[i][j] + sums[i][j]);
      }
    }
  }
}
