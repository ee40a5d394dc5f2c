// One sweep over both rows' classes: what they add to the divergence.

// Value, pull and absolute pull of one lane's share of the classes.
fn sweep_entries(span: Span, teacher_first: u32, frame: Frame, lane: u32) -> LaneSums {
  var value = vec4<f32>(0.0);
  var pull = vec4<f32>(0.0);
  var size = vec4<f32>(0.0);
  var column = NO_COLUMN;
  for (var first = lane; first < span.blocks; first += RUN * WG) {
    var run = EntryEval(vec4<f32>(0.0), vec4<f32>(0.0));
    var run_size = vec4<f32>(0.0);
    for (var i = 0u; i < RUN && first + i * WG < span.blocks; i++) {
      let block = first + i * WG;
      let words = load_logits(span.first + 4u * block - span.head, span.first, span.last);
      for (var part = 0u; part < PER_WORD; part++) {
        let columns = columns_of(span, block, part);
        let z = four_of(unpack(words, part), columns);
        let u = four_of(load_teacher(teacher_first, columns), columns);
        let entry = frame_entry(frame, z, u);
        let eval = divergence_of(entry);
        run = EntryEval(run.value + eval.value, run.pull + eval.pull);
        run_size += abs(eval.pull);
        let at = select(vec4<u32>(NO_COLUMN), columns, is_infinite4(entry, eval));
        column = min(column, min(min(at.x, at.y), min(at.z, at.w)));
      }
    }
    value += run.value;
    pull += run.pull;
    size += run_size;
  }
  return LaneSums(sum4(value), sum4(pull), sum4(size), column);
}
