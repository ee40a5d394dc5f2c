// Takes the listed logits out of their rows, one workgroup a row: what is left in their place is a mask, so that what is
// then known of the row is known of its rest. What belongs to padding and to ignored rows is NaN.

fn keep(entry: u32, bits: u32) {
  if ((params.flags & FLAG_GATHER) != 0u) {
    values[params.side_first + entry] = bits;
  }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = row_of(group);
  if (row >= params.rows) {
    return;
  }
  let is_ignored = targets[params.targets_first + row] == -100;
  let entries = entries_of(row);
  let first = params.logits_first + row * params.stride;
  let mask = bitcast<f32>(params.neg_infinity);
  // No two lanes may write to a word at the same time.
  for (var part = 0u; part < PER_WORD; part++) {
    for (var entry = entries.first + lane; entry < entries.end; entry += WG) {
      if (is_ignored || is_padding(entry)) {
        keep(entry, params.nan);
        continue;
      }
      let column = column_of(entry);
      let at = first + column;
      if (column < params.vocab && at % PER_WORD == part) {
        let word = load_logits_word(at / PER_WORD);
        keep(entry, unpack(vec4<u32>(word), part).x);
        let others = word & ~(PART_BITS << (16u * part));
        store_logits_word(at / PER_WORD, others | pack(vec4<f32>(mask), part).x);
      }
    }
    storageBarrier();
  }
}
