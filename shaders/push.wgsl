// What a row's gradient is made of, from its record.

fn push_of_record(row: u32) -> Push {
  let goal = targets[params.targets_first + row];
  if (goal == -100) {
    return push_of(PUSH_ZERO);
  }
  if (records[record_of(row) + RECORD_STATUS] != STATUS_FINE || goal < 0 || u32(goal) >= params.classes) {
    return push_of(PUSH_NAN);
  }
  let partials = row_partials_scaled(record_partials(row), row_scale(row));
  // A target in other columns wraps to beyond these.
  return push_live(u32(goal) - params.column_first, record_summary(row), partials);
}
