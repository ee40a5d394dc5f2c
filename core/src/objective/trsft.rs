use super::cast;
use crate::{Kinks, TargetProb, TokenEval, TokenObjective};
use num_traits::Float;

/// Trust-region fine-tuning: nll that goes on as a straight line in p below `a`.
///
/// ```text
/// f(p) = -log p               slope = -1       W(p) = 1 - p                 where p >= a
/// f(p) = 1 - p / a - log a    slope = -p / a   W(p) = (p / a) (1 - p)       where p < a
/// ```
///
/// A soft form of the threshold `p >= a`: rows far below `a` get little weight in place of none. `W` peaks at
/// `p = min(a, 1/2)`. Value and slope are continuous.
///
/// **Domain.** `a` from 0.001 to 1; at 1 it is [`Power`](crate::Power) with `alpha = 1`.
///
/// ```
/// use tokenloss_core::{TokenObjective, TrSft};
/// let eval = TrSft::new(0.5)?.of_log_p((0.25f64).ln());
/// assert!((eval.slope + 0.5).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** TRAPO (arXiv 2512.17636) states the gradient `-grad p / max(p, a)` with `a = 0.1`; the value is its
/// integral.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrSft {
    pub(crate) a: f32,
}

impl TokenObjective for TrSft {
    #[inline]
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        let a = cast::<T>(self.a);
        let p = target.p();
        if p >= a {
            return super::Nll.of_target(target);
        }
        // At a = 1 the value is 1 - p, which is known without a difference.
        let loss = if a == T::one() { target.one_minus_p } else { (T::one() - p / a) - a.ln() };
        TokenEval { loss, slope: -p / a, kept: true }
    }

    fn kinks(&self) -> Kinks {
        [Some(self.a), None, None, None]
    }
}
