use super::cast;
use crate::{TargetProb, TokenEval, TokenObjective};
use num_traits::Float;

/// The logarithm of what the other classes have, to be made small.
///
/// ```text
/// f(p) = log(1 - p + eps)        slope = -p / (1 - p + eps)        W(p) = p (1 - p) / (1 - p + eps)
/// ```
///
/// Without `eps` the weight `W` is `p` itself: the more the model believes, the harder it is pushed, and the
/// loss is unbounded below at p = 1. `eps` bounds it by `log eps`.
///
/// **Domain.** `eps` from 1e-6 to 1; the paper's code fixes it at 1e-3, the default.
///
/// **Numerics.** The loss is 0 at p = eps, so it is `ln_1p(eps - p)` where `1 - p + eps` is above 1/2 and the
/// logarithm of that sum below. The difference is `eps - p` up to p = 1/2 and `(1 - p) - (1 - eps)` beyond,
/// which at `eps = 1` is `1 - p` exactly: the loss keeps the relative accuracy of `eps - p`.
///
/// ```
/// use tokenloss_core::{TokenObjective, Unlikelihood};
/// let eval = Unlikelihood::new(1e-3)?.of_log_p((0.5f64).ln());
/// assert!((eval.loss - (0.5 + f64::from(1e-3f32)).ln()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** "Beyond Log Likelihood" (arXiv 2510.00526), the third probe of its quantile ablation; its code
/// calls it `UnlikehoodTop-q` and `UnlikehoodBottom-q`. The paper's section 3 prints `-log(1 - p)`, which is
/// increasing; its figure 5 and its code use the sign given here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unlikelihood {
    pub(crate) eps: f32,
}

impl TokenObjective for Unlikelihood {
    #[inline]
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        let eps = cast::<T>(self.eps);
        let p = target.p();
        let rest = target.one_minus_p + eps;
        let loss = if p + p < T::one() {
            (eps - p).ln_1p()
        } else if rest + rest > T::one() {
            (target.one_minus_p - (T::one() - eps)).ln_1p()
        } else {
            rest.ln()
        };
        TokenEval { loss, slope: -p / rest, kept: true }
    }
}
