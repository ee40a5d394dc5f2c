//! How fast one step reduces the risk: section 6 of "Beyond Log Likelihood" (arXiv 2510.00526), in the part of
//! it that holds.

use super::{TheoryError, at_logit, distribution, ln, logit, refined, weight_at};
use crate::{TargetProb, TokenObjective};
use num_traits::Float;

/// `f'(q) q`; the slope at a probability.
fn slope(objective: &impl TokenObjective, q: f64) -> f64 {
    objective.of_target(TargetProb { log_p: ln(q), one_minus_p: 1.0 - q }).slope
}

/// The rate at which gradient flow on an objective reduces the risk, for one prompt.
///
/// With the model's distribution `q`, the true conditional `r`, labels from `t`, and logits as parameters:
///
/// ```text
/// risk   R = -sum_a r_a q_a                        minus the probability that a sample of q is right
/// flow   dz/dt = -sum_b t_b slope(q_b) (e_b - q)
/// rate   -dR/dt = -sum_a sum_b r_a t_b q_a slope(q_b) <e_a - q, e_b - q>
/// ```
///
/// Larger is better. This is the model with orthonormal features; the true token and the label are drawn
/// independently. Clean labels are `t = r` with both one-hot.
///
/// **Domain.** `q`, `r` and `t` are distributions over the same classes.
///
/// **Numerics.** O(classes): `<e_a - q, e_b - q> = [a = b] - q_a - q_b + |q|^2` splits the double sum.
///
/// # Errors
/// [`TheoryError`] if one of the three is not a distribution or their lengths differ.
///
/// ```
/// use tokenloss_core::{Nll, theory::risk_rate};
/// // Half right, clean label: the flow moves both logits by 1/2 and q by 1/4.
/// let rate = risk_rate(&Nll, &[0.5, 0.5], &[1.0, 0.0], &[1.0, 0.0])?;
/// assert!((rate - 0.25).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::theory::TheoryError>(())
/// ```
///
/// **Source.** corollary E.6 of the paper, with the features' Gram matrix the identity.
pub fn risk_rate<O: TokenObjective>(
    objective: &O,
    q: &[f64],
    r: &[f64],
    t: &[f64],
) -> Result<f64, TheoryError> {
    rate(&|q| -slope(objective, q), q, r, t)
}

/// The rate of `f1` less the rate of `f2`; see [`risk_rate`].
///
/// ```text
/// sum_a sum_b r_a t_b q_b q_a (f2' - f1')(q_b) <e_a - q, e_b - q>
/// ```
///
/// Positive where `f1` reduces the risk faster. With a clean label a = b and the inner product is a square, so
/// the steeper objective (`f2' < f1' < 0`) always wins; with a wrong one it is `-q_a - q_b + |q|^2`, which is
/// negative for all but the least confident, and the flatter one wins. It is label noise that decides.
///
/// # Errors
/// Those of [`risk_rate`].
///
/// ```
/// use tokenloss_core::{Nll, Power, theory::risk_rate_difference};
/// let (sure, clean, wrong) = ([0.9, 0.1], [1.0, 0.0], [0.0, 1.0]);
/// let p = Power::new(1.0)?;
/// assert!(risk_rate_difference(&p, &Nll, &sure, &clean, &clean)? < 0.0);
/// assert!(risk_rate_difference(&p, &Nll, &sure, &clean, &wrong)? > 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Source.** equation 15 of the paper.
pub fn risk_rate_difference<O1: TokenObjective, O2: TokenObjective>(
    f1: &O1,
    f2: &O2,
    q: &[f64],
    r: &[f64],
    t: &[f64],
) -> Result<f64, TheoryError> {
    rate(&|q| slope(f2, q) - slope(f1, q), q, r, t)
}

fn rate(push: &impl Fn(f64) -> f64, q: &[f64], r: &[f64], t: &[f64]) -> Result<f64, TheoryError> {
    distribution("q", q.len(), q)?;
    distribution("r", q.len(), r)?;
    distribution("t", q.len(), t)?;
    let square: f64 = q.iter().map(|q| q * q).sum();
    // sum_a r_a q_a (-q_a + |q|^2), what does not depend on b, and sum_a r_a q_a, which -q_b multiplies.
    let (mut fixed, mut right) = (0.0, 0.0);
    for (&q, &r) in q.iter().zip(r) {
        fixed += r * q * (square - q);
        right += r * q;
    }
    let mut sum = 0.0;
    for ((&q, &r), &t) in q.iter().zip(r).zip(t) {
        // A label that never comes may have a push of infinite size.
        if t > 0.0 {
            sum += t * push(q) * (r * q + fixed - q * right);
        }
    }
    Ok(sum)
}

