// sum_j (p_j - t_j)^2
fn brier(c: Class, label: vec4<f32>) -> EntryEval {
  let off = c.p * (1.0 - label) - label * c.rest;
  return EntryEval(off * off, c.p * (off + off));
}
