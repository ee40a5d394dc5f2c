// KL(q || m), m = alpha q + (1 - alpha) p
fn skew_kl(entry: Entry, alpha: f32) -> EntryEval {
  let student = 1.0 - alpha;
  let mixture = entry_mixture(entry, student, alpha);
  let gap = mixture.ln_gap;
  let q_is_less = (entry.ratio.gap_at_x + entry.ratio.exp * gap) - mixture.less_one * entry.ratio.exp_m1;
  // p (p - q) / m, both sides of which have the greater once too often.
  let slope = entry.ratio.exp_m1 / mixture.share;
  return EntryEval(
    entry.greater * entry_pick(entry, gap, q_is_less),
    student * student * entry.greater * entry_pick(entry, entry.ratio.exp * slope, -slope),
  );
}
