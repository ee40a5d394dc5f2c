// sum_j q_j (log q_j - log p_j)
fn forward_kl(entry: Entry) -> EntryEval {
  return EntryEval(entry_teacher_gap(entry), entry_difference(entry));
}
