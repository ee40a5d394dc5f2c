//! What the theory says of an objective: where it pushes, which way it leans, what it converges to.
//!
//! A token objective is a function `f(p)` of the target's probability. By the chain rule through the softmax
//!
//! ```text
//! dL/dz_j = f'(p) p ([j = t] - p_j) = slope ([j = t] - p_j)
//! ```
//!
//! so that descent pushes the target's logit up by `W(p) = -f'(p) p (1 - p)`, and everything here follows from
//! `W`. (The lemma as printed in "Beyond Log Likelihood", arXiv 2510.00526, has the sign of the descent step.)
//!
//! All of it is `f64`, without `std` and without allocation. Where a closed form exists it is given beside the
//! numerical one, which takes any [`TokenObjective`].
//!
//! ```
//! use tokenloss_core::{Power, theory};
//!
//! let objective = Power::new(10.0)?;
//! let peak = theory::peak(&objective);
//! assert!((peak.p - 10.0 / 11.0).abs() < 1e-7);
//! assert_eq!(theory::leaning(&objective), theory::Leaning::PriorLeaning);
//! # Ok::<(), tokenloss_core::Error>(())
//! ```

use crate::{TargetProb, TokenObjective};
use core::fmt;
use num_traits::Float;

mod population;
mod risk;

pub use population::population_minimiser;
pub use risk::{
    NOISY_PRODUCT_MAX, NOISY_PRODUCT_PEAK, NoiseThreshold, SideCondition, noise_threshold, noisy_product,
    risk_rate, risk_rate_difference, side_condition, two_class_time,
};

// In f64 these are inherent with std and num-traits' without it; one name for both.
fn ln(x: f64) -> f64 {
    Float::ln(x)
}
fn exp(x: f64) -> f64 {
    Float::exp(x)
}
fn powf(x: f64, y: f64) -> f64 {
    Float::powf(x, y)
}

/// A probability as its logit `y = log(p / (1 - p))`. Numerical work is done in `y`: both ends of [0, 1] are
/// resolved there, and every listed objective is an analytic function of `e^y` between its kinks, with its
/// nearest singularity at a distance of pi.
fn logit(p: f64) -> f64 {
    ln(p) - Float::ln_1p(-p)
}

fn at_logit(y: f64) -> TargetProb<f64> {
    if y < 0.0 {
        let odds = exp(y);
        TargetProb { log_p: y - Float::ln_1p(odds), one_minus_p: 1.0 / (1.0 + odds) }
    } else {
        let odds = exp(-y);
        TargetProb { log_p: -Float::ln_1p(odds), one_minus_p: odds / (1.0 + odds) }
    }
}

fn weight_at(objective: &impl TokenObjective, target: TargetProb<f64>) -> f64 {
    // At p = 1 nothing is left to push, however steep the objective is there.
    if target.one_minus_p == 0.0 { 0.0 } else { -objective.of_target(target).slope * target.one_minus_p }
}

/// The weight of a probability: the descent push on the target's logit.
///
/// ```text
/// W(p) = -f'(p) p (1 - p) = -slope (1 - p)
/// ```
///
/// **Domain.** `p` from 0 to 1; NaN outside. At most a few roundings away from exact. At p = 0 it is what the
/// objective's slope is for a masked target, which for `power` below `alpha = 0` is the largest finite number.
///
/// ```
/// use tokenloss_core::{Nll, Power, theory::weight};
/// assert_eq!(weight(&Nll, 0.25), 0.75);
/// assert!((weight(&Power::new(1.0)?, 0.25) - 0.1875).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** "Beyond Log Likelihood" (arXiv 2510.00526), lemma 3.1.
pub fn weight<O: TokenObjective>(objective: &O, p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    weight_at(objective, TargetProb { log_p: ln(p), one_minus_p: 1.0 - p })
}

/// Where an objective pushes hardest, and how hard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// The probability.
    pub p: f64,
    /// `W` there.
    pub weight: f64,
}

/// How far from a kink, in logit, a point is certain to lie on one side of it. `p` is formed from `log_p` or
/// from `1 - p`, each with an error of a few roundings, and a gate compares that `p`.
fn clearance(kink: f64) -> f64 {
    8.0 * f64::EPSILON * (1.0 - ln(kink)) / (1.0 - kink)
}

