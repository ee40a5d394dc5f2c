// sum_j t_j B_j where t_j is above 0, alpha F(1 - p_j) where it is 0
fn varifocal(c: Class, label: vec4<f32>, alpha: f32, gamma: f32) -> EntryEval {
  let nll = either(label, EntryEval(-c.log_p, -c.rest), EntryEval(-c.log_rest, c.p));
  let off = focal_of_class(class_turned(c), gamma);
  return EntryEval(
    pick(-label, label * nll.value, times(alpha, off.value)),
    pick(-label, label * nll.pull, -(alpha * off.pull)),
  );
}
