// What is known of a row between the moves: sixteen words, of which `summarise` writes the summary, `judge` the
// loss and the partials, and `push back` reads both.

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
const RECORD_D_TARGET = 11u;
const RECORD_D_LSE = 12u;
const RECORD_D_ENTROPY = 13u;
const RECORD_TARGET_LOGIT = 14u; // until the row is judged, where logits are not held
const RECORD_LIVE = 15u;         // whether the row was pushed back, where logits are not held
const RECORD_WORDS = 16u;

const STATUS_FINE = 0u;          // else the column of the first NaN or +infinity, plus 1, or one of these
const STATUS_NO_MASS = 0xffffffffu;
const STATUS_BAD_TARGET = 0xfffffffeu;

fn record_of(row: u32) -> u32 {
  return params.records_first + row * RECORD_WORDS;
}

fn record_write(row: u32, status: u32, summary: RowSummary, eval: RowEval) {
  let at = record_of(row);
  records[at + RECORD_LOSS] = bitcast<u32>(eval.loss);
  records[at + RECORD_LOG_P] = bitcast<u32>(summary.prob.log_p);
  records[at + RECORD_LSE] = bitcast<u32>(row_stats_lse(summary.stats));
  records[at + RECORD_ENTROPY] = bitcast<u32>(row_stats_entropy(summary.stats));
  records[at + RECORD_ARGMAX] = summary.stats.argmax;
  records[at + RECORD_STATUS] = status;
  records[at + RECORD_KEPT] = u32(eval.kept);
  records[at + RECORD_ONE_MINUS_P] = bitcast<u32>(summary.prob.one_minus_p);
  records[at + RECORD_MAX] = bitcast<u32>(summary.stats.max);
  records[at + RECORD_TAIL] = bitcast<u32>(summary.stats.tail);
  records[at + RECORD_MOMENT] = bitcast<u32>(summary.stats.moment);
  records[at + RECORD_D_TARGET] = bitcast<u32>(eval.partials.d_target);
  records[at + RECORD_D_LSE] = bitcast<u32>(eval.partials.d_lse);
  records[at + RECORD_D_ENTROPY] = bitcast<u32>(eval.partials.d_entropy);
  records[at + RECORD_TARGET_LOGIT] = 0u;
  records[at + RECORD_LIVE] = 0u;
}

// A row without a summary: ignored (no loss, no gradient) or unusable (all NaN).
fn record_write_nan(row: u32, status: u32, loss: u32, partials: u32, kept: u32) {
  let at = record_of(row);
  records[at + RECORD_LOSS] = loss;
  records[at + RECORD_LOG_P] = params.nan;
  records[at + RECORD_LSE] = params.nan;
  records[at + RECORD_ENTROPY] = params.nan;
  records[at + RECORD_ARGMAX] = 0xffffffffu;
  records[at + RECORD_STATUS] = status;
  records[at + RECORD_KEPT] = kept;
  records[at + RECORD_ONE_MINUS_P] = params.nan;
  records[at + RECORD_MAX] = params.nan;
  records[at + RECORD_TAIL] = params.nan;
  records[at + RECORD_MOMENT] = params.nan;
  records[at + RECORD_D_TARGET] = partials;
  records[at + RECORD_D_LSE] = partials;
  records[at + RECORD_D_ENTROPY] = partials;
  records[at + RECORD_TARGET_LOGIT] = 0u;
  records[at + RECORD_LIVE] = 0u;
}

fn record_f32(row: u32, word: u32) -> f32 {
  return bitcast<f32>(records[record_of(row) + word]);
}

fn record_summary(row: u32) -> RowSummary {
  let stats = RowStats(
    record_f32(row, RECORD_MAX),
    record_f32(row, RECORD_TAIL),
    record_f32(row, RECORD_MOMENT),
    records[record_of(row) + RECORD_ARGMAX],
    NO_COLUMN,
  );
  return RowSummary(stats, TargetProb(record_f32(row, RECORD_LOG_P), record_f32(row, RECORD_ONE_MINUS_P)));
}

fn record_partials(row: u32) -> RowPartials {
  return RowPartials(
    record_f32(row, RECORD_D_TARGET),
    record_f32(row, RECORD_D_LSE),
    record_f32(row, RECORD_D_ENTROPY),
  );
}