/// Logits at which [0, 1] is cut: the ends given, and the kinks between them.
fn cuts<const N: usize>(objective: &impl TokenObjective, ends: [f64; N]) -> ([f64; 12], usize) {
    let mut all = [0.0; 12];
    let mut len = 0;
    let (from, to) = (ends[0], ends[N - 1]);
    let kinks = objective.kinks().into_iter().flatten().map(|kink| logit(f64::from(kink)));
    for cut in ends.into_iter().chain(kinks) {
        if cut >= from && cut <= to {
            all[len] = cut;
            len += 1;
        }
    }
    all[..len].sort_unstable_by(f64::total_cmp);
    (all, len)
}

/// The maximiser and the maximum of `W` on [0, 1].
///
/// **Method.** `W` is sampled at both ends, at both sides of each declared kink and on a grid of 1/16 in logit
/// from p = 4e-18 to 1 - 4e-18; golden section then narrows the cell of the greatest sample. Of several equal
/// peaks the least `p` is returned.
///
/// **Accuracy.** The maximum is good to 1e-14 of itself. A maximum is flat, so its place is only as good as
/// the square root of that: 1e-7 in logit for the listed objectives, unless the peak itself is so flat that
/// its neighbourhood is equal to rounding (`focal` with gamma below .03, `power` with alpha below 1e-15). Where
/// `W` jumps, the place is the kink up to 4e-15 in p. A peak narrower than 1/16 in logit can be missed.
///
/// Where `W` is unbounded (`power` below `alpha = 0`) the peak is at p = 0 with the largest finite number.
/// Where `W` is 0 everywhere, it is at p = 0 with 0.
///
/// ```
/// use tokenloss_core::{Focal, theory::peak};
/// let peak = peak(&Focal::new(1.0)?);
/// assert!((peak.p - 0.043).abs() < 5e-4 && (peak.weight - 1.0453).abs() < 5e-5);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** "Beyond Log Likelihood" (arXiv 2510.00526), proposition 3.2, appendix F.
pub fn peak<O: TokenObjective>(objective: &O) -> Peak {
    const END: f64 = 40.0;
    const STEPS_PER_UNIT: f64 = 16.0;
    let at = |y: f64| weight_at(objective, at_logit(y));
    let at_zero = weight_at(objective, TargetProb { log_p: f64::NEG_INFINITY, one_minus_p: 1.0 });
    // The best sample, with the cell around it.
    let mut best = (at_zero, f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY);

    let (cuts, len) = cuts(objective, [-END, END]);
    for piece in cuts[..len].windows(2) {
        let inward = |y: f64| if y.abs() == END { 0.0 } else { clearance(at_logit(y).p()) };
        let (from, to) = (piece[0] + inward(piece[0]), piece[1] - inward(piece[1]));
        if from > to {
            continue;
        }
        let steps = Float::ceil((to - from) * STEPS_PER_UNIT).max(1.0);
        let step = (to - from) / steps;
        for i in 0..=steps as u32 {
            let y = from + f64::from(i) * step;
            let weight = at(y);
            if weight > best.0 {
                best = (weight, y, (y - step).max(from), (y + step).min(to));
            }
        }
    }
    let (mut weight, mut y, mut from, mut to) = best;
    if y == f64::NEG_INFINITY {
        return Peak { p: 0.0, weight };
    }

    // Golden section. The best sample is kept beside it: at a jump the cell has its greatest value at an end.
    const RATIO: f64 = 0.618_033_988_749_894_9;
    let (mut left, mut right) = (to - RATIO * (to - from), from + RATIO * (to - from));
    let (mut at_left, mut at_right) = (at(left), at(right));
    // A ratio of .618 to the 80th is 2e-17: down to rounding, for a peak that is a kink of the slope.
    for _ in 0..80 {
        if at_left > weight {
            (weight, y) = (at_left, left);
        }
        if at_right > weight {
            (weight, y) = (at_right, right);
        }
        if at_left >= at_right {
            (to, right, at_right) = (right, left, at_left);
            left = to - RATIO * (to - from);
            at_left = at(left);
        } else {
            (from, left, at_left) = (left, right, at_right);
            right = from + RATIO * (to - from);
            at_right = at(right);
        }
    }
    Peak { p: at_logit(y).p(), weight }
}

