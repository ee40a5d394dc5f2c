use super::{PairEval, PreferenceObjective};
use crate::math::sigmoid;
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// Anchored preference optimisation: the preferred sequence up, the rejected one down, each by itself.
///
/// ```text
/// h = beta (log_p - reference), of each        L = 1 - sigmoid(h_chosen) + sigmoid(h_rejected)
/// slopes = -beta sigmoid(h_chosen) sigmoid(-h_chosen), beta sigmoid(h_rejected) sigmoid(-h_rejected)
/// ```
///
/// For preferred sequences that are better than the model's own.
///
/// **Domain.** `beta` from 0.001 to 100. Needs `reference`.
///
/// ```
/// use tokenloss_core::preference::{ApoZero, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let chosen = Response { reference: -4.0, ..Response::new(-3.0, 2.0) };
/// let rejected = Response { reference: -4.0, ..Response::new(-5.0, 4.0) };
/// let eval = ApoZero::new(1.0)?.of_pair(&chosen, &rejected, f64::NAN);
/// assert!(eval.slope_chosen < 0.0 && eval.slope_rejected > 0.0);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** D'Oosterlinck et al. 2024 (arXiv 2408.06266), equation 7.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ApoZero {
    pub(crate) beta: f32,
}

impl PreferenceObjective for ApoZero {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let beta = cast::<T>(self.beta);
        let (w, l) = (beta * chosen.log_ratio(), beta * rejected.log_ratio());
        PairEval {
            loss: sigmoid(-w) + sigmoid(l),
            slope_chosen: -beta * sigmoid(w) * sigmoid(-w),
            slope_rejected: beta * sigmoid(l) * sigmoid(-l),
        }
    }
}
