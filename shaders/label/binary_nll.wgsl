// -sum_j (positive t_j log p_j + (1 - t_j) log(1 - p_j))
fn binary_nll(c: Class, label: vec4<f32>, positive: f32) -> EntryEval {
  let on = EntryEval(-times(positive, c.log_p), -(positive * c.rest));
  return either(label, on, EntryEval(-c.log_rest, c.p));
}