/// Gauss-Legendre nodes and weights of order 10 on [-1, 1], the positive half.
const GAUSS: [(f64, f64); 5] = [
    (0.148_874_338_981_631_22, 0.295_524_224_714_752_87),
    (0.433_395_394_129_247_2, 0.269_266_719_309_996_35),
    (0.679_409_568_299_024_4, 0.219_086_362_515_982_04),
    (0.865_063_366_688_984_5, 0.149_451_349_150_580_6),
    (0.973_906_528_517_171_7, 0.066_671_344_308_688_14),
];

fn gauss(f: &impl Fn(f64) -> f64, from: f64, to: f64) -> f64 {
    let (middle, half) = (0.5 * (from + to), 0.5 * (to - from));
    half * GAUSS.iter().map(|&(x, w)| w * (f(middle - half * x) + f(middle + half * x))).sum::<f64>()
}

/// Halves a panel while that changes its integral by more than `tolerance`.
fn refined(f: &impl Fn(f64) -> f64, from: f64, to: f64, whole: f64, tolerance: f64, depth: u32) -> f64 {
    let middle = 0.5 * (from + to);
    let (left, right) = (gauss(f, from, middle), gauss(f, middle, to));
    if depth == 0 || (left + right - whole).abs() <= tolerance {
        return left + right;
    }
    refined(f, from, middle, left, tolerance, depth - 1) + refined(f, middle, to, right, tolerance, depth - 1)
}

/// The integral of `W` over `from <= p <= to`.
///
/// **Domain.** Bounds are clamped to [0, 1]; NaN for a NaN bound, 0 if `from >= to`.
///
/// **Method.** Composite Gauss-Legendre of order 10 in logit, where the integrand decays exponentially at
/// both ends, on panels of width 1 cut at the declared kinks. Panels are halved as long as that changes
/// anything, which takes care of most kinks that are not declared.
///
/// **Accuracy.** 1e-12 of the integral over [0, 1] for every listed objective, gated ones too. A kink that is
/// not declared, such as that of `huber` in a gate with two bounds of its own, is found unless it lies in the
/// outermost 0.7 % of a panel: then 1e-5 at worst. p below 1e-307 is left out, which matters only to `power`
/// below `alpha = -0.95`: at -1 the integral does not exist, and what is returned (706) says nothing.
///
/// ```
/// use tokenloss_core::{Power, theory};
/// let objective = Power::new(2.0)?;
/// assert!((theory::integral(&objective, 0.0, 1.0) - theory::power_integral(2.0)).abs() < 1e-13);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
pub fn integral<O: TokenObjective>(objective: &O, from: f64, to: f64) -> f64 {
    // The least p whose logit and exponential are both normal numbers, and as far on the other side.
    const END: f64 = 708.0;
    // Beyond this logit p or 1 - p is 4e-18 and the integrand a pure exponential: wide panels do.
    const FAR: f64 = 40.0;
    if from.is_nan() || to.is_nan() {
        return f64::NAN;
    }
    let (from, to) = (logit(from.clamp(0.0, 1.0)).max(-END), logit(to.clamp(0.0, 1.0)).min(END));
    if from >= to {
        return 0.0;
    }
    // dp = p (1 - p) dy
    let f = |y: f64| {
        let target = at_logit(y);
        weight_at(objective, target) * exp(target.log_p) * target.one_minus_p
    };
    let (cuts, len) = cuts(objective, [from, (-FAR).clamp(from, to), FAR.clamp(from, to), to]);
    let over_panels = |of: &dyn Fn(f64, f64) -> f64| {
        let mut sum = 0.0;
        for piece in cuts[..len].windows(2) {
            let (from, to) = (piece[0], piece[1]);
            let width = if (0.5 * (from + to)).abs() > FAR { 8.0 } else { 1.0 };
            let panels = Float::ceil((to - from) / width);
            let step = (to - from) / panels;
            for i in 0..panels as u32 {
                sum += of(from + f64::from(i) * step, from + f64::from(i + 1) * step);
            }
        }
        sum
    };
    let tolerance = 1e-14 * over_panels(&|from, to| gauss(&f, from, to)).abs();
    over_panels(&|from, to| refined(&f, from, to, gauss(&f, from, to), tolerance, 20))
}

