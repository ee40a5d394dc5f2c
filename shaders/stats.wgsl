// The statistics of a row from its logits: the rest of the twin of core/src/row.rs. HAS_MOMENTS is whether the pass asks
// for collision, spread, energy and count.

fn row_stats_empty() -> RowStats {
  return RowStats(LOWEST, -1.0, 0.0, 0.0, 0.0, 0.0, 0u, NO_COLUMN, NO_COLUMN);
}

fn row_stats_merge(a: RowStats, b: RowStats) -> RowStats {
  let b_wins = b.max > a.max || (b.max == a.max && b.argmax < a.argmax);
  var winner = a;
  var loser = b;
  if (b_wins) {
    winner = b;
    loser = a;
  }
  winner.bad = min(a.bad, b.bad);
  if (loser.argmax == NO_COLUMN) {
    return winner;
  }
  let gap = loser.max - winner.max;
  let delta = max(gap, FAR_BELOW);
  let share = exp_neg(delta);
  let mass = 1.0 + loser.tail;
  winner.tail += share * mass;
  winner.moment += share * (loser.moment + delta * mass);
  if (HAS_MOMENTS) {
    winner.collision += share * share * loser.collision;
    winner.spread += loser.spread + gap * f32(loser.count);
    winner.energy += loser.energy;
    winner.count += loser.count;
  }
  return winner;
}

fn sum4(values: vec4<f32>) -> f32 {
  return (values.x + values.y) + (values.z + values.w);
}

// What four logits add to sums relative to a maximum that is at least as great as they.
fn row_stats_moments4(stats: RowStats, z: vec4<f32>, present: vec4<bool>, share: vec4<f32>) -> RowStats {
  var both = stats;
  if (HAS_MOMENTS) {
    let seen = select(vec4<f32>(0.0), z, present);
    both.collision += dot(share, share);
    both.spread += sum4(select(vec4<f32>(0.0), z - stats.max, present));
    both.energy += dot(seen, seen);
    both.count += dot(vec4<u32>(present), vec4<u32>(1u));
  }
  return both;
}

// Four logits at once. Those that are not `present` hold LOWEST and have no mass.
fn row_stats_of4(z: vec4<f32>, present: vec4<bool>, columns: vec4<u32>) -> RowStats {
  let top = max(max(z.x, z.y), max(z.z, z.w));
  let at_top = select(vec4<u32>(NO_COLUMN), columns, present & (z == vec4<f32>(top)));
  let argmax = min(min(at_top.x, at_top.y), min(at_top.z, at_top.w));
  if (argmax == NO_COLUMN) {
    return row_stats_empty();
  }
  let delta = max(z - top, vec4<f32>(FAR_BELOW));
  let others = present & (columns != vec4<u32>(argmax));
  let share = select(vec4<f32>(0.0), exp_neg4(delta), others);
  let stats = RowStats(top, sum4(share), dot(share, delta), 0.0, 0.0, 0.0, 0u, argmax, NO_COLUMN);
  return row_stats_moments4(stats, z, present, select(share, vec4<f32>(1.0), columns == vec4<u32>(argmax)));
}

// The statistics of what was seen before and of four logits more. Where they do not reach the maximum, which is
// nearly always, this is one exponential a logit.
fn row_stats_take4(stats: RowStats, z: vec4<f32>, present: vec4<bool>, columns: vec4<u32>) -> RowStats {
  let top = max(max(z.x, z.y), max(z.z, z.w));
  if (top >= stats.max || stats.argmax == NO_COLUMN) {
    return row_stats_merge(stats, row_stats_of4(z, present, columns));
  }
  let delta = max(z - stats.max, vec4<f32>(FAR_BELOW));
  let share = select(vec4<f32>(0.0), exp_neg4(delta), present);
  var both = stats;
  both.tail += sum4(share);
  both.moment += dot(share, delta);
  return row_stats_moments4(both, z, present, share);
}
