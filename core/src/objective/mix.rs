use super::cast;
use crate::{TargetProb, TokenEval, TokenObjective};
use num_traits::Float;

/// A blend of nll and `1 - p`.
///
/// ```text
/// f(p) = -lambda log p + (1 - lambda)(1 - p)        slope = -(lambda + (1 - lambda) p)
/// W(p) = (1 - p)(lambda + (1 - lambda) p)
/// ```
///
/// `W` peaks at `max(0, (1 - 2 lambda) / (2 (1 - lambda)))`, never above 1/2: no blend of the two is
/// prior-leaning.
///
/// **Domain.** `lambda` from 0, which is `power` at `alpha = 1`, to 1, which is nll.
///
/// **Numerics.** Two terms of one sign; nothing cancels. A masked target (`log_p = -inf`) has loss +infinity
/// unless `lambda` is 0.
///
/// ```
/// use tokenloss_core::{Mix, TokenObjective};
/// let eval = Mix::new(0.5)?.of_log_p((0.5f64).ln());
/// assert!((eval.slope + 0.75).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** derived from "Beyond Log Likelihood" (arXiv 2510.00526), proposition 3.2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    pub(crate) lambda: f32,
}

impl TokenObjective for Mix {
    #[inline]
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        let lambda = cast::<T>(self.lambda);
        let rest = T::one() - lambda;
        let log = if lambda == T::zero() { T::zero() } else { -lambda * target.log_p };
        TokenEval { loss: log + rest * target.one_minus_p, slope: -(lambda + rest * target.p()), kept: true }
    }
}
