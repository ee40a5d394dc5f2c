use super::cast;
use crate::{Kinks, TargetProb, TokenEval, TokenObjective};
use num_traits::Float;

/// InfoSFT: nll weighted by p and by how far its odds are from a ceiling; no gradient flows through the weight.
///
/// ```text
/// w(p) = p max(0, 1 - logit p / logit ceiling)        logit p = log p - log(1 - p)
/// L = -sg(w) log p        slope = -w(p)        W(p) = w(p) (1 - p)
/// ```
///
/// Rows in the middle matter most: at the default `W` peaks near p = .35, and from `p = ceiling` on the weight is 0.
///
/// **Domain.** `ceiling` from 0.51 to 0.999. At p = 0 value and slope are 0.
///
/// ```
/// use tokenloss_core::{InfoSft, TokenObjective};
/// let eval = InfoSft::new(0.93)?.of_log_p((0.5f64).ln());
/// assert!((eval.slope + 0.5).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** arXiv 2605.14967; as its authors' code divides by `logit ceiling` (2.587 at .93), which the paper's
/// formula `p (logit ceiling - logit p)` does not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InfoSft {
    pub(crate) ceiling: f32,
}

impl InfoSft {
    fn weight<T: Float>(&self, target: TargetProb<T>) -> T {
        let ceiling = cast::<T>(self.ceiling);
        let p = target.log_p.exp();
        if p == T::zero() || target.one_minus_p == T::zero() {
            return T::zero();
        }
        let logit = target.log_p - target.one_minus_p.ln();
        let highest = ceiling.ln() - (T::one() - ceiling).ln();
        p * (T::one() - logit / highest).max(T::zero())
    }
}

impl TokenObjective for InfoSft {
    #[inline]
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        TokenEval { loss: self.held(target, target), slope: -self.weight(target), kept: true }
    }

    #[inline]
    fn held<T: Float>(&self, frozen: TargetProb<T>, live: TargetProb<T>) -> T {
        let weight = self.weight(frozen);
        if weight == T::zero() { T::zero() } else { -weight * live.log_p }
    }

    fn kinks(&self) -> Kinks {
        [Some(self.ceiling), None, None, None]
    }
}
