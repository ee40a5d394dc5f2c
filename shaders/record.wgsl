// What is known of a row between the moves: 22 words, of which `summarise` writes the summary, `judge` the loss and the
// partials, and `push back` reads both.

const RECORD_LOSS = 0u;
const RECORD_LOG_P = 1u;
const RECORD_LSE = 2u;
const RECORD_ENTROPY = 3u;
const RECORD_ARGMAX = 4u;        // i32; -1 if there is none
const RECORD_STATUS = 5u;
const RECORD_KEPT = 6u;
const RECORD_ONE_MINUS_P = 7u;
const RECORD_MAX = 8u;
const RECORD_TAIL = 9u;
const RECORD_MOMENT = 10u;
const RECORD_COLLISION = 11u;
const RECORD_SPREAD = 12u;
const RECORD_ENERGY = 13u;
const RECORD_COUNT = 14u;
const RECORD_D_TARGET = 15u;
const RECORD_D_LSE = 16u;
const RECORD_D_ENTROPY = 17u;
const RECORD_D_MEAN = 18u;
const RECORD_D_ENERGY = 19u;
const RECORD_TARGET_LOGIT = 20u;
const RECORD_LIVE = 21u;         // whether the row was pushed back, where logits are not held
const RECORD_WORDS = 22u;

const STATUS_FINE = 0u;          // else the column of the first NaN or +infinity, plus 1, or one of these
const STATUS_NO_MASS = 0xffffffffu;
const STATUS_BAD_TARGET = 0xfffffffeu;
const STATUS_TEACHER_NO_MASS = 0xfffffffdu;
const STATUS_TEACHER = 0x40000000u;    // and the column, plus 1, of the first NaN or +infinity of the teacher's row
const STATUS_INFINITE = 0x80000000u;   // the same for the first class that makes a divergence infinite
const STATUS_LABEL = 0xc0000000u;      // the same for the first label outside of what it may be

fn record_of(row: u32) -> u32 {
  return params.records_first + row * RECORD_WORDS;
}

fn record_write_f32(row: u32, word: u32, value: f32) {
  records[record_of(row) + word] = bitcast<u32>(value);
}

fn record_write_stats(row: u32, stats: RowStats) {
  let at = record_of(row);
  record_write_f32(row, RECORD_MAX, stats.max);
  record_write_f32(row, RECORD_TAIL, stats.tail);
  record_write_f32(row, RECORD_MOMENT, stats.moment);
  record_write_f32(row, RECORD_COLLISION, stats.collision);
  record_write_f32(row, RECORD_SPREAD, stats.spread);
  record_write_f32(row, RECORD_ENERGY, stats.energy);
  records[at + RECORD_COUNT] = stats.count;
  records[at + RECORD_ARGMAX] = stats.argmax;
}

fn record_write(row: u32, status: u32, summary: RowSummary, eval: RowEval) {
  let at = record_of(row);
  record_write_f32(row, RECORD_LOSS, eval.loss);
  record_write_f32(row, RECORD_LOG_P, summary.prob.log_p);
  record_write_f32(row, RECORD_LSE, row_stats_lse(summary.stats));
  record_write_f32(row, RECORD_ENTROPY, row_stats_entropy(summary.stats));
  records[at + RECORD_STATUS] = status;
  records[at + RECORD_KEPT] = u32(eval.kept);
  record_write_f32(row, RECORD_ONE_MINUS_P, summary.prob.one_minus_p);
  record_write_stats(row, summary.stats);
  record_write_f32(row, RECORD_D_TARGET, eval.partials.d_target);
  record_write_f32(row, RECORD_D_LSE, eval.partials.d_lse);
  record_write_f32(row, RECORD_D_ENTROPY, eval.partials.d_entropy);
  record_write_f32(row, RECORD_D_MEAN, eval.partials.d_mean);
  record_write_f32(row, RECORD_D_ENERGY, eval.partials.d_energy);
  record_write_f32(row, RECORD_TARGET_LOGIT, summary.goal_logit);
  records[at + RECORD_LIVE] = 0u;
}

// A row without a summary: ignored (no loss, no gradient) or unusable (all NaN).
fn record_write_nan(row: u32, status: u32, loss: u32, partials: u32, kept: u32) {
  let at = record_of(row);
  for (var word = 0u; word < RECORD_D_TARGET; word++) {
    records[at + word] = params.nan;
  }
  for (var word = RECORD_D_TARGET; word <= RECORD_D_ENERGY; word++) {
    records[at + word] = partials;
  }
  records[at + RECORD_LOSS] = loss;
  records[at + RECORD_ARGMAX] = NO_COLUMN;
  records[at + RECORD_STATUS] = status;
  records[at + RECORD_KEPT] = kept;
  records[at + RECORD_COUNT] = 0u;
  records[at + RECORD_TARGET_LOGIT] = 0u;
  records[at + RECORD_LIVE] = 0u;
}

fn record_f32(row: u32, word: u32) -> f32 {
  return bitcast<f32>(records[record_of(row) + word]);
}

fn record_stats(row: u32) -> RowStats {
  return RowStats(
    record_f32(row, RECORD_MAX),
    record_f32(row, RECORD_TAIL),
    record_f32(row, RECORD_MOMENT),
    record_f32(row, RECORD_COLLISION),
    record_f32(row, RECORD_SPREAD),
    record_f32(row, RECORD_ENERGY),
    records[record_of(row) + RECORD_COUNT],
    records[record_of(row) + RECORD_ARGMAX],
    NO_COLUMN,
  );
}

fn record_summary(row: u32) -> RowSummary {
  let prob = TargetProb(record_f32(row, RECORD_LOG_P), record_f32(row, RECORD_ONE_MINUS_P));
  return RowSummary(record_stats(row), prob, record_f32(row, RECORD_TARGET_LOGIT));
}

fn record_partials(row: u32) -> RowPartials {
  return RowPartials(
    record_f32(row, RECORD_D_TARGET),
    record_f32(row, RECORD_D_LSE),
    record_f32(row, RECORD_D_ENTROPY),
    record_f32(row, RECORD_D_MEAN),
    record_f32(row, RECORD_D_ENERGY),
  );
}
