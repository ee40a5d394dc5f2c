// mix KL(q || p) + (1 - mix) KL(p || q)
fn mixed_kl(entry: Entry, mix: f32) -> EntryEval {
  let forward = forward_kl(entry);
  let reverse = reverse_kl(entry);
  // A part without weight must not bring in its infinities.
  if (mix == 0.0) {
    return reverse;
  }
  if (mix == 1.0) {
    return forward;
  }
  let rest = 1.0 - mix;
  return EntryEval(mix * forward.value + rest * reverse.value, mix * forward.pull + rest * reverse.pull);
}
