// sum_j p_j (log p_j - log q_j)
fn reverse_kl(entry: Entry) -> EntryEval {
  return EntryEval(entry_student_gap(entry), entry_p_log_ratio(entry));
}
