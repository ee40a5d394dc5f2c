// sum_j t_j (1 - p_j^alpha) / alpha
fn soft_power(c: Class, label: vec4<f32>, alpha: f32) -> EntryEval {
  let power = exp_and_gaps(alpha * c.log_p);
  return EntryEval(-(label * power.exp_m1) / alpha, -(label * power.exp));
}
