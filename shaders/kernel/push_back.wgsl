// Writes a row's gradient from its record.

var<workgroup> push_shared: Push;

fn kernel(row: u32, lane: u32, subgroup: u32, subgroup_lane: u32) {
  if (row >= params.rows) {
    return;
  }
  if (lane == 0u) {
    push_shared = push_of_record(row);
  }
  let push = workgroupUniformLoad(&push_shared);
  sweep_gradient(span_of(row), row_map(row, push.target_column), lane, push);
}
