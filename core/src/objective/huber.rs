use super::cast;
use crate::{Kinks, TargetProb, TokenEval, TokenObjective};
use num_traits::Float;

/// Huber loss on the error `e = 1 - p`.
///
/// ```text
/// e <= delta:   f = e^2 / 2                  slope = -e p        W = p (1 - p)^2
/// otherwise:    f = delta (e - delta / 2)    slope = -delta p    W = delta p (1 - p)
/// ```
///
/// Convex in p; `W` peaks at 1/2 for `delta <= 1/2` and falls to 1/3 for `delta >= 2/3`, so it is prior-leaning
/// only next to nll.
///
/// **Domain.** `delta` from 0.001 to 1. Its second derivative jumps at `p = 1 - delta`, a declared kink.
///
/// **Numerics.** `e` is `one_minus_p`; `e^2` underflows in f32 from a margin of 44 on.
///
/// ```
/// use tokenloss_core::{Huber, TokenObjective};
/// let eval = Huber::new(0.5)?.of_log_p((0.75f64).ln());
/// assert!((eval.loss - 0.03125).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** "Beyond Log Likelihood" (arXiv 2510.00526), appendix F.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Huber {
    pub(crate) delta: f32,
}

impl TokenObjective for Huber {
    #[inline]
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        let delta = cast::<T>(self.delta);
        let half = T::one() / (T::one() + T::one());
        let error = target.one_minus_p;
        if error <= delta {
            TokenEval { loss: half * error * error, slope: -error * target.p(), kept: true }
        } else {
            TokenEval { loss: delta * (error - half * delta), slope: -delta * target.p(), kept: true }
        }
    }

    fn kinks(&self) -> Kinks {
        [Some(1.0 - self.delta), None, None, None]
    }
}
