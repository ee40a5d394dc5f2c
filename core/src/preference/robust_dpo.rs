use super::{PairEval, PreferenceObjective, log_ratio_margin};
use crate::math::{sigmoid, softplus};
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// DPO with the bias of flipped labels removed.
///
/// ```text
/// h = beta ((log_p - reference)_chosen - (log_p - reference)_rejected)
/// L = (-(1 - smoothing) log sigmoid(h) + smoothing log sigmoid(-h)) / (1 - 2 smoothing)
/// dL/dh = -((1 - smoothing) sigmoid(-h) + smoothing sigmoid(h)) / (1 - 2 smoothing)
/// slopes = +-beta dL/dh
/// ```
///
/// If a share `smoothing` of the labels is flipped, its expectation is the loss of [`Dpo`](struct@super::Dpo)
/// on clean ones. It falls without bound as `h` grows: the slope tends to `-smoothing / (1 - 2 smoothing)`
/// and not to 0.
///
/// **Domain.** `beta` from 0.001 to 100, `smoothing` from 0, which is DPO, to 0.49. Needs `reference`.
///
/// ```
/// use tokenloss_core::preference::{RobustDpo, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let chosen = Response { reference: -4.0, ..Response::new(-3.0, 2.0) };
/// let rejected = Response { reference: -4.0, ..Response::new(-5.0, 4.0) };
/// let eval = RobustDpo::new(0.5, 0.0)?.of_pair(&chosen, &rejected, f64::NAN);
/// assert!((eval.loss - (-1f64).exp().ln_1p()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Ray Chowdhury et al. 2024 (arXiv 2403.00409).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RobustDpo {
    pub(crate) beta: f32,
    pub(crate) smoothing: f32,
}

impl PreferenceObjective for RobustDpo {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let (beta, smoothing) = (cast::<T>(self.beta), cast::<T>(self.smoothing));
        let h = beta * log_ratio_margin(chosen, rejected);
        let (clean, flipped) = (T::one() - smoothing, smoothing);
        let bias = clean - flipped;
        let loss = (clean * softplus(-h) - flipped * softplus(h)) / bias;
        let slope = -(clean * sigmoid(-h) + flipped * sigmoid(h)) / bias;
        PairEval::of_margin(loss, slope, beta, beta)
    }
}
