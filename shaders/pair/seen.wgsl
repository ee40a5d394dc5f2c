// One sweep over both rows: the student's statistics, and the normalisers of both at the temperature.

// What one lane has seen of both rows.
struct Seen {
  student: RowStats,
  teacher: RowStats,
  tails: vec2<f32>,   // the same as their tails, at the temperature; 0 where no logit has mass
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

// Both rows' tails at the temperature, of all lanes.
fn reduce_tails(seen: Seen, stats: RowStats, teacher_stats: RowStats, lane: u32) -> vec2<f32> {
  if (!HAS_TEMPERATURE) {
    return vec2<f32>(stats.tail, teacher_stats.tail);
  }
  let own = LaneSums(
    tail_of_lane(seen.student, seen.tails.x, stats),
    tail_of_lane(seen.teacher, seen.tails.y, teacher_stats),
    0.0,
    NO_COLUMN,
  );
  let all_lanes = reduce_sums(own, lane);
  return vec2<f32>(all_lanes.a, all_lanes.b);
}
