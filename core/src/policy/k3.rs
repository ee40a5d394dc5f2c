use super::{RolloutToken, TokenPolicyEval, TokenPolicyObjective, saturated};
use crate::math::exp_m1_m_x;
use crate::objective::cast;
use num_traits::Float;

/// The penalty of GRPO: never negative, unbiased in value, and in gradient that of the divergence the other way round.
///
/// ```text
/// L = beta (exp(-d) - 1 + d)        slope = beta (1 - exp(-d))        d = log_p - log_p_ref
/// ```
///
/// Over the policy's own tokens the mean of its value is KL(policy || reference), and the mean of its gradient is the gradient of
/// KL(reference || policy). Where that matters take [`K2`](super::K2), whose
/// gradient the code of verl puts under the value of k3 as `k3+`.
///
/// **Domain.** `beta` from 0 to 100. Needs a reference; the advantage is not looked at.
///
/// **Numerics.** Near `d = 0` the value is about `d^2 / 2` and is not formed by subtraction; the slope is `-exp_m1(-d)`. `exp(-d)`
/// saturates at the square root of the greatest finite number.
///
/// ```
/// use tokenloss_core::policy::{K3, RolloutToken, TokenPolicyObjective};
/// let token = RolloutToken { log_p: -1.0f64, old: f64::NAN, reference: -1.0 + 1e-9, advantage: f64::NAN };
/// let eval = K3::new(1.0)?.of_token(&token);
/// assert!((eval.loss / 5e-19 - 1.0).abs() < 1e-6 && (eval.slope / -1e-9 - 1.0).abs() < 1e-6);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Schulman 2020, "Approximating KL divergence"; Shao et al. 2024 (GRPO, arXiv 2402.03300). The code of verl clamps `d`
/// to 20 either way and the value to 10, and ends the gradient there; here it goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct K3 {
    pub(crate) beta: f32,
}

impl TokenPolicyObjective for K3 {
    #[inline]
    fn of_token<T: Float>(&self, token: &RolloutToken<T>) -> TokenPolicyEval<T> {
        let beta = cast::<T>(self.beta);
        let back = saturated(token.reference - token.log_p);
        TokenPolicyEval { loss: beta * exp_m1_m_x(back), slope: -beta * back.exp_m1(), clipped: false }
    }

    fn needs_reference(&self) -> bool {
        true
    }
}
