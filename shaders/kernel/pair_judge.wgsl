// From merged parts of two rows to judged records, one invocation a row.

@group(0) @binding(17) var<storage, read_write> divergences: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = row_of(group) * WG + lane;
  if (row >= params.rows) {
    return;
  }
  let goal = targets[params.targets_first + row];
  let divergence = params.side_first + row;
  if (goal == -100) {
    divergences[divergence] = 0.0;
    return;
  }
  let stats = record_stats(row);
  let state = state_of(row);
  var status = records[record_of(row) + RECORD_STATUS];
  if (goal < 0 || u32(goal) >= params.classes) {
    status = STATUS_BAD_TARGET;
  } else if (status == STATUS_FINE && stats.argmax == NO_COLUMN) {
    status = STATUS_NO_MASS;
  } else if (status == STATUS_FINE && states[state + STATE_TEACHER_BAD] != NO_COLUMN) {
    status = STATUS_TEACHER + states[state + STATE_TEACHER_BAD] + 1u;
  } else if (status == STATUS_FINE && states[state + STATE_TEACHER_ARGMAX] == NO_COLUMN) {
    status = STATUS_TEACHER_NO_MASS;
  } else if (status == STATUS_FINE && states[state + STATE_INFINITE] != NO_COLUMN) {
    status = STATUS_INFINITE + states[state + STATE_INFINITE] + 1u;
  }
  let live = record_of(row) + RECORD_LIVE;
  if (status != STATUS_FINE) {
    record_write_nan(row, status, params.nan, params.nan, u32(judge(row_summary_bad()).kept));
    records[live] = 1u;
    divergences[divergence] = nan();
    return;
  }
  let summary = row_summary(stats, records[record_of(row) + RECORD_TARGET_LOGIT]);
  let value = state_f32(row, STATE_VALUE);
  var eval = judge(summary);
  eval.partials = row_partials_scaled(eval.partials, params.objective_weight);
  // A loss without weight may be infinite.
  if (params.objective_weight == 0.0) {
    eval.loss = 0.0;
  }
  eval.loss = params.objective_weight * eval.loss + params.divergence_factor * value;
  record_write(row, status, summary, eval);
  divergences[divergence] = value;
  // Rows that are the same pull nowhere.
  var factor = 0.0;
  if (!is_zero(value) || !is_zero(state_f32(row, STATE_PULL))) {
    factor = params.pull_factor;
  }
  state_write_f32(row, STATE_FACTOR, factor);
  let weight = weight_of(row);
  let pulls = row_partials_of_slope(weighted(factor, weight));
  records[live] = u32(row_partials_is_live(pulls) || row_partials_is_live(row_partials_scaled(eval.partials, weight)));
}
