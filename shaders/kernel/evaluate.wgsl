// Summarise, judge and push back in one workgroup a row: two reads and one write of the row. Without a gradient
// it is the forward pass; with an objective that returns nothing it is `summarise`.

var<workgroup> push_shared: Push;

fn kernel(row: u32, lane: u32, subgroup: u32, subgroup_lane: u32) {
  if (row >= params.rows) {
    return;
  }
  let goal = goal_of(row, lane);
  let span = span_of(row);
  let map = row_map(row, u32(goal));
  if (goal == -100) {
    pass_over(row, lane, span, map);
    return;
  }

  let stats = reduce(sweep_stats(span, map, lane), lane, subgroup, subgroup_lane);
  if (lane == 0u) {
    push_shared = judge_row(row, goal, span, map, stats);
  }
  if (HAS_GRADIENT) {
    // The target's logit is read above and overwritten below.
    storageBarrier();
    let push = workgroupUniformLoad(&push_shared);
    sweep_gradient(span, map, lane, push);
  }
}

fn judge_row(row: u32, goal: i32, span: Span, map: RowMap, stats: RowStats) -> Push {
  var status = STATUS_FINE;
  if (goal < 0 || u32(goal) >= params.vocab) {
    status = STATUS_BAD_TARGET;
  } else if (stats.bad != NO_COLUMN) {
    status = fault_of(map.guide, stats.bad, logit_of(span, stats.bad));
  } else if (stats.argmax == NO_COLUMN) {
    status = STATUS_NO_MASS;
  }
  if (status != STATUS_FINE) {
    record_write_bad(row, status, judge(row_summary_bad()).kept);
    return push_of(PUSH_NAN);
  }

  let column = u32(goal);
  let bits = taken4(map, vec4<u32>(logit_of(span, column)), vec4<u32>(column));
  let summary = row_summary(stats, bits.x);
  let eval = judge(summary);
  record_write(row, status, summary, eval);
  return push_live(column, summary, row_partials_scaled(eval.partials, row_scale(row)));
}
