use super::{PairEval, PreferenceObjective, cross_entropy};
use crate::objective::cast;
use crate::sequence::Response;
use num_traits::Float;

/// Contrastive preference optimisation: DPO with a uniform reference, and the nll of the preferred sequence.
///
/// ```text
/// h = beta (log_p_chosen - log_p_rejected)
/// L = -(1 - smoothing) log sigmoid(h) - smoothing log sigmoid(-h) - lambda log_p_chosen / |chosen|
/// slopes = beta dL/dh - lambda / |chosen|, -beta dL/dh
/// ```
///
/// `dL/dh` is that of [`Dpo`](struct@super::Dpo).
///
/// **Domain.** `beta` from 0.001 to 100, `smoothing` from 0 to 0.5, `lambda` from 0 to 100.
///
/// ```
/// use tokenloss_core::preference::{Cpo, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let (chosen, rejected) = (Response::new(-3.0, 2.0), Response::new(-5.0, 4.0));
/// let eval = Cpo::new(0.5, 0.0, 1.0)?.of_pair(&chosen, &rejected, f64::NAN);
/// assert!((eval.loss - ((-1f64).exp().ln_1p() + 1.5)).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Xu et al. 2024 (arXiv 2401.08417). The paper's nll is a sum; the authors' code and TRL take
/// the mean over all tokens of the batch, which for one pair is the mean taken here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cpo {
    pub(crate) beta: f32,
    pub(crate) smoothing: f32,
    pub(crate) lambda: f32,
}

impl PreferenceObjective for Cpo {
    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let (beta, smoothing) = (cast::<T>(self.beta), cast::<T>(self.smoothing));
        let h = beta * (chosen.log_p - rejected.log_p);
        let (loss, slope) = cross_entropy(T::one() - smoothing, smoothing, h);
        PairEval::of_margin(loss, slope, beta, beta).with_nll(cast(self.lambda), chosen)
    }
}
