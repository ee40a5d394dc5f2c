// What a class is computed with, four at once. The twin of core/src/number.rs: same names, same order of operations. It differs
// where WGSL does: infinity cannot be relied on in arithmetic, so what lies infinitely far off is a great number.

// The exponential of x <= 0, in the forms in which nothing cancels near x = 0.
struct Exp {
  x: vec4<f32>,
  exp: vec4<f32>,
  exp_m1: vec4<f32>,
  x_exp: vec4<f32>,
  gap_at_0: vec4<f32>,   // e^x - 1 - x
  gap_at_x: vec4<f32>,   // 1 - e^x + x e^x
}

// Of one class: its part of the value, and its pull on the gradient.
struct EntryEval {
  value: vec4<f32>,
  pull: vec4<f32>,
}

// `negative` where x is below 0, `otherwise` elsewhere.
fn pick(x: vec4<f32>, negative: vec4<f32>, otherwise: vec4<f32>) -> vec4<f32> {
  return select(otherwise, negative, x < vec4<f32>(0.0));
}

// e^x = 2^n (1 + t) with t = r + r^2 q(r), q minimax in its own relative error, 2.7e-9, and x as -87 below that. With
// n = 0, where the gaps are small, all that is taken off is exact.
fn exp_and_gaps(x: vec4<f32>) -> Exp {
  let y = max(x, vec4<f32>(-87.0));
  let n = round(y * 1.44269504);
  let r = (y - n * 0.693145752) - n * 1.42860677e-6;
  let second = r * r * (0.5 + r * (0.16666667 + r * (0.041666467 + r * (0.008333361 + r * (0.0013933607
    + r * 0.00019857803)))));
  let t = r + second;
  let is_zero = x < vec4<f32>(-87.0);
  let power = select(bitcast<vec4<f32>>((vec4<i32>(n) + 127) << vec4<u32>(23u)), vec4<f32>(0.0), is_zero);
  let exp = power * t + power;
  let less = power - 1.0;
  return Exp(
    x,
    exp,
    power * t + less,
    y * exp,
    power * second + ((power * r - x) + less),
    power * (y * t + ((y - r) - second)) + (1.0 - power),
  );
}

// x - ln(1 + x) for x from -1 to 0. ln(1 + x) = n ln 2 + ln(1 + f) and ln(1 + f) = f + f^2 k(f), k minimax in its own
// relative error, 4.7e-8. With n = 0, where the gap is small, f is x itself.
fn ln_gap(x: vec4<f32>, one_plus: vec4<f32>) -> vec4<f32> {
  let e = (bitcast<vec4<i32>>(one_plus) - 0x3f3504f3) >> vec4<u32>(23u);
  let m = bitcast<vec4<f32>>(bitcast<vec4<i32>>(one_plus) - (e << vec4<u32>(23u)));
  let n = vec4<f32>(e);
  let f = pick(n, m - 1.0, x);
  let k = -0.49999997 + f * (0.33333325 + f * (-0.25000778 + f * (0.20001636 + f * (-0.16627093 + f * (0.14196144
    + f * (-0.13114041 + f * (0.1277735 + f * -0.077780455)))))));
  return ((x - f) - n * 0.6931472) - f * f * k;
}
