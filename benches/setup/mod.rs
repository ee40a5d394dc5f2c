//! What the benches over given logits share.

use std::time::Instant;
use tokenloss::Element;

/// A target for each row, spread over the vocabulary.
pub(crate) fn targets(rows: usize, vocab: usize) -> Vec<i32> {
    (0..rows).map(|row| ((row * 7919) % vocab) as i32).collect()
}

/// Numbers from 0 to 1 that are the same on every machine.
pub(crate) fn uniform() -> impl FnMut() -> f32 {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// Logits like a model's: a bell of width 3, and a target that stands out in most rows.
pub(crate) fn logits<E: Element>(uniform: &mut impl FnMut() -> f32, vocab: usize, targets: &[i32]) -> Vec<E> {
    let mut z: Vec<E> = (0..targets.len() * vocab)
        .map(|_| E::from_f32(3.0 * (uniform() + uniform() + uniform() + uniform() - 2.0)))
        .collect();
    for (row, &target) in targets.iter().enumerate() {
        z[row * vocab + target as usize] = E::from_f32(4.0 + 12.0 * uniform());
    }
    z
}

/// The one in the middle.
pub(crate) fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Seconds of one run.
pub(crate) fn time(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}
