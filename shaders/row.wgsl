// One row of logits, seen as a few numbers. The twin of core/src/row.rs: same names, same order of operations.
// It differs where WGSL does: NaN and infinity cannot be relied on in arithmetic, so the maximum of nothing is
// LOWEST, and a NaN or +infinity is remembered by its column in `bad`.

const NO_COLUMN = 0xffffffffu;

struct RowStats {
  max: f32,
  tail: f32,       // sum_j exp(z_j - max) - 1: the maximum's own 1 stays implicit; -1 where no logit has mass
  moment: f32,     // sum_j exp(z_j - max) (z_j - max)
  // Of logits with mass, and 0 unless HAS_MOMENTS:
  collision: f32,  // sum_j exp(z_j - max)^2
  spread: f32,     // sum_j (z_j - max)
  energy: f32,     // sum_j z_j^2
  count: u32,
  argmax: u32,
  bad: u32,        // the first column with a NaN or a +infinity
}

struct TargetProb {
  log_p: f32,
  one_minus_p: f32,
}

struct RowSummary {
  stats: RowStats,
  prob: TargetProb,
  goal_logit: f32,   // the target's; -infinity if it is masked
}

struct RowPartials {
  d_target: f32,
  d_lse: f32,
  d_entropy: f32,
  d_mean: f32,
  d_energy: f32,
}

// By the bits, because comparisons may not see a NaN.
fn is_zero(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) == 0u;
}

fn row_stats_lse(stats: RowStats) -> f32 {
  return stats.max + ln_1p(stats.tail);
}

fn row_stats_entropy(stats: RowStats) -> f32 {
  return ln_1p(stats.tail) - stats.moment / (1.0 + stats.tail);
}

fn row_stats_mean(stats: RowStats) -> f32 {
  return stats.max + row_stats_mean_below_max(stats);
}

fn row_stats_mean_below_max(stats: RowStats) -> f32 {
  return stats.spread / row_stats_counted(stats);
}

fn row_stats_uniform_cross_entropy(stats: RowStats) -> f32 {
  return ln_1p(stats.tail) - row_stats_mean_below_max(stats);
}

fn row_stats_sum_p_squared(stats: RowStats) -> f32 {
  let mass = 1.0 + stats.tail;
  return stats.collision / (mass * mass);
}

fn row_stats_counted(stats: RowStats) -> f32 {
  return f32(stats.count);
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

// From the statistics of the whole row and the bits of the target's logit.
fn row_summary(stats: RowStats, goal_logit: u32) -> RowSummary {
  let logit = bitcast<f32>(goal_logit);
  if (goal_logit == params.neg_infinity) {
    return RowSummary(stats, TargetProb(logit, 1.0), logit);
  }
  return RowSummary(stats, row_stats_target(stats, logit), logit);
}

// Stands for a row without a summary. A probability of 2 lies in no gate's interval, and an entropy of -1 below every
// threshold: whether the row counts as kept is what the objective says.
fn row_summary_bad() -> RowSummary {
  return RowSummary(RowStats(0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1u, 0u, 0u), TargetProb(0.6931472, -1.0), 0.0);
}

fn row_partials_zero() -> RowPartials {
  return RowPartials(0.0, 0.0, 0.0, 0.0, 0.0);
}

fn row_partials_of_slope(slope: f32) -> RowPartials {
  return RowPartials(slope, -slope, 0.0, 0.0, 0.0);
}

fn row_partials_scaled(partials: RowPartials, weight: f32) -> RowPartials {
  if (weight == 0.0) {
    return row_partials_zero();
  }
  return RowPartials(
    partials.d_target * weight,
    partials.d_lse * weight,
    partials.d_entropy * weight,
    partials.d_mean * weight,
    partials.d_energy * weight,
  );
}

fn row_partials_plus(a: RowPartials, b: RowPartials) -> RowPartials {
  return RowPartials(
    a.d_target + b.d_target,
    a.d_lse + b.d_lse,
    a.d_entropy + b.d_entropy,
    a.d_mean + b.d_mean,
    a.d_energy + b.d_energy,
  );
}

fn row_partials_is_plain(partials: RowPartials) -> bool {
  return is_zero(partials.d_entropy) && is_zero(partials.d_mean) && is_zero(partials.d_energy);
}

// Whether the row has any gradient that a normal f32 can hold. NaN is live. By bits, because comparisons may not see
// a NaN and drivers differ on subnormals.
fn row_partials_is_live(partials: RowPartials) -> bool {
  let some = bitcast<vec2<u32>>(vec2<f32>(partials.d_target, partials.d_lse));
  let more = bitcast<vec3<u32>>(vec3<f32>(partials.d_entropy, partials.d_mean, partials.d_energy));
  return any((some & vec2<u32>(0x7fffffffu)) >= vec2<u32>(0x00800000u))
    || any((more & vec3<u32>(0x7fffffffu)) >= vec3<u32>(0x00800000u));
}

// An upper bound of sum_j |dL/dz_j|.
fn row_partials_norm_bound(partials: RowPartials, summary: RowSummary) -> f32 {
  let stats = summary.stats;
  var bound = abs(row_partials_target_gradient(partials, summary)) + abs(partials.d_lse) * summary.prob.one_minus_p;
  if (!is_zero(partials.d_entropy)) {
    bound += abs(partials.d_entropy) * 2.0 * row_stats_entropy(stats);
  }
  bound += abs(partials.d_mean);
  if (!is_zero(partials.d_energy)) {
    // The product of count and energy need not be an f32.
    bound += abs(partials.d_energy) * 2.0 * (sqrt(row_stats_counted(stats)) * sqrt(stats.energy));
  }
  return bound;
}

// What the mean adds to the gradient of every logit that has mass.
fn row_partials_of_mean(partials: RowPartials, stats: RowStats) -> f32 {
  if (is_zero(partials.d_mean)) {
    return 0.0;
  }
  return partials.d_mean / row_stats_counted(stats);
}

fn row_partials_target_gradient(partials: RowPartials, summary: RowSummary) -> f32 {
  let soft = row_partials_soft_target(partials, summary);
  // A masked target is no part of the rest.
  if (row_partials_is_plain(partials) || bitcast<u32>(summary.goal_logit) == params.neg_infinity) {
    return soft;
  }
  var energy = 0.0;
  if (!is_zero(partials.d_energy)) {
    energy = 2.0 * partials.d_energy * summary.goal_logit;
  }
  return soft + row_partials_of_mean(partials, summary.stats) + energy;
}

// The target's gradient without what mean and energy add to every logit.
fn row_partials_soft_target(partials: RowPartials, summary: RowSummary) -> f32 {
  let p = target_prob_p(summary.prob);
  var direct = (partials.d_target + partials.d_lse) - partials.d_lse * summary.prob.one_minus_p;
  if (p + p < 1.0) {
    direct = partials.d_target + partials.d_lse * p;
  }
  if (is_zero(partials.d_entropy) || p == 0.0) {
    return direct;
  }
  return direct - partials.d_entropy * p * (summary.prob.log_p + row_stats_entropy(summary.stats));
}
