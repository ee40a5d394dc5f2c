// (1 - sum_j p_j^alpha q_j^(1 - alpha)) / (alpha (1 - alpha))
fn alpha(entry: Entry, alpha: f32) -> EntryEval {
  let rest = 1.0 - alpha;
  let less = entry_pick(entry, vec4<f32>(alpha), vec4<f32>(rest));
  let power = exp_and_gaps(less * entry.ratio.x);
  let is_far = entry.ratio.x + 1.0;
  let value = pick(
    is_far,
    less * entry.ratio.exp_m1 - power.exp_m1,
    less * entry.ratio.gap_at_0 - power.gap_at_0,
  );
  let p_is_less = pick(is_far, entry.ratio.exp - power.exp, entry.ratio.exp_m1 - power.exp_m1);
  return EntryEval(
    entry.greater * value / (alpha * rest),
    entry.greater * entry_pick(entry, p_is_less, -power.exp_m1) / rest,
  );
}
