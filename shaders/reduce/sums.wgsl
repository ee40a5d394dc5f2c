// Sums over all lanes, in the workgroup memory of the statistics.

// Blocks that a lane adds up before it adds them to the rest: nested sums lose less than one long one.
const RUN = 16u;

struct LaneSums {
  a: f32,
  b: f32,
  c: f32,
  column: u32,   // the least of these is kept
}

fn reduce_sums(sums: LaneSums, lane: u32) -> LaneSums {
  // What was there before is read by all lanes.
  workgroupBarrier();
  merged[lane].tail = sums.a;
  merged[lane].moment = sums.b;
  merged[lane].spread = sums.c;
  merged[lane].bad = sums.column;
  workgroupBarrier();
  for (var k = WG / 2u; k > 0u; k >>= 1u) {
    if (lane < k) {
      merged[lane].tail += merged[lane + k].tail;
      merged[lane].moment += merged[lane + k].moment;
      merged[lane].spread += merged[lane + k].spread;
      merged[lane].bad = min(merged[lane].bad, merged[lane + k].bad);
    }
    workgroupBarrier();
  }
  return LaneSums(merged[0].tail, merged[0].moment, merged[0].spread, merged[0].bad);
}
