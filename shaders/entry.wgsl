// One class of two rows, the student's and the teacher's; four classes at once. The twin of core/src/divergence.rs: same names,
// and the same order of operations as there from two logarithms, since no shares are kept here. A class that one row masks lies
// FAR_APART.

// What the logarithms of two probabilities differ by where one of them is 0.
const FAR_APART = 1e38;

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
