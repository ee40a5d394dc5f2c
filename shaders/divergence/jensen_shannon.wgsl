// beta KL(q || m) + (1 - beta) KL(p || m), m = beta q + (1 - beta) p
fn jensen_shannon(entry: Entry, beta: f32) -> EntryEval {
  let student = 1.0 - beta;
  let mixture = entry_mixture(entry, student, beta);
  let x = mixture.less_one;
  let ln_share = mixture_ln(mixture);
  return EntryEval(
    entry.greater * ((mixture.less * entry.ratio.gap_at_x - x * x) + mixture.share * mixture.ln_gap),
    student * entry.greater * entry_pick(entry, entry.ratio.x_exp - entry.ratio.exp * ln_share, -ln_share),
  );
}
