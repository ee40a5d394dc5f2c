use super::{RolloutToken, TokenPolicyEval, TokenPolicyObjective, clip, clip_kinks};
use num_traits::Float;

/// Proximal policy optimisation: the ratio, clipped on the side that the advantage pushes it to.
///
/// ```text
/// L = -min(A r, A clip(r, 1 - low, 1 + high))
/// slope = -A r where that is not clipped, else 0        r = p / p_old
/// ```
///
/// A `high` above `low` is DAPO's clip-higher (.2 and .28, with the mean over all tokens of the batch). With an advantage of
/// 1 everywhere it is proximal supervised fine-tuning (`high = .28`), of which only the upper clip acts. `low = 1` never
/// clips from below.
///
/// **Domain.** `low` from 0 to 1, `high` from 0 to 1e6.
///
/// **Kinks.** At `r = 1 - low` for negative and `r = 1 + high` for positive advantages; the kink itself counts as not
/// clipped.
///
/// **Numerics.** Log-ratios are compared, so that no ratio overflows. A negative advantage has no bound from above:
/// its ratio saturates at the square root of the greatest finite number ([`DualClip`](super::DualClip) bounds it).
///
/// ```
/// use tokenloss_core::policy::{Ppo, RolloutToken, TokenPolicyObjective};
/// let token = RolloutToken { log_p: -0.5f64, old: -1.5, reference: f64::NAN, advantage: 2.0 };
/// let eval = Ppo::new(0.2, 0.25)?.of_token(&token);
/// assert_eq!((eval.loss, eval.slope, eval.clipped), (-2.5, 0.0, true));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Schulman et al. 2017 (arXiv 1707.06347); Yu et al. 2025 (DAPO, arXiv 2503.14476); Zhu et al. 2025 (PSFT,
/// arXiv 2508.17784). The code of verl clamps log-ratios to 20 either way, where its gradient ends; here it does not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ppo {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl TokenPolicyObjective for Ppo {
    #[inline]
    fn of_token<T: Float>(&self, token: &RolloutToken<T>) -> TokenPolicyEval<T> {
        let (ratio, clipped) = clip(token.log_ratio(), token.advantage, self.low, self.high);
        let loss = -token.advantage * ratio;
        TokenPolicyEval { loss, slope: if clipped { T::zero() } else { loss }, clipped }
    }

    fn kinks(&self) -> [Option<f32>; 3] {
        let [low, high] = clip_kinks(self.low, self.high);
        [low, high, None]
    }
}
