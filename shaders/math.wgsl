// Elementary functions whose relative error is bounded, whatever the driver does to the built-in ones: `exp` is
// off by 4e-6 near -87 on software drivers, and `(1 + x) - 1` may be rewritten to `x`. Nothing here has a
// difference that cancels to its own input; powers of two are built from their bits.

// The lowest finite number, for the maximum of nothing.
const LOWEST = -0x1.fffffep+127;

// A difference of logits, kept finite: below -87 its exponential is 0 anyway, and 0 times this is 0.
const FAR_BELOW = -1e30;

// Sees NaN and infinity, by their bits: comparisons do not.
fn is_special(bits: vec4<u32>) -> vec4<bool> {
  return (bits & vec4<u32>(0x7fffffffu)) >= vec4<u32>(0x7f800000u);
}

fn is_masked(bits: vec4<u32>) -> vec4<bool> {
  return bits == vec4<u32>(0xff800000u);
}

// exp(r) for |r| <= ln(2) / 2, Taylor to degree 7: truncation 3e-9.
fn exp_poly(r: vec4<f32>) -> vec4<f32> {
  return 1.0 + r * (1.0 + r * (0.5 + r * (0.16666667 + r * (0.041666667 + r * (0.008333334 + r * (0.0013888889
    + r * 0.00019841270))))));
}

// exp(x) for x <= 0: relative error 2.5e-7 on [-87, 0], exactly 0 below.
fn exp_neg4(x: vec4<f32>) -> vec4<f32> {
  let y = max(x, vec4<f32>(-87.0));
  let n = round(y * 1.44269504);
  // ln 2 in two parts; n times the first is exact.
  let r = (y - n * 0.693145752) - n * 1.42860677e-6;
  let power = bitcast<vec4<f32>>((vec4<i32>(n) + 127) << vec4<u32>(23u));
  return select(exp_poly(r) * power, vec4<f32>(0.0), x < vec4<f32>(-87.0));
}

fn exp_neg(x: f32) -> f32 {
  return exp_neg4(vec4<f32>(x)).x;
}

// exp(x) for any x: 0 below -87, the largest power that fits above 88.7228.
fn exp_any(x: f32) -> f32 {
  let y = clamp(x, -87.0, 88.7228);
  let n = round(y * 1.44269504);
  let r = (y - n * 0.693145752) - n * 1.42860677e-6;
  // 2^128 is no f32, so the power is applied in two halves.
  let half = i32(n) / 2;
  let low = bitcast<f32>((half + 127) << 23u);
  let high = bitcast<f32>((i32(n) - half + 127) << 23u);
  return select(exp_poly(vec4<f32>(r)).x * low * high, 0.0, x < -87.0);
}

// exp(x) - 1 for any x.
fn exp_m1(x: f32) -> f32 {
  if (abs(x) < 0.5) {
    return x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666667 + x * (0.008333334 + x * (0.0013888889
      + x * (0.00019841270 + x * 0.000024801588)))))));
  }
  return exp_any(x) - 1.0;
}

// exp(x) - 1 for x <= 0.
fn exp_m1_neg4(x: vec4<f32>) -> vec4<f32> {
  let near = x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666667 + x * (0.008333334 + x * (0.0013888889
    + x * (0.00019841270 + x * 0.000024801588)))))));
  return select(exp_neg4(x) - 1.0, near, x > vec4<f32>(-0.5));
}

// 2 artanh(s) for |s| <= 0.2, which is ln((1 + s) / (1 - s)).
fn ln_ratio4(s: vec4<f32>) -> vec4<f32> {
  let q = s * s;
  return 2.0 * s * (1.0 + q * (0.33333334 + q * (0.2 + q * (0.14285715 + q * (0.11111111 + q * 0.09090909)))));
}

fn ln_ratio(s: f32) -> f32 {
  return ln_ratio4(vec4<f32>(s)).x;
}

// ln(x) for a normal x > 0.
fn ln4(x: vec4<f32>) -> vec4<f32> {
  // x = m 2^e with m from sqrt(1/2) to sqrt(2), so that x near 1 has e = 0 and keeps its relative accuracy.
  let e = (bitcast<vec4<i32>>(x) - 0x3f3504f3) >> vec4<u32>(23u);
  let m = bitcast<vec4<f32>>(bitcast<vec4<i32>>(x) - (e << vec4<u32>(23u)));
  let n = vec4<f32>(e);
  return n * 0.693145752 + (n * 1.42860677e-6 + ln_ratio4((m - 1.0) / (m + 1.0)));
}

// The same, and -infinity at 0.
fn ln(x: f32) -> f32 {
  if (x == 0.0) {
    return bitcast<f32>(params.neg_infinity);
  }
  return ln4(vec4<f32>(x)).x;
}

// ln(1 + x) for x >= 0.
fn ln_1p4(x: vec4<f32>) -> vec4<f32> {
  return select(ln4(1.0 + x), ln_ratio4(x / (2.0 + x)), x < vec4<f32>(0.5));
}

// ln(1 + x) for x > -1.
fn ln_1p(x: f32) -> f32 {
  if (x > -0.25 && x < 0.5) {
    return ln_ratio(x / (2.0 + x));
  }
  return ln(1.0 + x);
}

// x^y for x from 0 to 1 and y >= 0. The error is that of the exponential's argument, y ln x.
fn pow_of_fraction(x: f32, y: f32) -> f32 {
  if (y == 0.0) {
    return 1.0;
  }
  if (x == 0.0) {
    return 0.0;
  }
  return exp_any(y * ln(x));
}
