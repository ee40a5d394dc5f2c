// Writes values in the place of the listed columns, one workgroup a row. Ignored rows are left as they are.

fn pack_bits(bits: u32, part: u32) -> u32 {
  if (is_nan(bits)) {
    return NAN_WORD & (PART_BITS << (16u * part));
  }
  return pack(vec4<f32>(bitcast<f32>(bits)), part).x;
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
  // No two lanes may write to a word at the same time.
  for (var part = 0u; part < PER_WORD; part++) {
    for (var entry = entries.first + lane; entry < entries.end; entry += WG) {
      let column = column_of(entry);
      let at = first + column;
      let is_here = !is_ignored && !is_padding(entry) && column < params.vocab;
      if (is_here && at % PER_WORD == part) {
        let others = load_logits_word(at / PER_WORD) & ~(PART_BITS << (16u * part));
        store_logits_word(at / PER_WORD, others | pack_bits(values[params.side_first + entry], part));
      }
    }
    storageBarrier();
  }
}
