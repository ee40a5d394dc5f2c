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
  sweep_gradient(span_of(row), lane, push);
}

fn push_of_record(row: u32) -> Push {
  let goal = targets[params.targets_first + row];
  if (goal == -100) {
    return push_of(PUSH_ZERO);
  }
  if (records[record_of(row) + RECORD_STATUS] != STATUS_FINE || goal < 0 || u32(goal) >= params.vocab) {
    return push_of(PUSH_NAN);
  }
  let stats = RowStats(
    record_f32(row, RECORD_MAX),
    record_f32(row, RECORD_TAIL),
    record_f32(row, RECORD_MOMENT),
    records[record_of(row) + RECORD_ARGMAX],
    NO_COLUMN,
  );
  let prob = TargetProb(record_f32(row, RECORD_LOG_P), record_f32(row, RECORD_ONE_MINUS_P));
  let partials = row_partials_scaled(record_partials(row), scale_of(row));
  return push_live(u32(goal), RowSummary(stats, prob), partials);
}
