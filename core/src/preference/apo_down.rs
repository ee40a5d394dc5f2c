use super::{PairEval, PreferenceObjective, log_ratio_margin};
use crate::math::sigmoid;
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// Anchored preference optimisation: both sequences down, the rejected one more.
///
/// ```text
/// h = beta (log_p - reference), of each        m = h_chosen - h_rejected
/// L = sigmoid(h_chosen) + 1 - sigmoid(m)
/// slopes = beta (sigmoid(h_chosen) sigmoid(-h_chosen) - sigmoid(m) sigmoid(-m)), beta sigmoid(m) sigmoid(-m)
/// ```
///
/// For preferred sequences that are worse than the model's own.
///
/// **Domain.** `beta` from 0.001 to 100. Needs `reference`.
///
/// **Numerics.** The slope of the preferred sequence is a difference, exact to the last bits of `beta / 4`.
///
/// ```
/// use tokenloss_core::preference::{ApoDown, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let chosen = Response { reference: -4.0, ..Response::new(-3.0, 2.0) };
/// let rejected = Response { reference: -4.0, ..Response::new(-5.0, 4.0) };
/// let eval = ApoDown::new(1.0)?.of_pair(&chosen, &rejected, f64::NAN);
/// assert!(eval.slope_chosen > 0.0 && eval.slope_rejected > 0.0);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** D'Oosterlinck et al. 2024 (arXiv 2408.06266), equation 8.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ApoDown {
    pub(crate) beta: f32,
}

impl PreferenceObjective for ApoDown {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let beta = cast::<T>(self.beta);
        let (w, margin) = (beta * chosen.log_ratio(), beta * log_ratio_margin(chosen, rejected));
        let pull = beta * sigmoid(margin) * sigmoid(-margin);
        PairEval {
            loss: sigmoid(w) + sigmoid(-margin),
            slope_chosen: beta * sigmoid(w) * sigmoid(-w) - pull,
            slope_rejected: pull,
        }
    }
}
