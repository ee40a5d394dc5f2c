use super::{RolloutToken, TokenPolicyEval, TokenPolicyObjective, clip, clip_kinks};
use crate::objective::cast;
use num_traits::Float;

/// [`Ppo`](super::Ppo) with a bound on what a negative advantage can cost.
///
/// ```text
/// A >= 0:  L = -min(A r, A clip(r, 1 - low, 1 + high))
/// A <  0:  L = the same, but at most -A bound
/// slope = -A r where nothing is clipped, else 0
/// ```
///
/// Without it a token that became `r` times as likely in spite of a negative advantage pushes with `r`.
///
/// **Domain.** `low` from 0 to 1, `high` from 0 to 1e6, `bound` from 1 to 1e6.
///
/// **Kinks.** Those of `Ppo`, and `r = bound` for negative advantages.
///
/// ```
/// use tokenloss_core::policy::{DualClip, RolloutToken, TokenPolicyObjective};
/// let token = RolloutToken { log_p: -0.5f64, old: -3.5, reference: f64::NAN, advantage: -1.0 };
/// let eval = DualClip::new(0.2, 0.2, 3.0)?.of_token(&token);
/// assert_eq!((eval.loss, eval.slope, eval.clipped), (3.0, 0.0, true));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Ye et al. 2020 (arXiv 1912.09729). The code of verl has it on by default, with a bound of 3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DualClip {
    pub(crate) low: f32,
    pub(crate) high: f32,
    pub(crate) bound: f32,
}

impl TokenPolicyObjective for DualClip {
    #[inline]
    fn of_token<T: Float>(&self, token: &RolloutToken<T>) -> TokenPolicyEval<T> {
        let (log_ratio, bound) = (token.log_ratio(), cast::<T>(self.bound));
        let (ratio, clipped) = if token.advantage < T::zero() && log_ratio > bound.ln() {
            (bound, true)
        } else {
            clip(log_ratio, token.advantage, self.low, self.high)
        };
        let loss = -token.advantage * ratio;
        TokenPolicyEval { loss, slope: if clipped { T::zero() } else { loss }, clipped }
    }

    fn kinks(&self) -> [Option<f32>; 3] {
        let [low, high] = clip_kinks(self.low, self.high);
        [low, high, Some(Float::ln(self.bound))]
    }
}
