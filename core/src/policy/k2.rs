use super::{RolloutToken, TokenPolicyEval, TokenPolicyObjective};
use crate::objective::cast;
use num_traits::Float;

/// The penalty whose gradient is that of the divergence from a reference: half the square of the log-ratio.
///
/// ```text
/// L = beta d^2 / 2        slope = beta d        d = log_p - log_p_ref
/// ```
///
/// Over the policy's own tokens the mean of its gradient is the gradient of KL(policy || reference); its value is biased.
///
/// **Domain.** `beta` from 0 to 100. Needs a reference; the advantage is not looked at.
///
/// ```
/// use tokenloss_core::policy::{K2, RolloutToken, TokenPolicyObjective};
/// let token = RolloutToken { log_p: -0.5f64, old: f64::NAN, reference: -2.5, advantage: f64::NAN };
/// let eval = K2::new(0.5)?.of_token(&token);
/// assert_eq!((eval.loss, eval.slope), (1.0, 1.0));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Schulman 2020, "Approximating KL divergence".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct K2 {
    pub(crate) beta: f32,
}

impl TokenPolicyObjective for K2 {
    #[inline]
    fn of_token<T: Float>(&self, token: &RolloutToken<T>) -> TokenPolicyEval<T> {
        let d = token.log_p - token.reference;
        let slope = cast::<T>(self.beta) * d;
        TokenPolicyEval { loss: slope * d / (T::one() + T::one()), slope, clipped: false }
    }

    fn needs_reference(&self) -> bool {
        true
    }
}
