// A row and a label for each of its classes in one workgroup: over the softmax it is summarised; its classes are summed up, and
// the gradient is written. Two reads of logits and labels, one without a gradient; over the softmax one more of the logits.

@group(0) @binding(20) var<storage, read_write> class_weights: array<f32>;   // [vocab]

var<workgroup> push_shared: LabelPush;

// log p_j = (z_j - max) - ln_mass over the softmax; not looked at over the sigmoid.
struct LabelFrame {
  max: f32,
  ln_mass: f32,
  top: u32,      // the likeliest class, which is summed apart
}

// What the gradient of a row is made of.
struct LabelPush {
  kind: u32,
  factor: f32,
  pulls: f32,          // of all classes, that a softmax shares
  top_gradient: f32,   // of the likeliest class
}

// Four classes of a row and their labels.
struct Labelled {
  c: Class,
  eval: EntryEval,   // times the classes' weights
  status: u32,       // of the first class that is bad, as a row's; else NO_COLUMN
}

fn kernel(row: u32, lane: u32, subgroup: u32, subgroup_lane: u32) {
  if (row >= params.rows) {
    return;
  }
  let goal = goal_of(row, lane);
  let span = span_of(row);
  let map = row_map(row, 0u);
  if (goal == -100) {
    pass_over(row, lane, span, map);
    return;
  }

  let labels_first = params.teacher_first + row * params.teacher_stride;
  var stats = row_stats_empty();
  var frame = LabelFrame(0.0, 0.0, NO_COLUMN);
  if (IS_SOFTMAX) {
    stats = reduce(sweep_stats(span, map, lane), lane, subgroup, subgroup_lane);
    frame = LabelFrame(stats.max, ln_1p(stats.tail), stats.argmax);
  }
  let sums = reduce_sums(sweep_labels(span, labels_first, frame, lane), lane);
  if (lane == 0u) {
    push_shared = judge_labels(row, span, labels_first, stats, frame, sums);
  }
  if (HAS_GRADIENT) {
    // The likeliest class's logit is read above and overwritten below.
    storageBarrier();
    let push = workgroupUniformLoad(&push_shared);
    sweep_label_gradient(span, map, labels_first, frame, lane, push);
  }
}

fn class_of(frame: LabelFrame, four: Four) -> Class {
  let z = select(vec4<f32>(FAR_BELOW), four.z, four.present);
  if (IS_SOFTMAX) {
    return class_softmax(select(vec4<f32>(FAR_BELOW), max(z - frame.max, vec4<f32>(FAR_BELOW)) - frame.ln_mass, four.present));
  }
  return class_sigmoid(z);
}

fn weights_of4(columns: vec4<u32>) -> vec4<f32> {
  if ((params.flags & FLAG_CLASS_WEIGHTS) == 0u) {
    return vec4<f32>(1.0);
  }
  let at = params.side_first + min(columns, vec4<u32>(params.vocab - 1u));
  return vec4<f32>(class_weights[at.x], class_weights[at.y], class_weights[at.z], class_weights[at.w]);
}

// Four classes by the bits of their logits.
fn labelled4(frame: LabelFrame, bits: vec4<u32>, labels_first: u32, columns: vec4<u32>) -> Labelled {
  let inside = columns < vec4<u32>(params.vocab);
  let four = four_of(bits, columns);
  let label_bits = select(vec4<u32>(0u), load_teacher(labels_first, columns), inside);
  let special = is_special(label_bits);
  let label = select(bitcast<vec4<f32>>(label_bits), vec4<f32>(0.0), special);
  var wrong = special | (label < vec4<f32>(LABEL_MIN)) | (label > vec4<f32>(LABEL_MAX));
  let c = class_of(frame, four);
  // A masked class with a label, whatever its size, whose value is infinite.
  let masked = inside & is_masked(bits) & (label != vec4<f32>(0.0));
  if (any(masked)) {
    wrong |= masked & is_unbounded4(label_of(c, sign(label)).value);
  }
  var status = NO_COLUMN;
  if (any(wrong)) {
    let at = select(vec4<u32>(NO_COLUMN), STATUS_LABEL + columns + 1u, wrong);
    status = min(min(at.x, at.y), min(at.z, at.w));
  }
  if (four.bad != NO_COLUMN) {
    status = four.bad + 1u;
  }
  let eval = label_of(c, label);
  let weight = select(vec4<f32>(0.0), weights_of4(columns), inside);
  return Labelled(c, EntryEval(weight * eval.value, weight * eval.pull), status);
}

