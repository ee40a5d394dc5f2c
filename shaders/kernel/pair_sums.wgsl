// A tile of two summarised rows to what its classes add to the divergence, one workgroup a row.

struct Compared {
  frame: Frame,
  is_comparable: u32,
}

var<workgroup> compared_shared: Compared;

// Rows that are ignored or bad have no divergence.
fn is_comparable(row: u32) -> bool {
  let record = record_of(row);
  let state = state_of(row);
  return targets[params.targets_first + row] != -100
    && records[record + RECORD_STATUS] == STATUS_FINE
    && records[record + RECORD_ARGMAX] != NO_COLUMN
    && states[state + STATE_TEACHER_BAD] == NO_COLUMN
    && states[state + STATE_TEACHER_ARGMAX] != NO_COLUMN;
}

fn kernel(row: u32, lane: u32, subgroup: u32, subgroup_lane: u32) {
  if (row >= params.rows) {
    return;
  }
  if (lane == 0u) {
    compared_shared = Compared(frame_of_state(row), u32(is_comparable(row)));
  }
  let compared = workgroupUniformLoad(&compared_shared);
  if (compared.is_comparable == 0u) {
    return;
  }
  let sums = reduce_sums(sweep_entries(span_of(row), teacher_of(row), compared.frame, lane), lane);
  if (lane == 0u) {
    state_write_f32(row, STATE_VALUE, state_f32(row, STATE_VALUE) + sums.a);
    state_write_f32(row, STATE_PULL, state_f32(row, STATE_PULL) + sums.b);
    state_write_f32(row, STATE_PULL_SIZE, state_f32(row, STATE_PULL_SIZE) + sums.c);
    if (sums.column != NO_COLUMN) {
      let at = state_of(row) + STATE_INFINITE;
      states[at] = min(states[at], sums.column + params.column_first);
    }
  }
}
