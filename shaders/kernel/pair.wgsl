// Two rows, the student's and the teacher's, in one workgroup: both are summarised, compared, and the student's is pushed
// back. Three reads of both and one write of the student's; without a gradient, two.

@group(0) @binding(17) var<storage, read_write> divergences: array<f32>;

var<workgroup> push_shared: PairPush;

// What one lane has seen of both rows.
struct Seen {
  student: RowStats,
  teacher: RowStats,
  tails: vec2<f32>,   // the same as their tails, at the temperature; 0 where no logit has mass
}

// What the gradient of a row is made of.
struct PairPush {
  objective: Push,
  factor: f32,        // of pull_j - p_j others
  others: f32,
}

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
  var tails = vec2<f32>(stats.tail, teacher_stats.tail);
  if (HAS_TEMPERATURE) {
    let own = LaneSums(
      tail_of_lane(seen.student, seen.tails.x, stats),
      tail_of_lane(seen.teacher, seen.tails.y, teacher_stats),
      NO_COLUMN,
    );
    let all_lanes = reduce_sums(own, lane);
    tails = vec2<f32>(all_lanes.a, all_lanes.b);
  }
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

// One lane's share of both rows.
fn sweep_seen(span: Span, teacher_first: u32, lane: u32) -> Seen {
  var seen = Seen(row_stats_empty(), row_stats_empty(), vec2<f32>(0.0));
  for (var block = lane; block < span.blocks; block += WG) {
    let words = load_logits(span.first + 4u * block - span.head, span.first, span.last);
    for (var part = 0u; part < PER_WORD; part++) {
      let columns = columns_of(span, block, part);
      let z = four_of(unpack(words, part), columns);
      let u = four_of(load_teacher(teacher_first, columns), columns);
      let before = seen;
      seen.student.bad = min(seen.student.bad, z.bad);
      seen.student = row_stats_take4(seen.student, z.z, z.present, columns);
      seen.teacher.bad = min(seen.teacher.bad, u.bad);
      if (HAS_TEMPERATURE) {
        seen.teacher = top_take4(seen.teacher, u, columns);
        seen.tails = vec2<f32>(
          tail_take4(seen.tails.x, before.student, seen.student, z, columns),
          tail_take4(seen.tails.y, before.teacher, seen.teacher, u, columns),
        );
      } else {
        seen.teacher = row_stats_take4(seen.teacher, u.z, u.present, columns);
      }
    }
  }
  return seen;
}

// Maximum and argmax only.
fn top_take4(stats: RowStats, four: Four, columns: vec4<u32>) -> RowStats {
  let top = max(max(four.z.x, four.z.y), max(four.z.z, four.z.w));
  let at_top = select(vec4<u32>(NO_COLUMN), columns, four.present & (four.z == vec4<f32>(top)));
  let argmax = min(min(at_top.x, at_top.y), min(at_top.z, at_top.w));
  var both = stats;
  if (argmax != NO_COLUMN && (top > stats.max || stats.argmax == NO_COLUMN)) {
    both.max = top;
    both.argmax = argmax;
  }
  return both;
}

fn share_at_temperature4(gap: vec4<f32>) -> vec4<f32> {
  return exp_neg4(max(gap, vec4<f32>(FAR_BELOW)) * params.inverse_temperature);
}

// The tail at the temperature, of what was seen before and of four logits more.
fn tail_take4(tail: f32, before: RowStats, after: RowStats, four: Four, columns: vec4<u32>) -> f32 {
  let others = four.present & (columns != vec4<u32>(after.argmax));
  let share = select(vec4<f32>(0.0), share_at_temperature4(four.z - after.max), others);
  var seen = tail;
  if (after.argmax != before.argmax) {
    seen = tail_of_lane(before, tail, after);
  }
  return seen + sum4(share);
}

// A part's tail relative to the maximum of the whole.
fn tail_of_lane(part: RowStats, tail: f32, whole: RowStats) -> f32 {
  if (part.argmax == NO_COLUMN || part.argmax == whole.argmax) {
    return tail;
  }
  return share_at_temperature4(vec4<f32>(part.max - whole.max)).x * (1.0 + tail);
}

// Value and pull of one lane's share of the classes.
fn sweep_entries(span: Span, teacher_first: u32, frame: Frame, lane: u32) -> LaneSums {
  var value = vec4<f32>(0.0);
  var pull = vec4<f32>(0.0);
  var column = NO_COLUMN;
  for (var first = lane; first < span.blocks; first += RUN * WG) {
    var run = EntryEval(vec4<f32>(0.0), vec4<f32>(0.0));
    for (var i = 0u; i < RUN && first + i * WG < span.blocks; i++) {
      let block = first + i * WG;
      let words = load_logits(span.first + 4u * block - span.head, span.first, span.last);
      for (var part = 0u; part < PER_WORD; part++) {
        let columns = columns_of(span, block, part);
        let z = four_of(unpack(words, part), columns);
        let u = four_of(load_teacher(teacher_first, columns), columns);
        let entry = frame_entry(frame, z, u);
        let eval = divergence_of(entry);
        run = EntryEval(run.value + eval.value, run.pull + eval.pull);
        let at = select(vec4<u32>(NO_COLUMN), columns, is_infinite4(entry, eval));
        column = min(column, min(min(at.x, at.y), min(at.z, at.w)));
      }
    }
    value += run.value;
    pull += run.pull;
  }
  return LaneSums(sum4(value), sum4(pull), column);
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

// Writes one lane's share of the student's gradient.
fn sweep_pair_gradient(span: Span, map: RowMap, teacher_first: u32, frame: Frame, lane: u32, push: PairPush) {
  if (push.objective.kind == PUSH_NAN || is_zero(push.factor)) {
    sweep_gradient(span, map, lane, push.objective);
    return;
  }
  for (var block = lane; block < span.blocks; block += WG) {
    let words = load_logits(span.first + 4u * block - span.head, span.first, span.last);
    var gradient = vec4<u32>(0u);
    for (var part = 0u; part < PER_WORD; part++) {
      let columns = columns_of(span, block, part);
      let raw = unpack(words, part);
      let z = four_of(raw, columns);
      let u = four_of(load_teacher(teacher_first, columns), columns);
      let entry = frame_entry(frame, z, u);
      let pull = divergence_of(entry).pull - entry_p(entry) * push.others;
      var value = select(vec4<f32>(0.0), push.factor * pull, z.present);
      if (push.objective.kind == PUSH_LIVE) {
        value += gradient4(map, push.objective, raw, columns);
      }
      gradient |= pack(value, part);
    }
    store_block(span, block, gradient);
  }
}
