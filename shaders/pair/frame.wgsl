// The frame of a pair whose rows are summarised.

fn frame_of_state(row: u32) -> Frame {
  let tops = vec2<f32>(record_f32(row, RECORD_MAX), state_f32(row, STATE_TEACHER_MAX));
  return frame_of(tops, vec2<f32>(state_f32(row, STATE_STUDENT_TAIL), state_f32(row, STATE_TEACHER_TAIL)));
}

fn teacher_of(row: u32) -> u32 {
  return params.teacher_first + row * params.teacher_stride;
}
