use super::{RolloutToken, TokenPolicyEval, TokenPolicyObjective};
use crate::objective::cast;
use num_traits::Float;

/// The penalty whose value estimates the divergence from a reference without bias: the log-ratio itself.
///
/// ```text
/// L = beta d        slope = beta        d = log_p - log_p_ref
/// ```
///
/// The mean of `d` over the policy's own tokens is KL(policy || reference). The mean of the *gradient* of `d` is 0: as a loss it
/// does nothing in expectation. It belongs in a reward; as a loss take [`K2`](super::K2) or [`K3`](super::K3).
///
/// **Domain.** `beta` from 0 to 100. Needs a reference; the advantage is not looked at.
///
/// ```
/// use tokenloss_core::policy::{K1, RolloutToken, TokenPolicyObjective};
/// let token = RolloutToken { log_p: -0.5f64, old: f64::NAN, reference: -1.5, advantage: f64::NAN };
/// let eval = K1::new(0.5)?.of_token(&token);
/// assert_eq!((eval.loss, eval.slope), (0.5, 0.5));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Schulman 2020, "Approximating KL divergence".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct K1 {
    pub(crate) beta: f32,
}

impl TokenPolicyObjective for K1 {
    #[inline]
    fn of_token<T: Float>(&self, token: &RolloutToken<T>) -> TokenPolicyEval<T> {
        let beta = cast::<T>(self.beta);
        TokenPolicyEval { loss: beta * (token.log_p - token.reference), slope: beta, clipped: false }
    }

    fn needs_reference(&self) -> bool {
        true
    }
}
