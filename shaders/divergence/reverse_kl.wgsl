// sum_j p_j (log p_j - log q_j)
fn reverse_kl(entry: Entry) -> EntryEval {
  return EntryEval(
    entry.greater * entry_pick(entry, entry.ratio.gap_at_x, entry.ratio.gap_at_0),
    entry.greater * entry_pick(entry, entry.ratio.x_exp, -entry.ratio.x),
  );
}
