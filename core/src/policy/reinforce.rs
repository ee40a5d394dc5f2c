use super::{RolloutToken, TokenPolicyEval, TokenPolicyObjective};
use num_traits::Float;

/// The score-function estimator: log-likelihood, weighted by the advantage.
///
/// ```text
/// L = -A log p        slope = -A
/// ```
///
/// For rollouts that the trained policy itself wrote; [`ImportanceWeighted`](struct@super::ImportanceWeighted) is for those of an
/// older one. With an advantage of 1 it is [`Nll`](struct@crate::Nll).
///
/// **Domain.** Every finite `log_p`; `old` is not looked at.
///
/// ```
/// use tokenloss_core::policy::{Reinforce, RolloutToken, TokenPolicyObjective};
/// let token = RolloutToken { log_p: -0.5f64, old: f64::NAN, reference: f64::NAN, advantage: 2.0 };
/// let eval = Reinforce.of_token(&token);
/// assert_eq!((eval.loss, eval.slope), (1.0, -2.0));
/// ```
///
/// **Source.** Williams 1992.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reinforce {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const Reinforce: Reinforce = Reinforce {};

impl TokenPolicyObjective for Reinforce {
    #[inline]
    fn of_token<T: Float>(&self, token: &RolloutToken<T>) -> TokenPolicyEval<T> {
        TokenPolicyEval { loss: -token.advantage * token.log_p, slope: -token.advantage, clipped: false }
    }
}
