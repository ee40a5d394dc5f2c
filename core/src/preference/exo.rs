use super::{PairEval, PreferenceObjective, log_ratio_margin};
use crate::math::{sigmoid, softplus};
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// Efficient exact optimisation: the reverse divergence from the labels to the model, of a pair.
///
/// ```text
/// h = beta ((log_p - reference)_chosen - (log_p - reference)_rejected)
/// L = sigmoid(h) log(sigmoid(h) / (1 - smoothing)) + sigmoid(-h) log(sigmoid(-h) / smoothing)
/// slopes = +-beta sigmoid(h) sigmoid(-h) (h - log((1 - smoothing) / smoothing))
/// ```
///
/// Where [`Dpo`](struct@super::Dpo) covers the labels' modes, this seeks one: a pair that is far off is
/// hardly moved.
///
/// **Domain.** `beta` from 0.001 to 100, `smoothing` from 1e-6 to 0.5. Needs `reference`.
///
/// **Numerics.** The slopes are products, 0 at the optimum to all digits. The loss is 0 there as a difference
/// of logarithms, to the last bits of these.
///
/// ```
/// use tokenloss_core::preference::{Exo, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let chosen = Response { reference: -4.0, ..Response::new(-3.0, 2.0) };
/// let rejected = Response { reference: -4.0, ..Response::new(-5.0, 4.0) };
/// let eval = Exo::new(0.5, 0.5)?.of_pair(&chosen, &rejected, f64::NAN);
/// assert!(eval.loss > 0.0 && eval.slope_chosen > 0.0);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Ji et al. 2024 (arXiv 2402.00856), equation 16. TRL takes a smoothing of 0 as 1e-3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exo {
    pub(crate) beta: f32,
    pub(crate) smoothing: f32,
}

impl PreferenceObjective for Exo {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let (beta, smoothing) = (cast::<T>(self.beta), cast::<T>(self.smoothing));
        let h = beta * log_ratio_margin(chosen, rejected);
        let (sure, unsure) = (sigmoid(h), sigmoid(-h));
        let (clean, flipped) = ((-smoothing).ln_1p(), smoothing.ln());
        let loss = sure * (-softplus(-h) - clean) + unsure * (-softplus(h) - flipped);
        PairEval::of_margin(loss, sure * unsure * (h - (clean - flipped)), beta, beta)
    }
}
