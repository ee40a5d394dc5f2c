// Merges the statistics of all lanes by subgroup operations, then those of the subgroups in workgroup memory.
// Needs subgroups of at least 4 lanes.

var<workgroup> merged: array<RowStats, WG>;

// The same as row_stats_merge over all lanes of a subgroup: the one winner keeps its tail, all others add their
// mass. So the maximum's own 1 stays implicit here, too.
fn subgroup_merge(stats: RowStats) -> RowStats {
  let top = subgroupMax(stats.max);
  let argmax = subgroupMin(select(NO_COLUMN, stats.argmax, stats.max == top));
  let gap = stats.max - top;
  let delta = max(gap, FAR_BELOW);
  let share = exp_neg(delta);
  let mass = 1.0 + stats.tail;
  var tail = share * mass;
  var moment = share * (stats.moment + delta * mass);
  if (stats.argmax == NO_COLUMN) {
    tail = 0.0;
    moment = 0.0;
  } else if (stats.argmax == argmax) {
    tail = stats.tail;
    moment = stats.moment;
  }
  var all = RowStats(top, subgroupAdd(tail), subgroupAdd(moment), 0.0, 0.0, 0.0, 0u, argmax, subgroupMin(stats.bad));
  all.tail = select(all.tail, -1.0, argmax == NO_COLUMN);
  if (HAS_MOMENTS) {
    all.collision = subgroupAdd(share * share * stats.collision);
    // From nothing to a maximum may be an infinite way, and 0 times that is not 0.
    all.spread = subgroupAdd(select(stats.spread + gap * f32(stats.count), 0.0, stats.argmax == NO_COLUMN));
    all.energy = subgroupAdd(stats.energy);
    all.count = subgroupAdd(stats.count);
  }
  return all;
}

fn reduce(stats: RowStats, lane: u32, subgroup: u32, subgroup_lane: u32) -> RowStats {
  // Where subgroups are larger than 4 lanes, fewer than WG / 4 write.
  if (lane < WG / 4u) {
    merged[lane] = row_stats_empty();
  }
  let part = subgroup_merge(stats);
  workgroupBarrier();
  if (subgroup_lane == 0u) {
    merged[subgroup] = part;
  }
  workgroupBarrier();
  for (var k = WG / 8u; k > 0u; k >>= 1u) {
    if (lane < k) {
      merged[lane] = row_stats_merge(merged[lane], merged[lane + k]);
    }
    workgroupBarrier();
  }
  return merged[0];
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
  kernel(row_of(group), lane, subgroup, subgroup_lane);
}