/// The share of `W` that lies above a probability: `integral_tau^1 W / integral_0^1 W`.
///
/// **Domain.** `tau` is clamped to [0, 1]. 0 where `W` is 0 everywhere. Accuracy as that of [`integral`].
///
/// ```
/// use tokenloss_core::{Nll, theory::share_above};
/// assert!((share_above(&Nll, 0.5) - 0.25).abs() < 1e-12);
/// ```
///
/// **Source.** definition 3.3 of "Beyond Log Likelihood" (arXiv 2510.00526), made a number.
pub fn share_above<O: TokenObjective>(objective: &O, tau: f64) -> f64 {
    let above = integral(objective, tau, 1.0);
    let all = above + integral(objective, 0.0, tau);
    if all == 0.0 { 0.0 } else { above / all }
}

/// Which tokens an objective learns from: those that the model believes already, or those that it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaning {
    /// More than half of `W` above p = 1/2.
    PriorLeaning,
    /// Half on each side; also an objective whose `W` is 0 everywhere.
    Neutral,
    /// More than half of `W` below p = 1/2.
    PriorAverse,
}

impl fmt::Display for Leaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PriorLeaning => "prior-leaning",
            Self::Neutral => "neutral",
            Self::PriorAverse => "prior-averse",
        })
    }
}

/// Which way an objective leans, by its [share](share_above) of `W` above p = 1/2.
///
/// A share within 1e-9 of 1/2 is neutral: a thousand times the error of the integrals, and less than what the
/// next `f32` after `alpha = 1` changes (2.6e-8). The paper leaves the threshold open; for another one than
/// 1/2 look at [`share_above`] itself.
///
/// ```
/// use tokenloss_core::{Nll, Power, theory::{Leaning, leaning}};
/// assert_eq!(leaning(&Nll), Leaning::PriorAverse);
/// assert_eq!(leaning(&Power::new(1.0)?), Leaning::Neutral);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** definition 3.3 of "Beyond Log Likelihood" (arXiv 2510.00526).
pub fn leaning<O: TokenObjective>(objective: &O) -> Leaning {
    let share = share_above(objective, 0.5);
    let silent = share == 0.0 && integral(objective, 0.0, 1.0) == 0.0;
    if silent || (share - 0.5).abs() <= 1e-9 {
        Leaning::Neutral
    } else if share > 0.5 {
        Leaning::PriorLeaning
    } else {
        Leaning::PriorAverse
    }
}

/// The curvature of `f` over all of (0, 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convexity {
    /// `f'` never falls, and rises somewhere. `W` then peaks at or below 1/2.
    Convex,
    /// `f'` never rises, and falls somewhere. `W` then peaks at or above 1/2.
    Concave,
    /// `f'` is constant.
    Linear,
    /// `f'` rises here and falls there, or `f` jumps.
    Neither,
}

impl fmt::Display for Convexity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Convex => "convex",
            Self::Concave => "concave",
            Self::Linear => "linear",
            Self::Neither => "neither",
        })
    }
}

