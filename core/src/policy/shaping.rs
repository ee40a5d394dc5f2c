use super::{RolloutToken, TokenPolicyEval, TokenPolicyObjective};
use crate::objective::cast;
use num_traits::Float;

/// Policy shaping: a bounded function of the probability for tokens that no known policy wrote.
///
/// ```text
/// L = -A p / (p + c)        slope = -A c p / (p + c)^2
/// ```
///
/// Against `-A p` it lifts tokens of low probability: the slope is greatest at `p = c`, where it is `-A / 4`.
/// For a demonstration the advantage is that of a right answer.
///
/// **Domain.** `c` from 0.001 to 1. Every `log_p <= 0`; `old` is not looked at.
///
/// **Numerics.** `p = exp(log_p)`; the slope underflows with `p`.
///
/// ```
/// use tokenloss_core::policy::{RolloutToken, Shaping, TokenPolicyObjective};
/// let token = RolloutToken { log_p: (0.5f64).ln(), old: f64::NAN, reference: f64::NAN, advantage: 1.0 };
/// let eval = Shaping::new(0.5)?.of_token(&token);
/// assert!((eval.loss + 0.5).abs() < 1e-15 && (eval.slope + 0.25).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Yan et al. 2025 (LUFFY, arXiv 2504.14945), `c = .1`; one of the reshapes of Lv et al. 2025 (arXiv 2509.04419).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shaping {
    pub(crate) c: f32,
}

impl TokenPolicyObjective for Shaping {
    #[inline]
    fn of_token<T: Float>(&self, token: &RolloutToken<T>) -> TokenPolicyEval<T> {
        let c = cast::<T>(self.c);
        let p = token.log_p.exp();
        let share = p / (p + c);
        let loss = -token.advantage * share;
        TokenPolicyEval { loss, slope: loss * (c / (p + c)), clipped: false }
    }
}
