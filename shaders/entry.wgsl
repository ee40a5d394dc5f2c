// One class of two rows, the student's and the teacher's; four classes at once. The twin of core/src/divergence.rs and
// core/src/number.rs: same names, and the same order of operations as there from two logarithms, since no shares are kept
// here. It differs where WGSL does: infinity cannot be relied on in arithmetic, so a class that one row masks lies FAR_APART.

// What the logarithms of two probabilities differ by where one of them is 0.
const FAR_APART = 1e38;

// The exponential of x <= 0, in the forms in which nothing cancels near x = 0.
struct Exp {
  x: vec4<f32>,
  exp: vec4<f32>,
  exp_m1: vec4<f32>,
  x_exp: vec4<f32>,
  gap_at_0: vec4<f32>,   // e^x - 1 - x
  gap_at_x: vec4<f32>,   // 1 - e^x + x e^x
}

struct Entry {
  greater: vec4<f32>,    // max(p, q)
  log_ratio: vec4<f32>,  // log p - log q; where both are 0 this is anything
  ratio: Exp,            // min(p, q) / max(p, q) as the exponential of -|log p - log q|; 1 where both are 0
}

// What a mixture of both rows gives a class.
struct Mixture {
  less: vec4<f32>,       // the weight of the row that gives the class less
  share: vec4<f32>,      // m / greater
  less_one: vec4<f32>,   // m / greater - 1
  ln_gap: vec4<f32>,     // m / greater - 1 - ln(m / greater)
}

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

// From max(log p, log q) and log p - log q.
fn entry_of(log_greater: vec4<f32>, log_ratio: vec4<f32>) -> Entry {
  let greater = exp_neg4(log_greater);
  let apart = select(vec4<f32>(0.0), -abs(log_ratio), greater > vec4<f32>(0.0));
  return Entry(greater, log_ratio, exp_and_gaps(apart));
}

// One of two numbers, by which of the rows gives the class less.
fn entry_pick(entry: Entry, p_is_less: vec4<f32>, otherwise: vec4<f32>) -> vec4<f32> {
  return pick(entry.log_ratio, p_is_less, otherwise);
}

fn entry_p(entry: Entry) -> vec4<f32> {
  return entry.greater * entry_pick(entry, entry.ratio.exp, vec4<f32>(1.0));
}

fn entry_q(entry: Entry) -> vec4<f32> {
  return entry.greater * entry_pick(entry, vec4<f32>(1.0), entry.ratio.exp);
}

// p - q
fn entry_difference(entry: Entry) -> vec4<f32> {
  return entry.greater * entry_pick(entry, entry.ratio.exp_m1, -entry.ratio.exp_m1);
}

// p (log p - log q), 0 where the student masks the class.
fn entry_p_log_ratio(entry: Entry) -> vec4<f32> {
  return entry.greater * entry_pick(entry, entry.ratio.x_exp, -entry.ratio.x);
}

// p (log p - log q) + q - p
fn entry_student_gap(entry: Entry) -> vec4<f32> {
  return entry.greater * entry_pick(entry, entry.ratio.gap_at_x, entry.ratio.gap_at_0);
}

// q (log q - log p) + p - q
fn entry_teacher_gap(entry: Entry) -> vec4<f32> {
  return entry.greater * entry_pick(entry, entry.ratio.gap_at_0, entry.ratio.gap_at_x);
}

// student p + teacher q, of two weights that add up to 1.
fn entry_mixture(entry: Entry, student: f32, teacher: f32) -> Mixture {
  let less = entry_pick(entry, vec4<f32>(student), vec4<f32>(teacher));
  let greater = entry_pick(entry, vec4<f32>(teacher), vec4<f32>(student));
  let less_one = less * entry.ratio.exp_m1;
  let share = greater + less * entry.ratio.exp;
  return Mixture(less, share, less_one, ln_gap(less_one, share));
}

// ln(m / greater)
fn mixture_ln(mixture: Mixture) -> vec4<f32> {
  return mixture.less_one - mixture.ln_gap;
}
