// What the kernels of one workgroup a row share.

var<workgroup> target_shared: i32;

// The row's target, the same for all lanes: a value from a read_write buffer may steer control flow before a barrier only
// through here.
fn goal_of(row: u32, lane: u32) -> i32 {
  if (lane == 0u) {
    target_shared = targets[params.targets_first + row];
  }
  return workgroupUniformLoad(&target_shared);
}

// A row that takes no part: neither loss nor gradient.
fn pass_over(row: u32, lane: u32, span: Span, map: RowMap) {
  if (lane == 0u) {
    record_write_nan(row, STATUS_FINE, 0u, 0u, 0u);
  }
  if (HAS_GRADIENT) {
    sweep_gradient(span, map, lane, push_of(PUSH_ZERO));
  }
}

// A row that is bad: its loss and its partials are NaN.
fn record_write_bad(row: u32, status: u32, kept: bool) {
  record_write_nan(row, status, params.nan, params.nan, u32(kept));
  records[record_of(row) + RECORD_LIVE] = 1u;
}
