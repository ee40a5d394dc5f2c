// sum_j q_j (log q_j - log p_j)
fn forward_kl(entry: Entry) -> EntryEval {
  let value = entry.greater * entry_pick(entry, entry.ratio.gap_at_0, entry.ratio.gap_at_x);
  return EntryEval(value, entry_difference(entry));
}
