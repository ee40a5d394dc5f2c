// sum_j |p_j - q_j| / 2
fn total_variation(entry: Entry) -> EntryEval {
  let half = 0.5 * entry.greater;
  let p_is_not_less = pick(-entry.log_ratio, half, vec4<f32>(0.0));
  return EntryEval(-half * entry.ratio.exp_m1, entry_pick(entry, -(half * entry.ratio.exp), p_is_not_less));
}
