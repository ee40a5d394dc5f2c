// KL(p || m), m = alpha p + (1 - alpha) q
fn skew_reverse_kl(entry: Entry, alpha: f32) -> EntryEval {
  let teacher = 1.0 - alpha;
  let mixture = entry_mixture(entry, alpha, teacher);
  let gap = mixture.ln_gap;
  let ln_share = mixture_ln(mixture);
  let p_is_less = (entry.ratio.gap_at_x + entry.ratio.exp * gap) - mixture.less_one * entry.ratio.exp_m1;
  let slope = alpha * teacher * entry.ratio.exp_m1 / mixture.share;
  return EntryEval(
    entry.greater * entry_pick(entry, p_is_less, gap),
    entry.greater * entry_pick(entry, entry.ratio.x_exp - entry.ratio.exp * (ln_share + slope), slope - ln_share),
  );
}
