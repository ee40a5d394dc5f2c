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
  let stats = record_stats(row);
  var status = records[record_of(row) + RECORD_STATUS];
  if (goal < 0 || u32(goal) >= params.classes) {
    status = STATUS_BAD_TARGET;
  } else if (status == STATUS_FINE && stats.argmax == NO_COLUMN) {
    status = STATUS_NO_MASS;
  }
  if (status != STATUS_FINE) {
    record_write_nan(row, status, params.nan, params.nan, u32(judge(row_summary_bad()).kept));
    return;
  }
  let summary = row_summary(stats, records[record_of(row) + RECORD_TARGET_LOGIT]);
  record_write(row, STATUS_FINE, summary, judge(summary));
}
