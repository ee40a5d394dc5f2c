// sum_j a_j |p_j - t_j|^gamma B_j, B = -t log p - (1 - t) log(1 - p)
fn quality_focal(c: Class, label: vec4<f32>, alpha: f32, gamma: f32) -> EntryEval {
  let left = 1.0 - label;
  let is_on = label > vec4<f32>(0.0);
  let share = select(vec4<f32>(1.0 - alpha), vec4<f32>(alpha), is_on);
  let off = c.p * left - label * c.rest;
  let far = abs(off);
  // 1 - |p - t|
  let near = pick(off, left + c.p, c.rest + label);
  let less_one = damp(far, ln_by_rest(far, near), gamma - 1.0);
  let nll = either(label, EntryEval(-c.log_p, c.p), EntryEval(-c.log_rest, c.p)).value;
  let inner = c.p * c.rest * nll * gamma;
  let of_nll = less_one * far * nll;
  let value = select(times(1.0 - alpha, of_nll), times(alpha, of_nll), is_on);
  return EntryEval(value, share * less_one * (far * off + pick(off, -inner, inner)));
}