// Value and pull of one lane's share of the classes, but of the likeliest; the first status counts those of logits before those
// of labels.
fn sweep_labels(span: Span, labels_first: u32, frame: LabelFrame, lane: u32) -> LaneSums {
  var value = vec4<f32>(0.0);
  var pull = vec4<f32>(0.0);
  var status = NO_COLUMN;
  for (var first = lane; first < span.blocks; first += RUN * WG) {
    var run = EntryEval(vec4<f32>(0.0), vec4<f32>(0.0));
    for (var i = 0u; i < RUN && first + i * WG < span.blocks; i++) {
      let block = first + i * WG;
      let words = load_logits(span.first + 4u * block - span.head, span.first, span.last);
      for (var part = 0u; part < PER_WORD; part++) {
        let columns = columns_of(span, block, part);
        let seen = labelled4(frame, unpack(words, part), labels_first, columns);
        let apart = columns == vec4<u32>(frame.top);
        run.value += select(seen.eval.value, vec4<f32>(0.0), apart);
        run.pull += select(seen.eval.pull, vec4<f32>(0.0), apart);
        status = min(status, seen.status);
      }
    }
    value += run.value;
    pull += run.pull;
  }
  return LaneSums(sum4(value), sum4(pull), 0.0, status);
}

fn judge_labels(
  row: u32,
  span: Span,
  labels_first: u32,
  stats: RowStats,
  frame: LabelFrame,
  others: LaneSums,
) -> LabelPush {
  var status = others.column;
  if (IS_SOFTMAX && stats.bad != NO_COLUMN) {
    status = stats.bad + 1u;
  } else if (IS_SOFTMAX && stats.argmax == NO_COLUMN) {
    status = STATUS_NO_MASS;
  } else if (status == NO_COLUMN) {
    status = STATUS_FINE;
  }
  if (status != STATUS_FINE) {
    record_write_bad(row, status, true);
    return LabelPush(PUSH_NAN, 0.0, 0.0, 0.0);
  }
  var loss = others.a;
  var pulls = others.b;
  var top_gradient = 0.0;
  if (IS_SOFTMAX) {
    let bits = vec4<u32>(logit_of(span, frame.top));
    let own = labelled4(frame, bits, labels_first, vec4<u32>(frame.top));
    loss += own.eval.value.x;
    pulls += own.eval.pull.x;
    // `pull - p (pull + others)` by what is left of p, so that a confident row keeps its gradient.
    top_gradient = own.eval.pull.x * own.c.rest.x - own.c.p.x * others.b;
  }
  let weight = weight_of(row);
  record_write_nan(row, STATUS_FINE, bitcast<u32>(loss), 0u, 1u);
  records[record_of(row) + RECORD_LIVE] = u32(weight != 0.0);
  let factor = scale_of(row);
  if (is_zero(factor)) {
    return LabelPush(PUSH_ZERO, 0.0, 0.0, 0.0);
  }
  return LabelPush(PUSH_LIVE, factor, pulls, top_gradient);
}

// Writes one lane's share of a row's gradient.
fn sweep_label_gradient(span: Span, map: RowMap, labels_first: u32, frame: LabelFrame, lane: u32, push: LabelPush) {
  if (push.kind != PUSH_LIVE) {
    sweep_gradient(span, map, lane, push_of(push.kind));
    return;
  }
  for (var block = lane; block < span.blocks; block += WG) {
    let words = load_logits(span.first + 4u * block - span.head, span.first, span.last);
    var gradient = vec4<u32>(0u);
    for (var part = 0u; part < PER_WORD; part++) {
      let columns = columns_of(span, block, part);
      let bits = unpack(words, part);
      let seen = labelled4(frame, bits, labels_first, columns);
      var value = seen.eval.pull;
      if (IS_SOFTMAX) {
        value = select(value - seen.c.p * push.pulls, vec4<f32>(push.top_gradient), columns == vec4<u32>(frame.top));
      }
      gradient |= pack(select(push.factor * value, vec4<f32>(0.0), is_special(bits)), part);
    }
    store_block(span, block, gradient);
  }
}
