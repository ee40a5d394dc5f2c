use super::{RolloutToken, TokenPolicyEval, TokenPolicyObjective, clip, clip_kinks, ratio};
use crate::{Error, Parameter, TokenObjective};
use num_traits::Float;

/// What the gradient of the probability is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Divisor {
    /// 1: text of unknown origin, such as a demonstration.
    One,
    /// The probability under the policy that wrote the token.
    Old,
    /// The probability itself, without its gradient.
    Current,
}

/// The unified policy-gradient estimator: a mask, a divisor, an advantage and a function of the probability.
///
/// ```text
/// L = A f(p) / pi        slope = A f'(p) p / pi        pi = 1, p_old or sg(p)
/// ```
///
/// `f` is any token objective, whose slope `f'(p) p` this takes over: all that is known of token objectives serves
/// policies, too. With `f = 1 - p` ([`Power`](crate::Power) at `alpha = 1`) the divisor [`Old`](Divisor::Old) gives the gradient
/// of [`ImportanceWeighted`](struct@super::ImportanceWeighted) and [`Current`](Divisor::Current) that of [`Reinforce`](struct@super::Reinforce);
/// [`Nll`](struct@crate::Nll) over [`One`](Divisor::One) is supervised fine-tuning, weighted.
///
/// **Domain.** Every `log_p <= 0`. A mask ([`with_mask`](Unified::with_mask)) drops the tokens that PPO's clip would, and
/// their value with them.
///
/// **Numerics.** `1 / pi` saturates at the square root of the greatest finite number, in f32 at a log-probability of -44.
/// Values with the divisor `Old` are as large as `1 / p_old`; it is the slopes that are of use there.
///
/// ```
/// use tokenloss_core::policy::{Divisor, RolloutToken, TokenPolicyObjective, Unified};
/// use tokenloss_core::Power;
///
/// let token = RolloutToken { log_p: -1.0f64, old: -1.5, reference: f64::NAN, advantage: 2.0 };
/// let eval = Unified::new(Power::new(1.0)?, Divisor::Old).of_token(&token);
/// assert!((eval.slope + 2.0 * (0.5f64).exp()).abs() < 1e-14);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Lv et al. 2025 (arXiv 2509.04419), whose code reshapes off-policy tokens by log p, p + log p, a power of p and
/// `p / (p + c)`, the last of which is [`Shaping`](super::Shaping) here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unified<F> {
    reshape: F,
    divisor: Divisor,
    mask: Option<[f32; 2]>,
}

impl<F: TokenObjective> Unified<F> {
    /// Without a mask.
    pub fn new(reshape: F, divisor: Divisor) -> Self {
        Self { reshape, divisor, mask: None }
    }

    /// With the mask of PPO's clip at `1 - low` and `1 + high`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for `low` or `high`, whose domains are those of [`Ppo`](super::Ppo).
    pub fn with_mask(self, low: f32, high: f32) -> Result<Self, Error> {
        let [low_domain, high_domain] = Self::MASK;
        let mask = [low_domain.check("unified", low)?, high_domain.check("unified", high)?];
        Ok(Self { mask: Some(mask), ..self })
    }

    const MASK: [Parameter; 2] = [
        Parameter { name: "low", default: 0.2, min: 0.0, max: 1.0 },
        Parameter { name: "high", default: 0.2, min: 0.0, max: 1e6 },
    ];

    /// `A / pi`, or 0 where the mask drops the token.
    fn factor<T: Float>(&self, token: &RolloutToken<T>) -> (T, bool) {
        let dropped =
            self.mask.is_some_and(|[low, high]| clip(token.log_ratio(), token.advantage, low, high).1);
        if dropped {
            return (T::zero(), true);
        }
        let inverse = match self.divisor {
            Divisor::One => T::one(),
            Divisor::Old => ratio(-token.old),
            Divisor::Current => ratio(-token.log_p),
        };
        (token.advantage * inverse, false)
    }
}

impl<F: TokenObjective> TokenPolicyObjective for Unified<F> {
    fn of_token<T: Float>(&self, token: &RolloutToken<T>) -> TokenPolicyEval<T> {
        let (factor, clipped) = self.factor(token);
        let eval = self.reshape.of_log_p(token.log_p);
        TokenPolicyEval { loss: factor * eval.loss, slope: factor * eval.slope, clipped }
    }

    fn held<T: Float>(&self, frozen: &RolloutToken<T>, live: &RolloutToken<T>) -> T {
        let of = |token: &RolloutToken<T>| crate::TargetProb::from_log_p(token.log_p);
        self.factor(frozen).0 * self.reshape.held(of(frozen), of(live))
    }

    /// Those of the mask; the reshape's own are probabilities, see [`TokenObjective::kinks`].
    fn kinks(&self) -> [Option<f32>; 3] {
        let [low, high] = self.mask.map_or([None; 2], |[low, high]| clip_kinks(low, high));
        [low, high, None]
    }
}
