// One row of logits, seen as a few numbers. The twin of core/src/row.rs: same names, same order of operations.
// It differs where WGSL does: NaN and infinity cannot be relied on in arithmetic, so the maximum of nothing is
// LOWEST, and a NaN or +infinity is remembered by its column in `bad`.

const NO_COLUMN = 0xffffffffu;

struct RowStats {
  max: f32,
  tail: f32,      // sum_j exp(z_j - max) - 1: the maximum's own 1 stays implicit; -1 where no logit has mass
  moment: f32,    // sum_j exp(z_j - max) (z_j - max)
  argmax: u32,
  bad: u32,       // the first column with a NaN or a +infinity
}

struct TargetProb {
  log_p: f32,
  one_minus_p: f32,
}

struct RowSummary {
  stats: RowStats,
  prob: TargetProb,
}

struct RowPartials {
  d_target: f32,
  d_lse: f32,
  d_entropy: f32,
}

fn row_stats_empty() -> RowStats {
  return RowStats(LOWEST, -1.0, 0.0, NO_COLUMN, NO_COLUMN);
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
  let delta = max(loser.max - winner.max, FAR_BELOW);
  let share = exp_neg(delta);
  let mass = 1.0 + loser.tail;
  winner.tail += share * mass;
  winner.moment += share * (loser.moment + delta * mass);
  return winner;
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
  return RowStats(top, (share.x + share.y) + (share.z + share.w), dot(share, delta), argmax, NO_COLUMN);
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
  both.tail += (share.x + share.y) + (share.z + share.w);
  both.moment += dot(share, delta);
  return both;
}

fn row_stats_lse(stats: RowStats) -> f32 {
  return stats.max + ln_1p(stats.tail);
}

fn row_stats_entropy(stats: RowStats) -> f32 {
  return ln_1p(stats.tail) - stats.moment / (1.0 + stats.tail);
}

fn row_stats_target(stats: RowStats, logit: f32) -> TargetProb {
  let log_p = (logit - stats.max) - ln_1p(stats.tail);
  if (logit == stats.max) {
    return TargetProb(log_p, stats.tail / (1.0 + stats.tail));
  }
  return TargetProb(log_p, -exp_m1(log_p));
}

fn target_prob_p(prob: TargetProb) -> f32 {
  if (prob.one_minus_p < 0.5) {
    return 1.0 - prob.one_minus_p;
  }
  return exp_any(prob.log_p);
}

fn row_partials_of_slope(slope: f32) -> RowPartials {
  return RowPartials(slope, -slope, 0.0);
}

fn row_partials_scaled(partials: RowPartials, weight: f32) -> RowPartials {
  if (weight == 0.0) {
    return RowPartials(0.0, 0.0, 0.0);
  }
  return RowPartials(partials.d_target * weight, partials.d_lse * weight, partials.d_entropy * weight);
}

// Whether the row has any gradient that a normal f32 can hold. NaN is live. By bits, because comparisons may not see
// a NaN and drivers differ on subnormals.
fn row_partials_is_live(partials: RowPartials) -> bool {
  let bits = bitcast<vec3<u32>>(vec3<f32>(partials.d_target, partials.d_lse, partials.d_entropy));
  return any((bits & vec3<u32>(0x7fffffffu)) >= vec3<u32>(0x00800000u));
}

// An upper bound of sum_j |dL/dz_j|.
fn row_partials_norm_bound(partials: RowPartials, summary: RowSummary) -> f32 {
  let direct = abs(row_partials_target_gradient(partials, summary)) + abs(partials.d_lse) * summary.prob.one_minus_p;
  if (partials.d_entropy == 0.0) {
    return direct;
  }
  return direct + abs(partials.d_entropy) * 2.0 * row_stats_entropy(summary.stats);
}

fn row_partials_target_gradient(partials: RowPartials, summary: RowSummary) -> f32 {
  let p = target_prob_p(summary.prob);
  var direct = (partials.d_target + partials.d_lse) - partials.d_lse * summary.prob.one_minus_p;
  if (p + p < 1.0) {
    direct = partials.d_target + partials.d_lse * p;
  }
  if (partials.d_entropy == 0.0 || p == 0.0) {
    return direct;
  }
  return direct - partials.d_entropy * p * (summary.prob.log_p + row_stats_entropy(summary.stats));
}
