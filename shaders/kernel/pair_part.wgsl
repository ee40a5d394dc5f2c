// A tile of two rows to what its columns know of both, merged into record and state, one workgroup a row.

// A part of a row by its maximum and its other exponentials at the temperature; nothing where there is no argmax.
struct Tail {
  max: f32,
  tail: f32,
  argmax: u32,
}

fn tail_merge(a: Tail, b: Tail) -> Tail {
  if (b.argmax == NO_COLUMN) {
    return a;
  }
  if (a.argmax == NO_COLUMN) {
    return b;
  }
  let share = share_at_temperature4(vec4<f32>(-abs(a.max - b.max))).x;
  if (b.max > a.max) {
    return Tail(b.max, b.tail + share * (1.0 + a.tail), b.argmax);
  }
  return Tail(a.max, a.tail + share * (1.0 + b.tail), a.argmax);
}

fn kernel(row: u32, lane: u32, subgroup: u32, subgroup_lane: u32) {
  if (row >= params.rows) {
    return;
  }
  let goal = goal_of(row, lane);
  let span = span_of(row);
  if (goal == -100) {
    pass_over(row, lane, span, row_map(row, NO_COLUMN));
    if (lane == 0u) {
      state_clear(row);
    }
    return;
  }
  // Below the tile's first column this wraps to beyond its last.
  let column = u32(goal) - params.column_first;
  let seen = sweep_seen(span, params.teacher_first + row * params.teacher_stride, lane);
  let stats = reduce(seen.student, lane, subgroup, subgroup_lane);
  // What the lanes have read is written again.
  workgroupBarrier();
  let teacher_stats = reduce(seen.teacher, lane, subgroup, subgroup_lane);
  let tails = reduce_tails(seen, stats, teacher_stats, lane);
  if (lane == 0u) {
    state_merge(row, stats, teacher_stats, tails);
    part_merge(row, column, span, row_map(row, column), stats);
  }
}

fn state_merge(row: u32, stats: RowStats, teacher_stats: RowStats, tails: vec2<f32>) {
  let at = state_of(row);
  var student = Tail(stats.max, tails.x, stats.argmax);
  var teacher = Tail(teacher_stats.max, tails.y, teacher_stats.argmax);
  if ((params.flags & FLAG_FIRST) != 0u) {
    state_clear(row);
  } else {
    // The record is that of the tiles before.
    let record = record_of(row);
    let before = Tail(record_f32(row, RECORD_MAX), state_f32(row, STATE_STUDENT_TAIL), records[record + RECORD_ARGMAX]);
    student = tail_merge(before, student);
    let argmax = states[at + STATE_TEACHER_ARGMAX];
    let teacher_before = Tail(state_f32(row, STATE_TEACHER_MAX), state_f32(row, STATE_TEACHER_TAIL), argmax);
    teacher = tail_merge(teacher_before, teacher);
  }
  state_write_f32(row, STATE_STUDENT_TAIL, student.tail);
  state_write_f32(row, STATE_TEACHER_TAIL, teacher.tail);
  state_write_f32(row, STATE_TEACHER_MAX, teacher.max);
  states[at + STATE_TEACHER_ARGMAX] = teacher.argmax;
  if (teacher_stats.bad != NO_COLUMN) {
    states[at + STATE_TEACHER_BAD] = min(states[at + STATE_TEACHER_BAD], teacher_stats.bad + params.column_first);
  }
}
