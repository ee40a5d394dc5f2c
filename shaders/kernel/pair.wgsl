// Two rows, the student's and the teacher's, in one workgroup: both are summarised, compared, and the student's is pushed
// back. Three reads of both and one write of the student's; without a gradient, two.

@group(0) @binding(17) var<storage, read_write> divergences: array<f32>;

var<workgroup> push_shared: PairPush;

fn kernel(row: u32, lane: u32, subgroup: u32, subgroup_lane: u32) {
  if (row >= params.rows) {
    return;
  }
  let goal = goal_of(row, lane);
  let span = span_of(row);
  let map = row_map(row, u32(goal));
  if (goal == -100) {
    pass_over(row, lane, span, map);
    if (lane == 0u) {
      divergences[params.side_first + row] = 0.0;
    }
    return;
  }

  let teacher_first = params.teacher_first + row * params.teacher_stride;
  let seen = sweep_seen(span, teacher_first, lane);
  let stats = reduce(seen.student, lane, subgroup, subgroup_lane);
  // What the lanes have read is written again.
  workgroupBarrier();
  let teacher_stats = reduce(seen.teacher, lane, subgroup, subgroup_lane);
  let tails = reduce_tails(seen, stats, teacher_stats, lane);
  let frame = frame_of(vec2<f32>(stats.max, teacher_stats.max), tails);
  let sums = reduce_sums(sweep_entries(span, teacher_first, frame, lane), lane);
  if (lane == 0u) {
    push_shared = judge_pair(row, goal, span, stats, teacher_stats, sums);
  }
  if (HAS_GRADIENT) {
    // The target's logit is read above and overwritten below.
    storageBarrier();
    let push = workgroupUniformLoad(&push_shared);
    sweep_pair_gradient(span, map, teacher_first, frame, lane, push);
  }
}

fn judge_pair(row: u32, goal: i32, span: Span, stats: RowStats, teacher_stats: RowStats, sums: LaneSums) -> PairPush {
  var status = STATUS_FINE;
  if (goal < 0 || u32(goal) >= params.vocab) {
    status = STATUS_BAD_TARGET;
  } else if (stats.bad != NO_COLUMN) {
    status = stats.bad + 1u;
  } else if (stats.argmax == NO_COLUMN) {
    status = STATUS_NO_MASS;
  } else if (teacher_stats.bad != NO_COLUMN) {
    status = STATUS_TEACHER + teacher_stats.bad + 1u;
  } else if (teacher_stats.argmax == NO_COLUMN) {
    status = STATUS_TEACHER_NO_MASS;
  } else if (sums.column != NO_COLUMN) {
    status = STATUS_INFINITE + sums.column + 1u;
  }
  let live = record_of(row) + RECORD_LIVE;
  if (status != STATUS_FINE) {
    record_write_bad(row, status, judge(row_summary_bad()).kept);
    divergences[params.side_first + row] = nan();
    return PairPush(push_of(PUSH_NAN), 0.0, 0.0);
  }

  let column = u32(goal);
  let summary = row_summary(stats, logit_of(span, column));
  var eval = judge(summary);
  eval.partials = row_partials_scaled(eval.partials, params.objective_weight);
  // A loss without weight may be infinite.
  if (params.objective_weight == 0.0) {
    eval.loss = 0.0;
  }
  eval.loss = params.objective_weight * eval.loss + params.divergence_factor * sums.a;
  record_write(row, status, summary, eval);
  divergences[params.side_first + row] = sums.a;

  // Rows that are the same pull nowhere.
  var factor = 0.0;
  if (!is_zero(sums.a) || !is_zero(sums.b)) {
    factor = params.pull_factor;
  }
  let weight = weight_of(row);
  let pulls = row_partials_of_slope(weighted(factor, weight));
  let partials = row_partials_scaled(eval.partials, weight);
  records[live] = u32(row_partials_is_live(pulls) || row_partials_is_live(partials));
  let push = push_live(column, summary, row_partials_scaled(eval.partials, scale_of(row)));
  return PairPush(push, weighted(factor, scale_of(row)), sums.b);
}
