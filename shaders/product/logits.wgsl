// tile [rows, columns] = hidden [rows, dim] @ weight [columns, dim]^T + bias [columns]

const A_ALONG_DEPTH = true;
const B_ALONG_DEPTH = true;
// Whether the sums run over the listed rows.
const SUMS_OVER_LIST = false;

fn load_a(row: u32, k: u32) -> f32 {
  return hidden_at(params.hidden_first + listed(row) * params.dim + k);
}

fn load_b(k: u32, column: u32) -> f32 {
  return weight_at(params.weight_first + column * params.dim + k);
}

fn store(row: u32, column: u32, sum: f32) {
  var z = sum;
  if ((params.flags & FLAG_BIAS) != 0u) {
    z += bias_at(params.bias_first + column);
  }
  tile[params.tile_first + listed(row) * params.tile_stride + column] = z;
}
