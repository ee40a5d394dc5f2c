use super::{RolloutToken, TokenPolicyEval, TokenPolicyObjective, ratio};
use num_traits::Float;

/// The policy gradient on rollouts of an older policy: the advantage times the ratio, unclipped.
///
/// ```text
/// L = -A r        slope = -A r        r = p / p_old
/// ```
///
/// [`Ppo`](super::Ppo) without its clip.
///
/// **Domain.** Every finite `log_p` and `old`.
///
/// **Numerics.** `r = exp(log_p - old)`, which saturates at the square root of the greatest finite number: in f32 from a
/// log-ratio of 44 on, in f64 from 354 on. The slope saturates with it and does not vanish.
///
/// ```
/// use tokenloss_core::policy::{ImportanceWeighted, RolloutToken, TokenPolicyObjective};
/// let token = RolloutToken { log_p: -0.5f64, old: -0.5, reference: f64::NAN, advantage: 2.0 };
/// let eval = ImportanceWeighted.of_token(&token);
/// assert_eq!((eval.loss, eval.slope), (-2.0, -2.0));
/// ```
///
/// **Source.** Schulman et al. 2017 (arXiv 1707.06347), L^CPI.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImportanceWeighted {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const ImportanceWeighted: ImportanceWeighted = ImportanceWeighted {};

impl TokenPolicyObjective for ImportanceWeighted {
    #[inline]
    fn of_token<T: Float>(&self, token: &RolloutToken<T>) -> TokenPolicyEval<T> {
        let loss = -token.advantage * ratio(token.log_ratio());
        TokenPolicyEval { loss, slope: loss, clipped: false }
    }
}
