// The two sweeps over a row: one reads it into its statistics, one writes its gradient.

// Where a row lies: its first word in either binding, in blocks of four words.
struct Span {
  first: u32,
  gradient_first: u32,
  last: u32,      // the last word of the row
  head: u32,      // words of the first block that lie before the row
  blocks: u32,
}

fn span_of(row: u32) -> Span {
  let first = (params.logits_first + row * params.stride) / PER_WORD;
  let gradient = (gradient_first() + row * params.stride) / PER_WORD;
  let words = (params.vocab + PER_WORD - 1u) / PER_WORD;
  let head = head_of(first);
  return Span(first, gradient, first + words - 1u, head, (head + words + 3u) / 4u);
}

// The columns of the elements `part` of a block; those before the row wrap to beyond the vocab.
fn columns_of(span: Span, block: u32, part: u32) -> vec4<u32> {
  return (4u * block - span.head + vec4<u32>(0u, 1u, 2u, 3u)) * PER_WORD + part;
}

// Four logits by their bits. Those that are not present are masked, no numbers, or outside the row.
struct Four {
  z: vec4<f32>,
  present: vec4<bool>,
  bad: u32,       // the first column of a NaN or a +infinity
}

fn four_of(bits: vec4<u32>, columns: vec4<u32>) -> Four {
  let inside = columns < vec4<u32>(params.vocab);
  let special = is_special(bits);
  let bad = inside & special & !is_masked(bits);
  var first = NO_COLUMN;
  if (any(bad)) {
    let at = select(vec4<u32>(NO_COLUMN), columns, bad);
    first = min(min(at.x, at.y), min(at.z, at.w));
  }
  let present = inside & !special;
  return Four(select(vec4<f32>(LOWEST), bitcast<vec4<f32>>(bits), present), present, first);
}

// The bits of one logit, as f32.
fn logit_of(span: Span, column: u32) -> u32 {
  let words = vec4<u32>(load_logits_word(span.first + column / PER_WORD));
  return unpack(words, column % PER_WORD).x;
}

// What four logits are taken for.
fn taken4(map: RowMap, bits: vec4<u32>, columns: vec4<u32>) -> vec4<u32> {
  return map4(map, guide4(map.guide, bits, columns), columns);
}

// The statistics of one lane's share of a row.
fn sweep_stats(span: Span, map: RowMap, lane: u32) -> RowStats {
  var stats = row_stats_empty();
  for (var block = lane; block < span.blocks; block += WG) {
    let words = load_logits(span.first + 4u * block - span.head, span.first, span.last);
    for (var part = 0u; part < PER_WORD; part++) {
      let columns = columns_of(span, block, part);
      let four = four_of(taken4(map, unpack(words, part), columns), columns);
      stats.bad = min(stats.bad, four.bad);
      stats = row_stats_take4(stats, four.z, four.present, columns);
    }
  }
  return stats;
}

const PUSH_ZERO = 0u;
const PUSH_NAN = 1u;
const PUSH_LIVE = 2u;

// What the gradient of a row is made of.
struct Push {
  kind: u32,
  target_column: u32,
  target_gradient: f32,  // without what mean and energy add
  max: f32,
  factor: f32,           // d_lse / (1 + tail)
  entropy_factor: f32,   // d_entropy / (1 + tail)
  centre: f32,           // lse - entropy
  mean: f32,             // d_mean / count
  energy: f32,           // 2 d_energy
}

fn push_of(kind: u32) -> Push {
  return Push(kind, NO_COLUMN, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
}

fn push_live(target_column: u32, summary: RowSummary, partials: RowPartials) -> Push {
  if (!row_partials_is_live(partials)) {
    return push_of(PUSH_ZERO);
  }
  let sum = 1.0 + summary.stats.tail;
  return Push(
    PUSH_LIVE,
    target_column,
    row_partials_soft_target(partials, summary),
    summary.stats.max,
    partials.d_lse / sum,
    partials.d_entropy / sum,
    row_stats_lse(summary.stats) - row_stats_entropy(summary.stats),
    row_partials_of_mean(partials, summary.stats),
    2.0 * partials.d_energy,
  );
}

// The gradients of four logits of a row that is live.
fn gradient4(map: RowMap, push: Push, words: vec4<u32>, columns: vec4<u32>) -> vec4<f32> {
  let raw = guide4(map.guide, words, columns);
  let bits = map4(map, raw, columns);
  let present = !is_special(bits);
  let z = select(vec4<f32>(LOWEST), bitcast<vec4<f32>>(bits), present);
  let share = select(vec4<f32>(0.0), exp_neg4(min(max(z - push.max, vec4<f32>(FAR_BELOW)), vec4<f32>(0.0))), present);
  var value = share * push.factor;
  if (!is_zero(push.entropy_factor)) {
    let spread = max(z - push.centre, vec4<f32>(FAR_BELOW));
    value = share * (push.factor - push.entropy_factor * spread);
    value = select(vec4<f32>(0.0), value, share != vec4<f32>(0.0));
  }
  let at_target = columns == vec4<u32>(push.target_column);
  value = select(value, vec4<f32>(push.target_gradient), at_target);
  if (!is_zero(push.mean) || !is_zero(push.energy)) {
    value += select(vec4<f32>(0.0), push.mean + push.energy * z, present);
  }
  if (HAS_MAP) {
    value *= map_derivative4(map, raw);
    // A masked class has no gradient, even as the target.
    value = select(value, vec4<f32>(0.0), is_masked(bits) & !is_masked(raw));
  }
  return value;
}

// Writes one lane's share of a row's gradient.
fn sweep_gradient(span: Span, map: RowMap, lane: u32, push: Push) {
  let constant = select(0u, NAN_WORD, push.kind == PUSH_NAN);
  for (var block = lane; block < span.blocks; block += WG) {
    var gradient = vec4<u32>(constant);
    if (push.kind == PUSH_LIVE) {
      let words = load_logits(span.first + 4u * block - span.head, span.first, span.last);
      gradient = vec4<u32>(0u);
      for (var part = 0u; part < PER_WORD; part++) {
        let columns = columns_of(span, block, part);
        gradient |= pack(gradient4(map, push, unpack(words, part), columns), part);
      }
    }
    store_block(span, block, gradient);
  }
}

// Writes a block of the gradient; what lies before the row or beyond the vocab stays as it is.
fn store_block(span: Span, block: u32, gradient: vec4<u32>) {
  let word = span.gradient_first + 4u * block - span.head;
  var keep = vec4<u32>(0u);
  for (var part = 0u; part < PER_WORD; part++) {
    let outside = columns_of(span, block, part) >= vec4<u32>(params.vocab);
    keep |= select(vec4<u32>(0u), vec4<u32>(PART_BITS << (16u * part)), outside);
  }
  if (all(keep == vec4<u32>(0u))) {
    store_gradient(word, gradient);
    return;
  }
  for (var k = 0u; k < 4u; k++) {
    if (keep[k] == 0u) {
      store_gradient_word(word + k, gradient[k]);
    } else if (keep[k] != 0xffffffffu) {
      store_gradient_word(word + k, (gradient_word(word + k) & keep[k]) | (gradient[k] & ~keep[k]));
    }
  }
}
