// What is known of a pair of rows between the moves, beside the student's record.

@group(0) @binding(24) var<storage, read_write> states: array<u32>;   // [rows, STATE_WORDS]

const STATE_STUDENT_TAIL = 0u;   // sums of the other exponentials at the temperature
const STATE_TEACHER_TAIL = 1u;
const STATE_TEACHER_MAX = 2u;
const STATE_TEACHER_ARGMAX = 3u; // NO_COLUMN if none has mass
const STATE_TEACHER_BAD = 4u;    // the first column with a NaN or a +infinity, or NO_COLUMN
const STATE_VALUE = 5u;
const STATE_PULL = 6u;
const STATE_PULL_SIZE = 7u;      // sum_j |pull_j|
const STATE_INFINITE = 8u;       // the first column that makes the divergence infinite, or NO_COLUMN
const STATE_FACTOR = 9u;         // of pull_j - p_j pull, without weight and scale
const STATE_WORDS = 10u;

fn state_of(row: u32) -> u32 {
  return params.lists_first + row * STATE_WORDS;
}

fn state_f32(row: u32, word: u32) -> f32 {
  return bitcast<f32>(states[state_of(row) + word]);
}

fn state_write_f32(row: u32, word: u32, value: f32) {
  states[state_of(row) + word] = bitcast<u32>(value);
}

// Nothing is known.
fn state_clear(row: u32) {
  for (var word = 0u; word < STATE_WORDS; word++) {
    states[state_of(row) + word] = 0u;
  }
  states[state_of(row) + STATE_TEACHER_ARGMAX] = NO_COLUMN;
  states[state_of(row) + STATE_TEACHER_BAD] = NO_COLUMN;
  states[state_of(row) + STATE_INFINITE] = NO_COLUMN;
}
