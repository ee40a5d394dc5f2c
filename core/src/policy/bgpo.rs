use super::{RolloutToken, TokenPolicyEval, TokenPolicyObjective, ratio};
use num_traits::Float;

/// Boundary-guided policy optimisation: a bound on the sequence's surrogate that is a sum over Monte Carlo samples.
///
/// ```text
/// A >= 0:  L = -A (1 + d)        slope = -A
/// A <  0:  L = -A exp(d)         slope = -A exp(d)        d = l - l_old
/// ```
///
/// For diffusion language models, whose likelihood is known through estimates `l` of its evidence bound, one for each sample
/// of a time and a mask. Here a token is such a sample and `log_p` is its `l`, so that a sequence's token mean is the mean over
/// samples. `-A exp(mean d)` is at most this mean: by the tangent of the exponential for `A >= 0`, by Jensen for `A < 0`.
/// Samples are judged apart, so that one can be pushed back before the next is computed. `l` is the sum of the masked tokens'
/// `log_p` times `1 / (time * length)`; by the same number its slope becomes theirs.
///
/// **Domain.** Every finite `l` and `l_old`.
///
/// **Kinks.** None: the sign of the advantage is not the sample's.
///
/// **Numerics.** `exp(d)` saturates at the square root of the greatest finite number.
///
/// ```
/// use tokenloss_core::policy::{Bgpo, RolloutToken, TokenPolicyObjective};
/// let token = RolloutToken { log_p: -0.5f64, old: -1.5, reference: f64::NAN, advantage: 2.0 };
/// let eval = Bgpo.of_token(&token);
/// assert_eq!((eval.loss, eval.slope), (-4.0, -2.0));
/// ```
///
/// **Source.** Lin et al. 2025 (arXiv 2510.11683).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bgpo {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const Bgpo: Bgpo = Bgpo {};

impl TokenPolicyObjective for Bgpo {
    #[inline]
    fn of_token<T: Float>(&self, token: &RolloutToken<T>) -> TokenPolicyEval<T> {
        let RolloutToken { advantage, .. } = *token;
        let (loss, slope) = if advantage < T::zero() {
            let loss = -advantage * ratio(token.log_ratio());
            (loss, loss)
        } else {
            (-advantage * (T::one() + token.log_ratio()), -advantage)
        };
        TokenPolicyEval { loss, slope, clipped: false }
    }
}
