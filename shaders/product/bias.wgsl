// dbias [columns] += the sum of dlogits [rows, columns] over the listed rows, one invocation a column.

const RUN = 64u;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let column = (group.y * params.grid_x + group.x) * WG + lane;
  if (column >= params.columns) {
    return;
  }
  let count = list[0];
  var total = 0.0;
  for (var first = 0u; first < count; first += RUN) {
    var sum = 0.0;
    for (var i = first; i < min(count, first + RUN); i++) {
      sum += tile[params.tile_first + listed(i) * params.tile_stride + column];
    }
    total += sum;
  }
  let at = params.out_first + column;
  out[at] += total;
}
