use super::{PairEval, PreferenceObjective};
use crate::math::{log_1m_exp, softplus};
use crate::objective::cast;
use crate::sequence::Response;
use num_traits::Float;

/// Odds ratio preference optimisation: nll, and the odds of the preferred sequence over those of the other.
///
/// ```text
/// m = log_p / |y|        odds = e^m / (1 - e^m)        h = log odds_chosen - log odds_rejected
/// L = -m_chosen - lambda log sigmoid(h)
/// slope_chosen = -(1 + lambda sigmoid(-h) / (1 - e^m_chosen)) / |chosen|
/// slope_rejected = lambda sigmoid(-h) / (1 - e^m_rejected) / |rejected|
/// ```
///
/// **Domain.** `lambda` from 0 to 100. Of a sequence that is certain, `m = 0`, the odds are infinite: `-m` is
/// taken to be no less than 1024 times the least normal number of the float type, so that even then the
/// slopes are finite.
///
/// **Numerics.** `log(1 - e^m)` is `ln(-exp_m1(m))` near 0 and `ln_1p(-exp(m))` elsewhere, and
/// `sigmoid(-h) / (1 - e^m)` is one exponential, so that the slope of a preferred sequence that is nearly
/// certain is finite. The authors' code subtracts in f32, and has NaN there.
///
/// ```
/// use tokenloss_core::preference::{Orpo, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let (chosen, rejected) = (Response::new(-3.0, 2.0), Response::new(-5.0, 4.0));
/// let eval = Orpo::new(0.1)?.of_pair(&chosen, &rejected, f64::NAN);
/// assert!(eval.loss > 1.5 && eval.slope_chosen < -0.5 && eval.slope_rejected > 0.0);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Hong et al. 2024 (arXiv 2403.07691). The authors' code and TRL take the nll over all tokens of
/// the batch, those of the prompts too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Orpo {
    pub(crate) lambda: f32,
}

impl PreferenceObjective for Orpo {
    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let lambda = cast::<T>(self.lambda);
        let least = cast::<T>(1024.0) * T::min_positive_value();
        let mean = |response: &Response<T>| response.mean_log_p().min(-least);
        let (w, l) = (mean(chosen), mean(rejected));
        let (rest_w, rest_l) = (log_1m_exp(w), log_1m_exp(l));
        let h = (w - l) - (rest_w - rest_l);
        // sigmoid(-h) = exp(-softplus(h)), joined with the division before either under- or overflows.
        let push = |rest: T| lambda * (-softplus(h) - rest).exp();
        PairEval {
            loss: -chosen.mean_log_p() + lambda * softplus(-h),
            slope_chosen: -(T::one() + push(rest_w)) / chosen.length,
            slope_rejected: push(rest_l) / rejected.length,
        }
    }
}
