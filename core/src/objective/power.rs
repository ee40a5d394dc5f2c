use super::cast;
use crate::{TargetProb, TokenEval, TokenObjective};
use num_traits::Float;

/// The power family, also known as generalised cross entropy.
///
/// ```text
/// f(p) = (1 - p^alpha) / alpha        slope = -p^alpha        W(p) = p^alpha (1 - p)
/// ```
///
/// `alpha = 0` is [`Nll`](struct@crate::Nll), `alpha = 1` is the paper's `-p` (as `1 - p`), `alpha = 10` its `-p^10`.
/// `W` peaks at `p = alpha / (1 + alpha)`; above `alpha = 1` the objective is prior-leaning.
///
/// **Domain.** `alpha` from -1 to 16. Negative values are more prior-averse than nll and are bounded by what
/// a float holds: `p^alpha` saturates at its largest finite value, in f32 from `alpha log_p = 88` on.
///
/// **Numerics.** `f = -exp_m1(alpha log_p) / alpha`, `slope = -exp(alpha log_p)`; `1 - p^alpha` is never formed
/// by subtraction. The relative error of the slope is `alpha` times the absolute error of `log_p`. Below
/// `alpha log_p = -87` the slope underflows to 0 in f32 and the row is no longer live.
///
/// ```
/// use tokenloss_core::{Power, TokenObjective};
/// let eval = Power::new(2.0)?.of_log_p((0.5f64).ln());
/// assert!((eval.loss - 0.375).abs() < 1e-15 && (eval.slope + 0.25).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** "Beyond Log Likelihood" (arXiv 2510.00526), f^alpha; Zhang and Sabuncu 2018 (arXiv 1805.07836),
/// L_q with `q = alpha`. The paper's code calls it `GeneralFamily-a`; its `convexity-a` is the same less the
/// constant `1/alpha`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Power {
    pub(crate) alpha: f32,
}

impl TokenObjective for Power {
    #[inline]
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        power(cast(self.alpha), target.log_p)
    }
}

/// Of any probability, by its logarithm.
#[inline]
pub(crate) fn power<T: Float>(alpha: T, log_p: T) -> TokenEval<T> {
    if alpha == T::zero() {
        return TokenEval { loss: -log_p, slope: -T::one(), kept: true };
    }
    // One ulp below ln MAX, which itself may be rounded up to where `exp` is infinite, as it is in f32.
    let greatest = T::max_value().ln() * (T::one() - T::epsilon());
    let exponent = (alpha * log_p).min(greatest);
    TokenEval { loss: -exponent.exp_m1() / alpha, slope: -exponent.exp(), kept: true }
}
