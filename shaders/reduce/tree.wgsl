// Merges the statistics of all lanes in workgroup memory. Needs no feature.

var<workgroup> merged: array<RowStats, WG>;

fn reduce(stats: RowStats, lane: u32, subgroup: u32, subgroup_lane: u32) -> RowStats {
  merged[lane] = stats;
  workgroupBarrier();
  for (var k = WG / 2u; k > 0u; k >>= 1u) {
    if (lane < k) {
      merged[lane] = row_stats_merge(merged[lane], merged[lane + k]);
    }
    workgroupBarrier();
  }
  return merged[0];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  kernel(row_of(group), lane, 0u, 0u);
}
