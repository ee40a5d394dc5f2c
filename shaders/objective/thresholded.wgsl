// A gate: whether the row is kept. The inner objective is called only where it is.
fn thresholded(prob: TargetProb, lo: f32, hi: f32) -> bool {
  let p = target_prob_p(prob);
  return p >= lo && p <= hi;
}
