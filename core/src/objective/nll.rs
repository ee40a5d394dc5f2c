use crate::{TargetProb, TokenEval, TokenObjective};
use num_traits::Float;

/// Negative log-likelihood, the cross entropy of ordinary training.
///
/// ```text
/// f(p) = -log p        slope = -1        W(p) = 1 - p
/// ```
///
/// **Domain.** Every `log_p <= 0`. A masked target (`log_p = -inf`) has loss +infinity and slope -1.
///
/// **Numerics.** Relative accuracy is that of `log_p`.
///
/// The only member of the power family that is strictly proper, and the most prior-averse: three quarters of
/// `W` lie below p = 1/2. The choice where the model is weak on the data.
///
/// ```
/// use tokenloss_core::{Nll, TokenObjective};
/// let eval = Nll.of_log_p((0.25f64).ln());
/// assert_eq!((eval.loss, eval.slope), (-(0.25f64).ln(), -1.0));
/// ```
///
/// **See also** [`Power`](crate::Power), whose limit at `alpha = 0` it is. PyTorch: `cross_entropy`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nll {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const Nll: Nll = Nll {};

impl TokenObjective for Nll {
    #[inline]
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        TokenEval { loss: -target.log_p, slope: -T::one(), kept: true }
    }
}
