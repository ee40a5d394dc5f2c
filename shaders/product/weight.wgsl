// dweight [depth, dim] += dlogits [rows, depth]^T @ hidden [rows, dim]: here the sums run over the listed rows.

const A_ALONG_DEPTH = false;
const B_ALONG_DEPTH = false;
// Whether the sums run over the listed rows.
const SUMS_OVER_LIST = true;

fn load_a(row: u32, k: u32) -> f32 {
  return tile[params.tile_first + listed(k) * params.tile_stride + row];
}

fn load_b(k: u32, column: u32) -> f32 {
  return hidden_at(params.hidden_first + listed(k) * params.dim + column);
}

fn store(row: u32, column: u32, sum: f32) {
  let at = params.out_first + row * params.dim + column;
  out[at] += sum;
}