/// The greatest value of `x y (-x - y + x^2 + y^2)` over `x, y >= 0`, `x + y <= 1`: `(11 sqrt(33) - 59) / 768`.
/// It bounds what a wrong label can contribute against the flatter objective; see [`noisy_product`].
///
/// ```
/// let exact = (11.0 * 33f64.sqrt() - 59.0) / 768.0;
/// assert!((tokenloss_core::theory::NOISY_PRODUCT_MAX / exact - 1.0).abs() < 1e-14);
/// ```
///
/// **Source.** lemma E.7 of the paper, part 2.
pub const NOISY_PRODUCT_MAX: f64 = 0.005_455_975_406_143_64;

/// Where [`NOISY_PRODUCT_MAX`] is attained: `x = y = (9 - sqrt(33)) / 24`.
///
/// ```
/// let exact = (9.0 - 33f64.sqrt()) / 24.0;
/// assert!((tokenloss_core::theory::NOISY_PRODUCT_PEAK / exact - 1.0).abs() < 1e-15);
/// ```
///
/// **Source.** lemma E.7 of the paper, part 2.
pub const NOISY_PRODUCT_PEAK: f64 = 0.135_643_223_060_915_47;

/// `q_i q_j <e_i - q, e_j - q> = q_i q_j (-q_i - q_j + |q|^2)` for two different classes of a distribution.
///
/// # Errors
/// [`TheoryError`] if `q` is not a distribution or a class does not exist.
///
/// ```
/// let product = tokenloss_core::theory::noisy_product(&[0.5, 0.5], 0, 1)?;
/// assert_eq!(product, -0.125);
/// # Ok::<(), tokenloss_core::theory::TheoryError>(())
/// ```
///
/// **Source.** lemma E.7 of the paper.
pub fn noisy_product(q: &[f64], i: usize, j: usize) -> Result<f64, TheoryError> {
    distribution("q", q.len(), q)?;
    for class in [i, j] {
        if class >= q.len() {
            return Err(TheoryError::Class { class, classes: q.len() });
        }
    }
    let square: f64 = q.iter().map(|q| q * q).sum();
    Ok(q[i] * q[j] * (square - q[i] - q[j]))
}

/// How much label noise it takes until the flatter of two objectives reduces the risk faster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseThreshold {
    /// `A`, the rate difference with clean labels; negative where `f2` is steeper.
    pub clean: f64,
    /// `B`, the rate difference with wrong labels, uniform over the other classes.
    pub noisy: f64,
    /// `E* = |A| / (B + |A|)`, the share of wrong labels at which the two are equal; 0 if `f1` is no slower
    /// with clean labels already, `None` if no noise makes it so.
    pub share: Option<f64>,
}

/// The noise threshold for one prompt with one true class: labels are right with probability `1 - E` and
/// otherwise uniform over the other classes.
///
/// ```text
/// A = q_y^2 (f2' - f1')(q_y) |e_y - q|^2
/// B = mean over b != y of  q_y q_b (f2' - f1')(q_b) (-q_y - q_b + |q|^2)
/// E* = |A| / (B + |A|)
/// ```
///
/// The more confident the model is in the truth, the less noise it takes: at p = .3 over 50 classes 62 %, at
/// p = .95 a quarter of a percent.
///
/// # Errors
/// [`TheoryError`] if `q` is not a distribution or `truth` is not one of its classes.
///
/// ```
/// use tokenloss_core::{Nll, Power, theory::noise_threshold};
/// let mut q = [0.2 / 49.0; 50];
/// q[0] = 0.8;
/// let share = noise_threshold(&Power::new(1.0)?, &Nll, &q, 0)?.share.unwrap();
/// assert!((share - 0.048).abs() < 5e-4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Source.** theorem E.8 of the paper (the condition on `E`), evaluated.
pub fn noise_threshold<O1: TokenObjective, O2: TokenObjective>(
    f1: &O1,
    f2: &O2,
    q: &[f64],
    truth: usize,
) -> Result<NoiseThreshold, TheoryError> {
    distribution("q", q.len(), q)?;
    let right = *q.get(truth).ok_or(TheoryError::Class { class: truth, classes: q.len() })?;
    let push = |q: f64| slope(f2, q) - slope(f1, q);
    let square: f64 = q.iter().map(|q| q * q).sum();
    let clean = right * push(right) * (1.0 - 2.0 * right + square);
    let mut noisy = 0.0;
    for (class, &wrong) in q.iter().enumerate() {
        if class != truth {
            noisy += right * push(wrong) * (square - right - wrong);
        }
    }
    noisy /= (q.len() - 1) as f64;
    let share = if clean >= 0.0 {
        Some(0.0)
    } else if noisy > 0.0 {
        Some(-clean / (noisy - clean))
    } else {
        None
    };
    Ok(NoiseThreshold { clean, noisy, share })
}

