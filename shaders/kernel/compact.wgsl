// The list of a chunk's rows that take part in what follows, in their order, by one workgroup: rows that are not
// ignored, or those of them that are live.

@group(0) @binding(10) var<storage, read_write> list: array<u32>;   // [1 + rows]
// The count once more, in a buffer that is a uniform to whom it steers.
@group(0) @binding(13) var<storage, read_write> listed_count: array<u32>;

// Neither is less than 0, so that without their signs the bits compare as they do, and NaN is above every tolerance.
fn reaches(norm: f32) -> bool {
  return (bitcast<u32>(norm) & 0x7fffffffu) >= (bitcast<u32>(params.row_tolerance) & 0x7fffffffu);
}

fn is_listed(row: u32) -> bool {
  if (targets[params.targets_first + row] == -100) {
    return false;
  }
  if ((params.flags & FLAG_LIVE) == 0u) {
    return true;
  }
  var live = (params.flags & FLAG_NAN_ROWS) != 0u;
  if (records[record_of(row) + RECORD_STATUS] == STATUS_FINE) {
    live = is_live(row);
  }
  records[record_of(row) + RECORD_LIVE] = u32(live);
  return live;
}

var<workgroup> scan: array<u32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lane: u32) {
  var total = 0u;
  for (var first = 0u; first < params.rows; first += WG) {
    let row = first + lane;
    var take = 0u;
    if (row < params.rows) {
      take = u32(is_listed(row));
    }
    scan[lane] = take;
    workgroupBarrier();
    for (var k = 1u; k < WG; k <<= 1u) {
      var before = 0u;
      if (lane >= k) {
        before = scan[lane - k];
      }
      workgroupBarrier();
      scan[lane] += before;
      workgroupBarrier();
    }
    if (take != 0u) {
      list[total + scan[lane]] = row;
    }
    total += scan[WG - 1u];
    workgroupBarrier();
  }
  if (lane == 0u) {
    list[0] = total;
    listed_count[0] = total;
  }
}
