use super::{PairEval, PreferenceObjective, cross_entropy};
use crate::objective::cast;
use crate::sequence::Response;
use num_traits::Float;

/// Simple preference optimisation: mean log-probabilities, a margin to beat, and no reference model.
///
/// ```text
/// h = beta (log_p_chosen / |chosen| - log_p_rejected / |rejected|) - gamma
/// L = -(1 - smoothing) log sigmoid(h) - smoothing log sigmoid(-h) - lambda log_p_chosen / |chosen|
/// slopes = beta dL/dh / |chosen| - lambda / |chosen|, -beta dL/dh / |rejected|
/// ```
///
/// `dL/dh` is that of [`Dpo`](struct@super::Dpo). With `lambda` it is CPO-SimPO.
///
/// **Domain.** `beta` from 0.001 to 100, `gamma` from 0 to 100, `smoothing` from 0 to 0.5, `lambda` from 0 to
/// 100.
///
/// ```
/// use tokenloss_core::preference::{SimPo, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let (chosen, rejected) = (Response::new(-3.0, 2.0), Response::new(-5.0, 4.0));
/// let eval = SimPo::new(2.0, 0.5, 0.0, 0.0)?.of_pair(&chosen, &rejected, f64::NAN);
/// // The means are -1.5 and -1.25.
/// assert!((eval.loss - 1f64.exp().ln_1p()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Meng et al. 2024 (arXiv 2405.14734). The authors' code has the ratio `gamma / beta` as its
/// parameter, TRL `gamma`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimPo {
    pub(crate) beta: f32,
    pub(crate) gamma: f32,
    pub(crate) smoothing: f32,
    pub(crate) lambda: f32,
}

impl PreferenceObjective for SimPo {
    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let (beta, smoothing) = (cast::<T>(self.beta), cast::<T>(self.smoothing));
        let h = beta * (chosen.mean_log_p() - rejected.mean_log_p()) - cast(self.gamma);
        let (loss, slope) = cross_entropy(T::one() - smoothing, smoothing, h);
        PairEval::of_margin(loss, slope, beta / chosen.length, beta / rejected.length)
            .with_nll(cast(self.lambda), chosen)
    }
}
