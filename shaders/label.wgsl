// A class and its label; four classes at once. The twin of core/src/label.rs: same names, same order of operations. `class` and
// `target` are reserved in WGSL; a class is `c` here. A masked one has a log-probability of FAR_BELOW.

struct Class {
  p: vec4<f32>,
  log_p: vec4<f32>,
  rest: vec4<f32>,      // 1 - p
  log_rest: vec4<f32>,
}

const LEAST_NORMAL = 0x1p-126;

// `value` where x is a positive normal number, 0 elsewhere, whatever `value` is there.
fn gate(x: vec4<f32>, value: vec4<f32>) -> vec4<f32> {
  return select(vec4<f32>(0.0), value, x >= vec4<f32>(LEAST_NORMAL));
}

// `value` where `factor` is not 0, and 0 elsewhere, whatever the value is there.
fn where_not_0(factor: vec4<f32>, value: vec4<f32>) -> vec4<f32> {
  return gate(abs(factor), value);
}

// ln x for x from 0 to 1, by what it is less than 1.
fn ln_by_rest(x: vec4<f32>, rest: vec4<f32>) -> vec4<f32> {
  return select(-(rest + ln_gap(-rest, x)), vec4<f32>(FAR_BELOW), x < vec4<f32>(LEAST_NORMAL));
}

// x^exponent for x from 0 to 1, by its logarithm; 0 where x is below the least normal number.
fn damp(x: vec4<f32>, ln: vec4<f32>, exponent: f32) -> vec4<f32> {
  if (exponent == 0.0) {
    return vec4<f32>(1.0);
  }
  return gate(x, exp_neg4(min(exponent * ln, vec4<f32>(0.0))));
}

// A constant times what may be infinite: 0 times infinity is no number, and so no better than infinity.
fn times(factor: f32, value: vec4<f32>) -> vec4<f32> {
  if (factor == 0.0) {
    return select(vec4<f32>(0.0), value, is_unbounded4(value));
  }
  return factor * value;
}

// Of what a masked class may amount to, whether it is infinite.
fn is_unbounded4(value: vec4<f32>) -> vec4<bool> {
  return abs(value) > vec4<f32>(1e18);
}

// label on + (1 - label) off, where a weight of 0 takes its side out.
fn either(label: vec4<f32>, on: EntryEval, off: EntryEval) -> EntryEval {
  let left = 1.0 - label;
  return EntryEval(
    where_not_0(label, label * on.value) + where_not_0(left, left * off.value),
    label * on.pull + left * off.pull,
  );
}

// One of a softmax, by its log-probability.
fn class_softmax(log_p: vec4<f32>) -> Class {
  let exp = exp_and_gaps(log_p);
  let rest = -exp.exp_m1;
  return Class(exp.exp, log_p, rest, ln_by_rest(rest, exp.exp));
}

// 1 / (1 + exp(-z))
fn class_sigmoid(z: vec4<f32>) -> Class {
  let size = abs(z);
  let exp = exp_neg4(-size);
  let greater = 1.0 / (1.0 + exp);
  let less = exp * greater;
  // ln(1 - less), two terms of one sign.
  let log_greater = -(less + ln_gap(-less, greater));
  let log_less = log_greater - size;
  return Class(
    pick(z, less, greater),
    pick(z, log_less, log_greater),
    pick(z, greater, less),
    pick(z, log_greater, log_less),
  );
}

// The other answer to the same question.
fn class_turned(c: Class) -> Class {
  return Class(c.rest, c.log_rest, c.p, c.log_p);
}
