use super::{RolloutToken, TokenPolicyEval, TokenPolicyObjective, ratio};
use crate::math::sigmoid;
use crate::objective::cast;
use num_traits::Float;

/// Soft adaptive policy optimisation: a sigmoid of the ratio in place of a clip.
///
/// ```text
/// L = -A (4 / tau) s        slope = -4 A s (1 - s) r        s = sigmoid(tau (r - 1)), r = p / p_old
/// ```
///
/// `tau` is `tau_pos` for positive advantages and `tau_neg` for all others. The gate `4 s (1 - s)` is 1 at `r = 1` and falls to
/// 0 on both sides, the faster the greater `tau`. Small `tau` come near [`ImportanceWeighted`](struct@super::ImportanceWeighted), whose
/// slope they share in the limit while the value differs by a constant.
///
/// **Domain.** `tau_pos` and `tau_neg` from 0.01 to 10.
///
/// **Numerics.** `1 - s` is the sigmoid of the negative: no difference of numbers near 1. Where the ratio saturates, the slope
/// has long been 0.
///
/// ```
/// use tokenloss_core::policy::{RolloutToken, Sapo, TokenPolicyObjective};
/// let token = RolloutToken { log_p: -0.5f64, old: -0.5, reference: f64::NAN, advantage: 2.0 };
/// let eval = Sapo::new(1.0, 1.05)?.of_token(&token);
/// assert_eq!((eval.loss, eval.slope), (-4.0, -2.0));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Gao et al. 2025 (arXiv 2511.20347). The code of verl has the same gate and takes the mean over sequences of
/// their token means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sapo {
    pub(crate) tau_pos: f32,
    pub(crate) tau_neg: f32,
}

impl TokenPolicyObjective for Sapo {
    #[inline]
    fn of_token<T: Float>(&self, token: &RolloutToken<T>) -> TokenPolicyEval<T> {
        let four = cast::<T>(4.0);
        let tau = cast::<T>(if token.advantage > T::zero() { self.tau_pos } else { self.tau_neg });
        let ratio = ratio(token.log_ratio());
        let at = tau * (ratio - T::one());
        let (open, shut) = (sigmoid(at), sigmoid(-at));
        TokenPolicyEval {
            loss: -token.advantage * four / tau * open,
            slope: -token.advantage * (four * open * shut) * ratio,
            clipped: false,
        }
    }
}
