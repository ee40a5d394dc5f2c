// Counts and sums over rows, by one workgroup and in a fixed order, and the scale that follows from them. Slices
// of a batch follow each other and add up.

struct Sum {
  loss: f32,
  weight: f32,
  valid: u32,
  kept: u32,
  ignored: u32,
  bad: u32,      // rows whose loss is NaN
  live: u32,
}

fn sum_merge(a: Sum, b: Sum) -> Sum {
  return Sum(
    a.loss + b.loss,
    a.weight + b.weight,
    a.valid + b.valid,
    a.kept + b.kept,
    a.ignored + b.ignored,
    a.bad + b.bad,
    a.live + b.live,
  );
}

fn sum_of(row: u32) -> Sum {
  if (targets[params.targets_first + row] == -100) {
    return Sum(0.0, 0.0, 0u, 0u, 1u, 0u, 0u);
  }
  let weight = weight_of(row);
  var sum = Sum(0.0, weight, 1u, 0u, 0u, 0u, 0u);
  if ((params.flags & FLAG_JUDGED) != 0u) {
    sum.kept = records[record_of(row) + RECORD_KEPT];
    if (records[record_of(row) + RECORD_STATUS] != STATUS_FINE) {
      // Its gradient is NaN, and so is its loss unless it weighs nothing.
      sum.live = 1u;
      sum.bad = u32(weight != 0.0);
    } else if (weight != 0.0) {
      sum.loss = weight * record_f32(row, RECORD_LOSS);
      sum.live = u32(row_partials_is_live(row_partials_scaled(record_partials(row), weight)));
    }
    if ((params.flags & FLAG_LIVE) != 0u) {
      sum.live = records[record_of(row) + RECORD_LIVE];
    }
  }
  return sum;
}

var<workgroup> sums: array<Sum, WG>;

// Rows that a lane adds up before it adds them to the rest: nested sums lose less than one long one.
const RUN = 64u;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lane: u32) {
  var all = Sum(0.0, 0.0, 0u, 0u, 0u, 0u, 0u);
  for (var first = lane; first < params.rows; first += RUN * WG) {
    var run = Sum(0.0, 0.0, 0u, 0u, 0u, 0u, 0u);
    for (var i = 0u; i < RUN && first + i * WG < params.rows; i++) {
      run = sum_merge(run, sum_of(first + i * WG));
    }
    all = sum_merge(all, run);
  }
  sums[lane] = all;
  workgroupBarrier();
  for (var k = WG / 2u; k > 0u; k >>= 1u) {
    if (lane < k) {
      sums[lane] = sum_merge(sums[lane], sums[lane + k]);
    }
    workgroupBarrier();
  }
  if (lane == 0u) {
    totals_write(sums[0]);
  }
}

fn totals_write(slice: Sum) {
  let at = params.totals_first;
  var sum = slice;
  if ((params.flags & FLAG_FIRST) == 0u) {
    sum = sum_merge(sum, Sum(
      bitcast<f32>(totals[at + TOTAL_LOSS_SUM]),
      bitcast<f32>(totals[at + TOTAL_WEIGHT_SUM]),
      totals[at + TOTAL_VALID],
      totals[at + TOTAL_KEPT],
      totals[at + TOTAL_IGNORED],
      totals[at + TOTAL_BAD],
      totals[at + TOTAL_LIVE],
    ));
  }
  var denominator = params.denominator;
  var scale = params.scale;
  if (params.denominator_kind != DENOMINATOR_GIVEN) {
    denominator = f32(select(sum.kept, sum.valid, params.denominator_kind == DENOMINATOR_VALID));
    scale = 0.0;
    if (denominator != 0.0) {
      scale = 1.0 / denominator;
    }
  }
  totals[at + TOTAL_LOSS_SUM] = select(bitcast<u32>(sum.loss), params.nan, sum.bad != 0u);
  totals[at + TOTAL_WEIGHT_SUM] = bitcast<u32>(sum.weight);
  totals[at + TOTAL_VALID] = sum.valid;
  totals[at + TOTAL_KEPT] = sum.kept;
  totals[at + TOTAL_IGNORED] = sum.ignored;
  totals[at + TOTAL_DENOMINATOR] = bitcast<u32>(denominator);
  totals[at + TOTAL_SCALE] = bitcast<u32>(scale);
  totals[at + TOTAL_BAD] = sum.bad;
  totals[at + TOTAL_LIVE] = sum.live;
}
