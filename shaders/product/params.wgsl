// The numbers of one matrix product of the linear form. `list` holds how many rows take part, and then these rows:
// the others cost nothing.

struct Params {
  columns: u32,        // of the product
  depth: u32,          // terms of each sum; where they are the listed rows, rows of the product
  grid_x: u32,         // groups per line of the fold
  dim: u32,
  hidden_first: u32,   // element of the first row inside its binding
  weight_first: u32,
  bias_first: u32,
  tile_first: u32,     // element of the tile's first column that takes part
  tile_stride: u32,
  out_first: u32,
  flags: u32,
}

const FLAG_BIAS = 1u;

override WG: u32 = 256u;

@group(0) @binding(0) var<uniform> params: Params;

// All storage is `read_write`, because a caller's allocator may have put several of these in one buffer.
@group(0) @binding(1) var<storage, read_write> tile: array<f32>;       // [rows, tile_stride]
@group(0) @binding(7) var<storage, read_write> hidden: array<u32>;     // [rows, dim]
@group(0) @binding(8) var<storage, read_write> weight: array<u32>;     // [columns, dim]
@group(0) @binding(9) var<storage, read_write> bias: array<u32>;       // [columns]
@group(0) @binding(10) var<storage, read_write> list: array<u32>;      // [1 + rows]
@group(0) @binding(11) var<storage, read_write> out: array<f32>;

fn element(word: u32, part: u32) -> f32 {
  return bitcast<f32>(unpack(vec4<u32>(word), part).x);
}

fn hidden_at(i: u32) -> f32 {
  return element(hidden[i / PER_WORD], i % PER_WORD);
}

fn weight_at(i: u32) -> f32 {
  return element(weight[i / PER_WORD], i % PER_WORD);
}

fn bias_at(i: u32) -> f32 {
  return element(bias[i / PER_WORD], i % PER_WORD);
}

fn listed(i: u32) -> u32 {
  return list[1u + i];
}
