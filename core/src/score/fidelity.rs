use super::{Domain, Input, ScoreEval, ScoreObjective};
use crate::Error;
use crate::math::{narrow, wide};
use core::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
use num_traits::Float;

/// Thurstone fidelity: which of two things is better, when both scores are normally distributed.
///
/// ```text
/// x = (mean_a - mean_b) / sqrt(variance_a + variance_b)        P = Phi(x), the probability that a is better
/// loss = 1 - sqrt(P Q) - sqrt((1 - P) (1 - Q))                 Q = the target's probability
/// ```
///
/// The means and variances of a score are, for instance, those of its distribution over levels. The target is the
/// annotators' probability that `a` is better, which [`preference`](Fidelity::preference) computes from their means and
/// variances. The loss lies in 0 to 1 and is 0 at `P = Q`. Unlike cross entropy's, its slope vanishes for a pair that
/// is confidently wrong, like `exp(-x^2 / 4)`.
///
/// **Numerics.** In `f64` whatever the type. The loss is computed as half the squared distance of the roots, both tails
/// of `Phi` from `erfc`, so that nothing cancels near `P = Q` or near either end. Beyond `|x| = 38`, where `P` is
/// below what an `f64` holds, the slopes are 0.
///
/// ```
/// use tokenloss_core::score::{Fidelity, ScoreObjective};
/// let target = Fidelity::preference(1.0, 0.5, 0.0, 0.5)?;
/// let eval = Fidelity::new()?.of_scores([3.0f64, 2.0, 1.0, 2.0], [target]);
/// assert!(eval.loss.abs() < 1e-15 && eval.slopes[0].abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Thurstone 1927; Tsai et al. 2007; You et al. 2025 (arXiv 2501.11561). Their code takes standard
/// deviations and not variances, adds 1e-8 to the sum of the variances and under both roots, which bounds the slope
/// near `P = 0` and moves the minimum, and has an option to hold the variances: leave out their slopes for that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fidelity {}

impl Fidelity {
    /// `P(a > b)` for independent normal scores.
    ///
    /// # Errors
    /// [`Error::Input`] for a mean that is not finite or a variance that is not above 0.
    pub fn preference(mean_a: f64, variance_a: f64, mean_b: f64, variance_b: f64) -> Result<f64, Error> {
        let scores = [mean_a, variance_a, mean_b, variance_b];
        for (input, value) in Self::inputs().0.into_iter().zip(scores) {
            input.check(0, value)?;
        }
        Ok(normal(standardised(scores).0).0)
    }
}

/// The difference of the means in units of its standard deviation, and that deviation.
fn standardised([mean_a, variance_a, mean_b, variance_b]: [f64; 4]) -> (f64, f64) {
    let deviation = Float::hypot(Float::sqrt(variance_a), Float::sqrt(variance_b));
    ((mean_a - mean_b) / deviation, deviation)
}

/// `Phi(x)` and `Phi(-x)`, both to relative accuracy.
fn normal(x: f64) -> (f64, f64) {
    let z = x * FRAC_1_SQRT_2;
    (0.5 * libm::erfc(-z), 0.5 * libm::erfc(z))
}

impl ScoreObjective<4> for Fidelity {
    fn of_scores<T: Float>(&self, scores: [T; 4], [target]: [T; 1]) -> ScoreEval<T, 4> {
        let (want, want_not) = (wide(target), 1.0 - wide(target));
        let (x, deviation) = standardised(scores.map(wide));
        let (p, not_p) = normal(x);
        // P - Q, by whichever of the two pairs is the smaller.
        let off = if p < 0.5 { p - want } else { want_not - not_p };
        let sqrt = |x: f64| Float::sqrt(x);
        let distance = |roots: f64| if roots == 0.0 { 0.0 } else { off / roots };
        let apart = distance(sqrt(p) + sqrt(want));
        let apart_not = distance(sqrt(not_p) + sqrt(want_not));
        let loss = 0.5 * (apart * apart + apart_not * apart_not);
        let density = Float::exp(-0.5 * x * x) * (0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2);
        let roots = sqrt(p) * sqrt(not_p) * (sqrt(want_not * p) + sqrt(want * not_p));
        let slope = if roots == 0.0 || density == 0.0 { 0.0 } else { 0.5 * off / roots * density };
        let by_mean = if slope == 0.0 { 0.0 } else { slope / deviation };
        let by_variance = if slope == 0.0 { 0.0 } else { -0.5 * by_mean * x / deviation };
        ScoreEval { loss: narrow(loss), slopes: [by_mean, by_variance, -by_mean, by_variance].map(narrow) }
    }

    fn inputs() -> ([Input; 4], [Input; 1]) {
        let variance = |name| Input { name, domain: Domain::Positive };
        (
            [Input::real("mean_a"), variance("variance_a"), Input::real("mean_b"), variance("variance_b")],
            [Input { name: "preference", domain: Domain::Probability }],
        )
    }
}