/// The constants of the paper's formal theorem for a pair of objectives, and whether its condition holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SideCondition {
    /// The smallest `c` with `q (f2' - f1')(q) >= -c` for `q` in [0, .55].
    pub c: f64,
    /// The largest `d` with `q (f2' - f1')(q) <= -d` for `q` in [.55, .95].
    pub d: f64,
    /// `c < 10 d`, as stated.
    pub holds: bool,
    /// What the last inequality of the proof asks for: the least ratio of prompts with `q_y* + q_label` in
    /// [.55, .95] to prompts with at most .5, `c / d * NOISY_PRODUCT_MAX / .045`. Infinite if `d <= 0`.
    pub ratio: f64,
}

/// The side condition of the paper's theorem E.8 for `f1` against the steeper `f2`.
///
/// It excludes the paper's own example, `1 - p` against nll, and holds for `power` against nll only above
/// `alpha = ln .9 / ln .95 = 2.054`.
///
/// **Accuracy.** The extremes are taken over a grid of 1/64 in logit and both ends of each interval: exact
/// where `q (f2' - f1')(q)` is monotone, as it is between nll and the power family. Jumps are not looked for.
///
/// ```
/// use tokenloss_core::{Nll, Power, theory::side_condition};
/// assert!(!side_condition(&Power::new(1.0)?, &Nll).holds);
/// assert!(side_condition(&Power::new(10.0)?, &Nll).holds);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** theorem E.8 of the paper.
pub fn side_condition<O1: TokenObjective, O2: TokenObjective>(f1: &O1, f2: &O2) -> SideCondition {
    const LOW: f64 = 0.55;
    const HIGH: f64 = 0.95;
    // The bound on |<e_a - q, e_b - q>| at a sum of probabilities of .55 or .95: 3 s - 1 - 2 s^2.
    const INNER: f64 = 0.045;
    let gap = |q: f64| slope(f1, q) - slope(f2, q);
    let on_grid = |from: f64, to: f64, pick: &dyn Fn(f64, f64) -> f64, start: f64| {
        let (a, b) = (logit(from).max(-40.0), logit(to));
        let steps = Float::ceil((b - a) * 64.0);
        (0..=steps as u32)
            .map(|i| at_logit(a + f64::from(i) * (b - a) / steps).p())
            .fold(start, |acc, q| pick(acc, gap(q)))
    };
    let c = on_grid(0.0, LOW, &f64::max, gap(0.0).max(gap(LOW)));
    let d = on_grid(LOW, HIGH, &f64::min, gap(LOW).min(gap(HIGH)));
    let ratio = if d > 0.0 { c / d * (NOISY_PRODUCT_MAX / INNER) } else { f64::INFINITY };
    SideCondition { c, d, holds: c < 10.0 * d, ratio }
}

/// How long gradient flow takes from one probability to another, in units of the step size.
///
/// With the target's logit `y` against the rest as the only parameter, `dy/dt = W(p)`, that is
///
/// ```text
/// dp/dt = p (1 - p) W(p)        time = integral of dy / W over the logits between
/// ```
///
/// For the power family from .001 to .5: 7.9 at `alpha = 0`, 64.3 at 1/2, 1013 at 1. This is why `1 - p` stalls
/// where the model is weak.
///
/// **Domain.** `0 < from <= to < 1`; NaN otherwise. +infinity where `W` is 0 or negative on the way.
///
/// **Accuracy.** 1e-12 relative, by the quadrature of [`integral`](super::integral).
///
/// ```
/// use tokenloss_core::{Nll, theory::two_class_time};
/// assert!((two_class_time(&Nll, 0.001, 0.5) - 7.906).abs() < 1e-3);
/// ```
///
/// **Source.** derived; compare the escape times of arXiv 2604.25907.
pub fn two_class_time<O: TokenObjective>(objective: &O, from: f64, to: f64) -> f64 {
    if !(from > 0.0 && from <= to && to < 1.0) {
        return f64::NAN;
    }
    let (cuts, len) = super::cuts(objective, [logit(from), logit(to)]);
    let f = |y: f64| {
        let weight = weight_at(objective, at_logit(y));
        if weight > 0.0 { 1.0 / weight } else { f64::INFINITY }
    };
    let mut time = 0.0;
    for piece in cuts[..len].windows(2) {
        let (from, to) = (piece[0], piece[1]);
        let panels = Float::ceil(to - from);
        let step = (to - from) / panels;
        for i in 0..panels as u32 {
            let (a, b) = (from + f64::from(i) * step, from + f64::from(i + 1) * step);
            let whole = super::gauss(&f, a, b);
            if !whole.is_finite() {
                return f64::INFINITY;
            }
            time += refined(&f, a, b, whole, 1e-14 * whole, 20);
        }
    }
    time
}
