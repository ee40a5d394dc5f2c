// The greatest logits of a row, as many as its list has room for, greatest first and the first of equals first, by one
// workgroup. A tile's are merged into those of the tiles before it, whose columns come first.
//
// Every lane knows the greatest of its share of the columns that is not yet in the list. Round by round the greatest of
// all is entered, until it is not above the last of a full list, and whose lane it was looks for its next.

struct Candidate {
  key: u32,      // orders finite logits, both zeros alike; 0 for none
  column: u32,
  bits: u32,
  bad: u32,      // the first column of a NaN or a +infinity
}

fn keys_of4(bits: vec4<u32>) -> vec4<u32> {
  let positive = (bits & vec4<u32>(0x80000000u)) == vec4<u32>(0u);
  let keys = select(~bits, bits | vec4<u32>(0x80000000u), positive);
  return select(keys, vec4<u32>(0x80000000u), bits == vec4<u32>(0x80000000u));
}

fn key_of(bits: u32) -> u32 {
  return keys_of4(vec4<u32>(bits)).x;
}

fn better(a: Candidate, b: Candidate) -> Candidate {
  let b_first = b.key > a.key || (b.key == a.key && b.column < a.column);
  return Candidate(
    select(a.key, b.key, b_first),
    select(a.column, b.column, b_first),
    select(a.bits, b.bits, b_first),
    min(a.bad, b.bad),
  );
}

// Before all logits.
fn before_all() -> Candidate {
  return Candidate(0xffffffffu, 0u, 0u, NO_COLUMN);
}

// The greatest of a lane's share that comes after another.
fn next_after(span: Span, map: RowMap, lane: u32, other: Candidate) -> Candidate {
  var best = Candidate(0u, NO_COLUMN, 0u, NO_COLUMN);
  for (var block = lane; block < span.blocks; block += WG) {
    let words = load_logits(span.first + 4u * block - span.head, span.first, span.last);
    for (var part = 0u; part < PER_WORD; part++) {
      let columns = columns_of(span, block, part);
      let bits = map4(map, unpack(words, part), columns);
      let inside = columns < vec4<u32>(params.vocab);
      let bad = inside & is_special(bits) & !is_masked(bits);
      if (any(bad)) {
        let at = select(vec4<u32>(NO_COLUMN), columns, bad);
        best.bad = min(best.bad, min(min(at.x, at.y), min(at.z, at.w)));
      }
      let keys = keys_of4(bits);
      let after = (keys < vec4<u32>(other.key)) | ((keys == vec4<u32>(other.key)) & (columns > vec4<u32>(other.column)));
      let open = select(vec4<u32>(0u), keys, inside & after & !is_special(bits));
      if (any(open >= vec4<u32>(max(best.key, 1u)))) {
        for (var i = 0u; i < 4u; i++) {
          if (open[i] != 0u) {
            best = better(best, Candidate(open[i], columns[i], bits[i], NO_COLUMN));
          }
        }
      }
    }
  }
  return best;
}

struct List {
  first: u32,     // word of the first entry; of its id, if `lists_first` is added, and of its value likewise
  count: u32,
  ignored: u32,
  status: u32,    // of the tiles before
}

// What a round enters, and where; a place beyond the last ends them.
struct Turn {
  column: u32,
  place: u32,
  bad: u32,
}

var<workgroup> list_shared: List;
var<workgroup> turn_shared: Turn;
var<workgroup> candidates: array<Candidate, WG>;

fn enter(entry: u32, id: i32, bits: u32) {
  ids[params.lists_first + entry] = id;
  values[params.side_first + entry] = bits;
}

fn fill(list: List, lane: u32, bits: u32) {
  for (var i = lane; i < list.count; i += WG) {
    enter(list.first + i, -100, bits);
  }
  storageBarrier();
}

// How many of the list are as great: columns come in order.
fn place_of(list: List, key: u32) -> u32 {
  var low = 0u;
  var high = list.count;
  while (low < high) {
    let middle = (low + high) / 2u;
    if (key_of(values[params.side_first + list.first + middle]) >= key) {
      low = middle + 1u;
    } else {
      high = middle;
    }
  }
  return low;
}

// The best of all lanes, and its place.
fn turn_of(list: List, own: Candidate, lane: u32) -> Turn {
  candidates[lane] = own;
  workgroupBarrier();
  for (var k = WG / 2u; k > 0u; k >>= 1u) {
    if (lane < k) {
      candidates[lane] = better(candidates[lane], candidates[lane + k]);
    }
    workgroupBarrier();
  }
  if (lane == 0u) {
    let best = candidates[0];
    var place = list.count;
    if (best.key != 0u) {
      place = place_of(list, best.key);
    }
    turn_shared = Turn(best.column, place, best.bad);
  }
  return workgroupUniformLoad(&turn_shared);
}

// Moves all from a place on by one; the last is lost.
fn make_room(list: List, place: u32, lane: u32) {
  for (var end = list.count; end > place + 1u; end -= min(WG, end - place - 1u)) {
    let moves = lane < end - place - 1u;
    let entry = list.first + end - 1u - lane;
    var id = 0;
    var bits = 0u;
    if (moves) {
      id = ids[params.lists_first + entry - 1u];
      bits = values[params.side_first + entry - 1u];
    }
    storageBarrier();
    if (moves) {
      enter(entry, id, bits);
    }
    storageBarrier();
  }
}

fn kernel(row: u32, lane: u32, subgroup: u32, subgroup_lane: u32) {
  if (row >= params.rows) {
    return;
  }
  let status_at = record_of(row) + RECORD_STATUS;
  let is_first = (params.flags & FLAG_FIRST) != 0u;
  if (lane == 0u) {
    let entries = entries_of(row);
    let ignored = targets[params.targets_first + row] == -100;
    let status = select(records[status_at], STATUS_FINE, is_first);
    list_shared = List(entries.first, max(entries.end, entries.first) - entries.first, u32(ignored), status);
  }
  let list = workgroupUniformLoad(&list_shared);
  if (is_first) {
    if (lane == 0u) {
      records[status_at] = STATUS_FINE;
    }
    fill(list, lane, params.neg_infinity);
  }
  if (list.ignored != 0u || list.status != STATUS_FINE || list.count == 0u) {
    return;
  }
  let span = span_of(row);
  // A target in other columns wraps to beyond these.
  let map = row_map(row, u32(targets[params.targets_first + row]) - params.column_first);
  var own = next_after(span, map, lane, before_all());
  var turn = turn_of(list, own, lane);
  if (turn.bad != NO_COLUMN) {
    if (lane == 0u) {
      records[status_at] = params.column_first + turn.bad + 1u;
    }
    fill(list, lane, params.nan);
    return;
  }
  while (turn.place < list.count) {
    make_room(list, turn.place, lane);
    if (own.column == turn.column) {
      enter(list.first + turn.place, i32(params.column_first + own.column), own.bits);
      own = next_after(span, map, lane, own);
    }
    storageBarrier();
    turn = turn_of(list, own, lane);
  }
}