/// Whether `f` is convex or concave in `p`, by whether `f' = slope / p` is monotone.
///
/// A stop-gradient objective is judged by the function that its slope belongs to, not by its value.
///
/// **Method.** `f'` is compared at neighbouring points of a grid of 1/16 in logit from p = 1e-13 to
/// 1 - 1e-13, and across each declared kink, where `f` itself must not jump. Being sampled, it misses: a bend
/// narrower than a cell; a change of `f'` by less than 1e-12 of itself from one point to the next, which is
/// what rounding can do (`power` within 1e-11 of `alpha = 1`, `mix` within 1e-11 of `lambda = 0`); and an
/// undeclared jump of `f`.
///
/// ```
/// use tokenloss_core::{Power, theory::{Convexity, convexity}};
/// assert_eq!(convexity(&Power::new(0.5)?), Convexity::Convex);
/// assert_eq!(convexity(&Power::new(1.0)?), Convexity::Linear);
/// assert_eq!(convexity(&Power::new(2.0)?), Convexity::Concave);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** "Beyond Log Likelihood" (arXiv 2510.00526), proposition 3.2.
pub fn convexity<O: TokenObjective>(objective: &O) -> Convexity {
    const END: f64 = 30.0;
    const STEPS_PER_UNIT: f64 = 16.0;
    let derivative = |y: f64| {
        let target = at_logit(y);
        objective.of_target(target).slope / target.p()
    };
    let (mut rises, mut falls) = (false, false);
    let mut last: Option<f64> = None;
    let (cuts, len) = cuts(objective, [-END, END]);
    for (at, piece) in cuts[..len].windows(2).enumerate() {
        let inward = |y: f64| if y.abs() == END { 0.0 } else { clearance(at_logit(y).p()) };
        let (from, to) = (piece[0] + inward(piece[0]), piece[1] - inward(piece[1]));
        if at > 0 {
            let kink = piece[0];
            let (below, above) = (at_logit(kink - inward(kink)), at_logit(kink + inward(kink)));
            let (below, above) = (objective.of_target(below).loss, objective.of_target(above).loss);
            // A value that is 0 at the kink has the size that it has elsewhere.
            let elsewhere = objective.of_target(at_logit(0.0)).loss.abs();
            let (jump, size) = ((above - below).abs(), above.abs().max(below.abs()).max(elsewhere));
            if jump > 1e-6 * size {
                return Convexity::Neither;
            }
        }
        if from > to {
            continue;
        }
        let steps = Float::ceil((to - from) * STEPS_PER_UNIT).max(1.0);
        for i in 0..=steps as u32 {
            let next = derivative(from + f64::from(i) * (to - from) / steps);
            if let Some(last) = last {
                // Across a kink the two points lie a clearance apart, over which `f'` may change a little.
                let tolerance = if i == 0 { 1e-6 } else { 1e-12 } * next.abs().max(last.abs());
                rises |= next - last > tolerance;
                falls |= last - next > tolerance;
            }
            last = Some(next);
        }
    }
    match (rises, falls) {
        (true, false) => Convexity::Convex,
        (false, true) => Convexity::Concave,
        (false, false) => Convexity::Linear,
        (true, true) => Convexity::Neither,
    }
}

/// The peak of the power family's `W`, in closed form.
///
/// ```text
/// p* = alpha / (1 + alpha)        W(p*) = alpha^alpha / (1 + alpha)^(1 + alpha)
/// ```
///
/// **Domain.** Any `alpha`. Below 0 `W` is unbounded: the peak is at 0 with weight +infinity.
///
/// ```
/// let peak = tokenloss_core::theory::power_peak(2.0);
/// assert!((peak.p - 2.0 / 3.0).abs() < 1e-15 && (peak.weight - 4.0 / 27.0).abs() < 1e-15);
/// ```
///
/// **Source.** derived from "Beyond Log Likelihood" (arXiv 2510.00526), proposition 3.2.
pub fn power_peak(alpha: f64) -> Peak {
    if alpha < 0.0 {
        return Peak { p: 0.0, weight: f64::INFINITY };
    }
    let p = alpha / (1.0 + alpha);
    Peak { p, weight: powf(p, alpha) / (1.0 + alpha) }
}

/// The integral of the power family's `W` over [0, 1]: `1 / ((alpha + 1)(alpha + 2))`.
///
/// **Domain.** `alpha > -1`; +infinity at and below -1, where it diverges.
///
/// ```
/// assert_eq!(tokenloss_core::theory::power_integral(0.0), 0.5);
/// ```
///
/// **Source.** `W / integral W` is the density of Beta(alpha + 1, 2).
pub fn power_integral(alpha: f64) -> f64 {
    if alpha <= -1.0 { f64::INFINITY } else { 1.0 / ((alpha + 1.0) * (alpha + 2.0)) }
}

/// The share of the power family's `W` above a probability, in closed form.
///
/// ```text
/// 1 - tau^(alpha + 1) ((alpha + 2) - (alpha + 1) tau)        at tau = 1/2:  1 - 2^-(alpha + 1) (alpha + 3)/2
/// ```
///
/// **Domain.** `tau` from 0 to 1, `alpha > -1`; 0 at and below -1, its limit.
///
/// ```
/// use tokenloss_core::theory::power_share_above;
/// assert_eq!(power_share_above(0.0, 0.5), 0.25);
/// assert_eq!(power_share_above(1.0, 0.5), 0.5);
/// ```
///
/// **Source.** the survival function of Beta(alpha + 1, 2).
pub fn power_share_above(alpha: f64, tau: f64) -> f64 {
    if alpha <= -1.0 {
        return 0.0;
    }
    1.0 - powf(tau, alpha + 1.0) * ((alpha + 2.0) - (alpha + 1.0) * tau)
}

