// -(1 - p)^gamma log p, and its derivative by the logit.
fn focal_of_class(c: Class, gamma: f32) -> EntryEval {
  let damped = damp(c.rest, c.log_rest, gamma);
  let p_log_p = gate(c.p, c.p * c.log_p);
  return EntryEval(gate(damped, -(damped * c.log_p)), damped * (gamma * p_log_p - c.rest));
}

// sum_j alpha t_j F(p_j) + (1 - alpha) (1 - t_j) F(1 - p_j)
fn binary_focal(c: Class, label: vec4<f32>, alpha: f32, gamma: f32) -> EntryEval {
  let left = 1.0 - alpha;
  let on = focal_of_class(c, gamma);
  let off = focal_of_class(class_turned(c), gamma);
  return either(
    label,
    EntryEval(times(alpha, on.value), alpha * on.pull),
    EntryEval(times(left, off.value), -(left * off.pull)),
  );
}
