use super::{RolloutToken, TokenPolicyEval, TokenPolicyObjective, clip_kinks, ratio};
use crate::objective::cast;
use num_traits::Float;

/// Log-likelihood weighted by the advantage and by a clipped ratio, through which no gradient flows.
///
/// ```text
/// L = -sg(clip(r, 1 - low, 1 + high)) A log p        slope = -clip(r, 1 - low, 1 + high) A        r = p / p_old
/// ```
///
/// The clip bounds the weight and drops no token: all of them keep a gradient. The slope is not the derivative of the value;
/// [`held`](TokenPolicyObjective::held) gives the function that it is the derivative of. With `low = high = 0` it is
/// [`Reinforce`](struct@super::Reinforce); with `low = 1`, the default, it is truncated importance sampling.
///
/// **Domain.** `low` from 0 to 1, `high` from 0 to 1e6.
///
/// **Kinks.** The weight has them at both ends of the clip, whatever the advantage.
///
/// ```
/// use tokenloss_core::policy::{Cispo, RolloutToken, TokenPolicyObjective};
/// let token = RolloutToken { log_p: -0.5f64, old: -3.5, reference: f64::NAN, advantage: 2.0 };
/// let eval = Cispo::new(1.0, 0.25)?.of_token(&token);
/// assert_eq!((eval.loss, eval.slope, eval.clipped), (1.25, -2.5, true));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** MiniMax 2025 (arXiv 2506.13585), which clips from above only. The code of verl clips at both ends, by .2; TRL
/// takes the greatest ratio itself for its `epsilon_high`, which is `1 + high` here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cispo {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Cispo {
    /// The weight, and whether it was clipped.
    fn weight<T: Float>(&self, token: &RolloutToken<T>) -> (T, bool) {
        let (low, high) = (cast::<T>(self.low), cast::<T>(self.high));
        let log_ratio = token.log_ratio();
        if log_ratio > high.ln_1p() {
            (T::one() + high, true)
        } else if log_ratio < (-low).ln_1p() {
            (T::one() - low, true)
        } else {
            (ratio(log_ratio), false)
        }
    }
}

impl TokenPolicyObjective for Cispo {
    #[inline]
    fn of_token<T: Float>(&self, token: &RolloutToken<T>) -> TokenPolicyEval<T> {
        let (weight, clipped) = self.weight(token);
        let slope = -weight * token.advantage;
        TokenPolicyEval { loss: slope * token.log_p, slope, clipped }
    }

    fn held<T: Float>(&self, frozen: &RolloutToken<T>, live: &RolloutToken<T>) -> T {
        -self.weight(frozen).0 * live.advantage * live.log_p
    }

    fn kinks(&self) -> [Option<f32>; 3] {
        let [low, high] = clip_kinks(self.low, self.high);
        [low, high, None]
    }
}
