// sum_j t_j p_j
fn expected_cost(c: Class, label: vec4<f32>) -> EntryEval {
  let cost = label * c.p;
  return EntryEval(cost, cost);
}
