use super::{PairEval, PreferenceObjective, cross_entropy, log_ratio_margin};
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// Direct preference optimisation: the reward is the log-ratio to a reference model.
///
/// ```text
/// h = beta ((log_p - reference)_chosen - (log_p - reference)_rejected)
/// L = -(1 - smoothing) log sigmoid(h) - smoothing log sigmoid(-h) - lambda log_p_chosen / |chosen|
/// dL/dh = smoothing sigmoid(h) - (1 - smoothing) sigmoid(-h)
/// slopes = +-beta dL/dh, and -lambda / |chosen|
/// ```
///
/// With `smoothing`, conservative DPO: labels are taken to be flipped with that probability, and `h` has the
/// finite optimum `log((1 - smoothing) / smoothing)`. With `lambda`, the nll of the preferred sequence is
/// added, so that its own likelihood does not fall while the margin grows.
///
/// **Domain.** `beta` from 0.001 to 100, `smoothing` from 0 to 0.5, `lambda` from 0 to 100. Needs
/// `reference`.
///
/// **Numerics.** `log sigmoid` by `ln_1p`, and `1 - sigmoid(h)` as `sigmoid(-h)`: confident pairs keep their
/// relative accuracy.
///
/// ```
/// use tokenloss_core::preference::{Dpo, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let chosen = Response { reference: -4.0, ..Response::new(-3.0, 2.0) };
/// let rejected = Response { reference: -4.0, ..Response::new(-5.0, 4.0) };
/// let eval = Dpo::new(0.5, 0.0, 0.0)?.of_pair(&chosen, &rejected, f64::NAN);
/// assert!((eval.loss - (-1f64).exp().ln_1p()).abs() < 1e-15);
/// assert!(eval.slope_chosen == -eval.slope_rejected);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Rafailov et al. 2023 (arXiv 2305.18290), where the smoothing is in an appendix; the nll,
/// divided by the length, is that of iterative reasoning preference optimisation (Pang et al. 2024, arXiv
/// 2404.19733). TRL's `rpo_alpha` takes the mean nll over all tokens of the batch and not per sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpo {
    pub(crate) beta: f32,
    pub(crate) smoothing: f32,
    pub(crate) lambda: f32,
}

impl PreferenceObjective for Dpo {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let (beta, smoothing) = (cast::<T>(self.beta), cast::<T>(self.smoothing));
        let h = beta * log_ratio_margin(chosen, rejected);
        let (loss, slope) = cross_entropy(T::one() - smoothing, smoothing, h);
        PairEval::of_margin(loss, slope, beta, beta).with_nll(cast(self.lambda), chosen)
    }
}