/// The mean probability under the power family's normalised `W`, Beta(alpha + 1, 2): `(alpha + 1)/(alpha + 3)`.
///
/// **Domain.** `alpha > -1`; 0 at and below -1, its limit.
///
/// ```
/// assert_eq!(tokenloss_core::theory::power_mean(1.0), 0.5);
/// ```
///
/// **Source.** the mean of Beta(alpha + 1, 2).
pub fn power_mean(alpha: f64) -> f64 {
    if alpha <= -1.0 { 0.0 } else { (alpha + 1.0) / (alpha + 3.0) }
}

/// The peak of the `W` of [`Mix`](crate::Mix), in closed form.
///
/// ```text
/// p* = max(0, (1 - 2 lambda) / (2 (1 - lambda)))        W(p*) = (1 - p*)(lambda + (1 - lambda) p*)
/// ```
///
/// **Domain.** `lambda` from 0 to 1. `p*` is at most 1/2: a blend of nll and `1 - p` is never prior-leaning.
///
/// ```
/// use tokenloss_core::theory::mix_peak;
/// assert!((mix_peak(0.25).p - 1.0 / 3.0).abs() < 1e-15);
/// assert_eq!(mix_peak(1.0).p, 0.0);
/// ```
///
/// **Source.** derived from "Beyond Log Likelihood" (arXiv 2510.00526), proposition 3.2.
pub fn mix_peak(lambda: f64) -> Peak {
    let p = if lambda >= 0.5 { 0.0 } else { (1.0 - 2.0 * lambda) / (2.0 * (1.0 - lambda)) };
    Peak { p, weight: (1.0 - p) * (lambda + (1.0 - lambda) * p) }
}

/// What is wrong with a distribution or an exponent.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum TheoryError {
    /// Fewer than two classes.
    Classes {
        /// The classes given.
        got: usize,
    },
    /// Two distributions over different numbers of classes.
    Length {
        /// The distribution, by its name in the documentation.
        what: &'static str,
        /// The classes expected.
        expected: usize,
        /// The classes given.
        got: usize,
    },
    /// A probability is negative, infinite or NaN.
    Probability {
        /// The distribution, by its name in the documentation.
        what: &'static str,
        /// The class.
        class: usize,
        /// The value given.
        value: f64,
    },
    /// The probabilities of a distribution do not sum to 1 within 1e-6.
    Sum {
        /// The distribution, by its name in the documentation.
        what: &'static str,
        /// Their sum.
        sum: f64,
    },
    /// A class that does not exist.
    Class {
        /// The class given.
        class: usize,
        /// The classes there are.
        classes: usize,
    },
    /// An exponent is infinite or NaN.
    Alpha {
        /// The exponent given.
        alpha: f64,
    },
}

impl fmt::Display for TheoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Classes { got } => write!(f, "classes: expected at least 2, got {got}"),
            Self::Length { what, expected, got } => {
                write!(f, "{what}: expected {expected} probabilities, got {got}")
            }
            Self::Probability { what, class, value } => {
                write!(
                    f,
                    "{what}: class {class} has probability {value}, expected a finite number of at least 0"
                )
            }
            Self::Sum { what, sum } => write!(f, "{what}: the probabilities sum to {sum}, expected 1"),
            Self::Class { class, classes } => {
                write!(f, "truth: class {class} does not exist, expected 0 to {}", classes - 1)
            }
            Self::Alpha { alpha } => write!(f, "alpha: expected a finite number, got {alpha}"),
        }
    }
}

impl core::error::Error for TheoryError {}

/// Checks a distribution over `classes`.
fn distribution(what: &'static str, classes: usize, p: &[f64]) -> Result<(), TheoryError> {
    if classes < 2 {
        return Err(TheoryError::Classes { got: classes });
    }
    if p.len() != classes {
        return Err(TheoryError::Length { what, expected: classes, got: p.len() });
    }
    if let Some(class) = p.iter().position(|p| !(*p >= 0.0 && p.is_finite())) {
        return Err(TheoryError::Probability { what, class, value: p[class] });
    }
    let sum: f64 = p.iter().sum();
    if (sum - 1.0).abs() <= 1e-6 { Ok(()) } else { Err(TheoryError::Sum { what, sum }) }
}
