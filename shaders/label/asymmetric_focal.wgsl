// -sum_j t_j (1 - p_j)^gamma_pos log p_j + (1 - t_j) m_j^gamma_neg log(1 - m_j), m_j = max(p_j - margin, 0), its powers held
fn asymmetric_focal(c: Class, label: vec4<f32>, gamma_pos: f32, gamma_neg: f32, margin: f32) -> EntryEval {
  let of_on = damp(c.rest, c.log_rest, gamma_pos);
  let on = EntryEval(gate(of_on, -(of_on * c.log_p)), -(of_on * c.rest));
  var m = c.p;
  var ln_m = c.log_p;
  var ln_rest = c.log_rest;
  // Without a margin (1 - p) / (1 - m) is 1, also where both are 0.
  var inner = c.p;
  if (margin != 0.0) {
    m = max(c.p - margin, vec4<f32>(0.0));
    let rest = min(c.rest + margin, vec4<f32>(1.0));
    ln_m = ln_by_rest(m, rest);
    ln_rest = ln_by_rest(rest, m);
    inner = c.p * c.rest / rest;
  }
  let of_off = gate(m, damp(m, ln_m, gamma_neg));
  return either(label, on, EntryEval(gate(of_off, -(of_off * ln_rest)), of_off * inner));
}
