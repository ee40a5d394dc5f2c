// What turns two logits into an entry. The log-ratio comes from the difference of the logits, which is exact where they are
// close, and not from two rounded logarithms. Where the rows lie far apart as a whole, each is taken off its own maximum
// first.

struct Frame {
  max: vec2<f32>,      // the student's and the teacher's
  ln_mass: vec2<f32>,  // log p_j = (z_j - max) / T - ln_mass
  origin: vec2<f32>,
  lift: f32,           // what the maxima differ by, unless each is its row's origin
  masses: f32,         // T times what ln_mass differs by
}

// ln((1 + a) / (1 + b)), whose error is that of the difference and not that of two logarithms.
fn ln_of_masses(a: f32, b: f32) -> f32 {
  if (a < b) {
    return -ln_1p((b - a) / (1.0 + a));
  }
  return ln_1p((a - b) / (1.0 + b));
}

// From the maxima, and the sums of the other exponentials at the temperature.
fn frame_of(tops: vec2<f32>, tails: vec2<f32>) -> Frame {
  // From here on, rounding the difference of the logits costs more than rounding each one's to its maximum.
  let is_far = abs(tops.x - tops.y) > 16.0;
  return Frame(
    tops,
    vec2<f32>(ln_1p(tails.x), ln_1p(tails.y)),
    select(vec2<f32>(0.0), tops, is_far),
    select(tops.x - tops.y, 0.0, is_far),
    params.temperature * ln_of_masses(tails.x, tails.y),
  );
}

fn log_share4(z: Four, top: f32, ln_mass: f32) -> vec4<f32> {
  let log_share = max(z.z - top, vec4<f32>(FAR_BELOW)) * params.inverse_temperature - ln_mass;
  return select(vec4<f32>(FAR_BELOW), log_share, z.present);
}

fn frame_entry(frame: Frame, z: Four, u: Four) -> Entry {
  let log_p = log_share4(z, frame.max.x, frame.ln_mass.x);
  let log_q = log_share4(u, frame.max.y, frame.ln_mass.y);
  let apart = (z.z - frame.origin.x) - (u.z - frame.origin.y);
  let far = vec4<f32>(FAR_APART);
  var log_ratio = clamp(((apart - frame.lift) - frame.masses) * params.inverse_temperature, -far, far);
  log_ratio = select(-far, log_ratio, z.present);
  log_ratio = select(far, log_ratio, u.present | !z.present);
  return entry_of(max(log_p, log_q), log_ratio);
}

// Whether a class makes the divergence infinite: no finite one is that many times its probability.
fn is_infinite4(entry: Entry, eval: EntryEval) -> vec4<bool> {
  return (abs(entry.log_ratio) >= vec4<f32>(FAR_APART)) & (eval.value > entry.greater * 1e18);
}
