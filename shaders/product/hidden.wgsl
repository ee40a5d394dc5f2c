// dhidden [rows, dim] += dlogits [rows, depth] @ weight [depth, dim]

const A_ALONG_DEPTH = true;
const B_ALONG_DEPTH = false;
// Whether the sums run over the listed rows.
const SUMS_OVER_LIST = false;

fn load_a(row: u32, k: u32) -> f32 {
  return tile[params.tile_first + listed(row) * params.tile_stride + k];
}

fn load_b(k: u32, column: u32) -> f32 {
  return weight_at(params.weight_first + k * params.dim + column);
}

fn store(row: u32, column: u32, sum: f32) {
  let at = params.out_first + listed(row) * params.dim + column;
  out[at] += sum;
}
