// A matrix product by the matrices of a subgroup. A workgroup, which must be four subgroups, computes SIDE x SIDE sums,
// each subgroup 16 rows of them, from slices of both operands in workgroup memory: there they are narrowed, and zeros
// stand beyond the edges.

const SIDE = 64u;
const SLICE = 16u;
const ROWS = 16u;      // of a subgroup
const COLUMNS = 16u;   // that are stored at a time

var<workgroup> slice_a: array<Operand, 1024>;   // [SIDE, SLICE]
var<workgroup> slice_b: array<Operand, 1024>;   // [SLICE, SIDE]
var<workgroup> result: array<f32, 1024>;        // [SIDE, COLUMNS]

// How many rows are listed, as a uniform: matrices of a subgroup need control flow that a compiler knows to be uniform.
@group(0) @binding(13) var<uniform> listed_count: vec4<u32>;

// A finite number that is too large for an operand becomes NaN: infinity could make a logit -inf, which is a mask.
fn operand(value: f32) -> Operand {
  let bits = bitcast<u32>(value);
  let size = bits & 0x7fffffffu;
  let is_lost = (size >= BEYOND) & (size < 0x7f800000u);
  return Operand(select(value, bitcast<f32>(bits | 0x7fc00000u), is_lost));
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let count = listed_count.x;
  let rows = select(count, params.depth, SUMS_OVER_LIST);
  let depth = select(params.depth, count, SUMS_OVER_LIST);
  let across = (params.columns + SIDE - 1u) / SIDE;
  let index = group.y * params.grid_x + group.x;
  let first_row = index / across * SIDE;
  let first_column = index % across * SIDE;
  // Not `||`, which a compiler may turn into a branch of its own.
  if ((first_row >= rows) | (depth == 0u)) {
    return;
  }

  var sums: array<MatrixC, MATRICES>;
  for (var start = 0u; start < depth; start += SLICE) {
    for (var i = lane; i < SIDE * SLICE; i += WG) {
      let a = select(vec2<u32>(i / SIDE, i % SIDE), vec2<u32>(i % SLICE, i / SLICE), A_ALONG_DEPTH);
      var value = 0.0;
      if (first_row + a.y < rows && start + a.x < depth) {
        value = load_a(first_row + a.y, start + a.x);
      }
      slice_a[a.y * SLICE + a.x] = operand(value);
      let b = select(vec2<u32>(i / SIDE, i % SIDE), vec2<u32>(i % SLICE, i / SLICE), B_ALONG_DEPTH);
      value = 0.0;
      if (first_column + b.y < params.columns && start + b.x < depth) {
        value = load_b(start + b.x, first_column + b.y);
      }
      slice_b[b.x * SIDE + b.y] = operand(value);
    }
    workgroupBarrier();
    for (var k = 0u; k < SLICE; k += T) {
      for (var i = 0u; i < ROWS / T; i++) {
        let a = coopLoadT<MatrixA>(&slice_a[(subgroup * ROWS + i * T) * SLICE + k], SLICE);
        for (var j = 0u; j < SIDE / T; j++) {
          let b = coopLoadT<MatrixB>(&slice_b[k * SIDE + j * T], SIDE);
          sums[i * (SIDE / T) + j] = coopMultiplyAdd(a, b, sums[i * (SIDE / T) + j]);
        }
      }
    }
    workgroupBarrier();
  }

  for (var column = 0u; column < SIDE; column += COLUMNS) {
    for (var i = 0u; i < ROWS / T; i++) {
      for (var j = 0u; j < COLUMNS / T; j++) {
        let at = (subgroup * ROWS + i * T) * COLUMNS + j * T;
        coopStoreT(sums[i * (SIDE / T) + column / T + j], &result[at], COLUMNS);
      }
    }
    workgroupBarrier();
    for (var i = lane; i < SIDE * COLUMNS; i += WG) {
      let row = first_row + i / COLUMNS;
      let to = first_column + column + i % COLUMNS;
      if (row < rows && to < params.columns) {
        store(row, to, result[i]);
      }
    }
    workgroupBarrier();
  }
}
