// From merged parts to judged records, one invocation a row.

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = row_of(group) * WG + lane;
  if (row >= params.rows) {
    return;
  }
  let goal = targets[params.targets_first + row];
  if (goal == -100) {
    return;
  }
  let at = record_of(row);
  let stats = RowStats(
    record_f32(row, RECORD_MAX),
    record_f32(row, RECORD_TAIL),
    record_f32(row, RECORD_MOMENT),
    records[at + RECORD_ARGMAX],
    NO_COLUMN,
  );
  var status = records[at + RECORD_STATUS];
  if (goal < 0 || u32(goal) >= params.classes) {
    status = STATUS_BAD_TARGET;
  } else if (status == STATUS_FINE && stats.argmax == NO_COLUMN) {
    status = STATUS_NO_MASS;
  }
  if (status != STATUS_FINE) {
    // A probability of 2 lies in no gate's interval: whether the row counts as kept is what the objective says.
    let kept = judge(RowSummary(row_stats_empty(), TargetProb(0.6931472, -1.0))).kept;
    record_write_nan(row, status, params.nan, params.nan, u32(kept));
    return;
  }
  let goal_logit = records[at + RECORD_TARGET_LOGIT];
  var prob = TargetProb(bitcast<f32>(goal_logit), 1.0);   // -infinity: masked
  if (goal_logit != params.neg_infinity) {
    prob = row_stats_target(stats, bitcast<f32>(goal_logit));
  }
  let summary = RowSummary(stats, prob);
  record_write(row, STATUS_FINE, summary, judge(summary));
}
