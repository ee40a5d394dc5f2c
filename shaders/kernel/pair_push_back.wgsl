// Writes the gradient of the student's row in a tile from record and state.

struct Pushed {
  push: PairPush,
  frame: Frame,
}

var<workgroup> pushed_shared: Pushed;

fn kernel(row: u32, lane: u32, subgroup: u32, subgroup_lane: u32) {
  if (row >= params.rows) {
    return;
  }
  if (lane == 0u) {
    let factor = weighted(state_f32(row, STATE_FACTOR), scale_of(row));
    let push = PairPush(push_of_record(row), factor, state_f32(row, STATE_PULL));
    pushed_shared = Pushed(push, frame_of_state(row));
  }
  let pushed = workgroupUniformLoad(&pushed_shared);
  let map = row_map(row, pushed.push.objective.target_column);
  sweep_pair_gradient(span_of(row), map, teacher_of(row), pushed.frame, lane, pushed.push);
}
