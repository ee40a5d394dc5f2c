use super::{PairEval, PreferenceObjective, log_ratio_margin};
use crate::math::{sigmoid, softplus};
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// Discovered preference optimisation: a logistic loss blended with an exponential one by the margin itself.
///
/// ```text
/// h = beta ((log_p - reference)_chosen - (log_p - reference)_rejected)
/// b = sigmoid(h / tau)        L = -(1 - b) log sigmoid(h) + b e^-h
/// dL/dh = -(1 - b) sigmoid(-h) - b e^-h + b (1 - b) (e^-h + log sigmoid(h)) / tau        slopes = +-beta dL/dh
/// ```
///
/// Found by a search, and not monotone: near `h = 0` the loss has a dip, and the slopes change their signs.
///
/// **Domain.** `beta` from 0.001 to 100, `tau` from 0.01 to 1. Needs `reference`.
///
/// **Numerics.** `b e^-h` is `exp(-h - softplus(-h / tau))`, which is at most 1; formed as written it is 0
/// times infinity.
///
/// ```
/// use tokenloss_core::preference::{DiscoPop, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let chosen = Response { reference: -4.0, ..Response::new(-3.0, 2.0) };
/// let rejected = Response { reference: -4.0, ..Response::new(-5.0, 4.0) };
/// let eval = DiscoPop::new(0.5, 0.05)?.of_pair(&chosen, &rejected, f64::NAN);
/// assert!((eval.loss - (-1f64).exp()).abs() < 1e-7);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Lu et al. 2024 (arXiv 2406.08414), equation 5. Its gradient flows through the blend, as in
/// TRL.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiscoPop {
    pub(crate) beta: f32,
    pub(crate) tau: f32,
}

impl PreferenceObjective for DiscoPop {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let (beta, tau) = (cast::<T>(self.beta), cast::<T>(self.tau));
        let h = beta * log_ratio_margin(chosen, rejected);
        let (blend, rest) = (sigmoid(h / tau), sigmoid(-h / tau));
        let (logistic, exponential) = (softplus(-h), (-h - softplus(-h / tau)).exp());
        let steep = rest * (exponential - blend * logistic) / tau;
        let slope = steep - rest * sigmoid(-h) - exponential;
        PairEval::of_margin(rest * logistic + exponential, slope, beta, beta)
    }
}
