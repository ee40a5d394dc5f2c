// The gradient of the student's row: the objective's, and where the divergence pulls.

// What the gradient of a row is made of.
struct PairPush {
  objective: Push,
  factor: f32,        // of pull_j - p_j others
  others: f32,
}

// Writes one lane's share of the student's gradient.
fn sweep_pair_gradient(span: Span, map: RowMap, teacher_first: u32, frame: Frame, lane: u32, push: PairPush) {
  if (push.objective.kind == PUSH_NAN || is_zero(push.factor)) {
    sweep_gradient(span, map, lane, push.objective);
    return;
  }
  for (var block = lane; block < span.blocks; block += WG) {
    let words = load_logits(span.first + 4u * block - span.head, span.first, span.last);
    var gradient = vec4<u32>(0u);
    for (var part = 0u; part < PER_WORD; part++) {
      let columns = columns_of(span, block, part);
      let raw = unpack(words, part);
      let z = four_of(raw, columns);
      let u = four_of(load_teacher(teacher_first, columns), columns);
      let entry = frame_entry(frame, z, u);
      let pull = divergence_of(entry).pull - entry_p(entry) * push.others;
      var value = select(vec4<f32>(0.0), push.factor * pull, z.present);
      if (push.objective.kind == PUSH_LIVE) {
        value += gradient4(map, push.objective, raw, columns);
      }
      gradient |= pack(value, part);
    }
    store_block(span, block, gradient);
  }
}
