// -sum_j t_j log p_j
fn soft_targets(c: Class, label: vec4<f32>) -> EntryEval {
  return EntryEval(-where_not_0(label, label * c.log_p), -label);
}
