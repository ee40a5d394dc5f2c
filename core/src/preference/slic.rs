use super::{PairEval, PreferenceObjective};
use crate::objective::cast;
use crate::sequence::Response;
use num_traits::Float;

/// Sequence likelihood calibration: a hinge on the margin itself, without a reference model.
///
/// ```text
/// L = max(0, delta - log_p_chosen + log_p_rejected) - lambda log_p_chosen / |chosen|
/// slopes = -+1 for log_p_chosen - log_p_rejected < delta, otherwise 0, and -lambda / |chosen|
/// ```
///
/// **Domain.** `delta` from 0 to 100, `lambda` from 0 to 100. A margin of `delta` is a declared kink, where
/// the slopes are those of the nll alone.
///
/// ```
/// use tokenloss_core::preference::{Slic, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let (chosen, rejected) = (Response::new(-3.0, 2.0), Response::new(-5.0, 4.0));
/// let eval = Slic::new(3.0, 0.0)?.of_pair(&chosen, &rejected, f64::NAN);
/// assert_eq!((eval.loss, eval.slope_chosen, eval.slope_rejected), (1.0, -1.0, 1.0));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Zhao et al. 2023 (arXiv 2305.10425). Its regulariser is the nll of the sequence that
/// supervised training had; here it is the preferred one, and the mean over its tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slic {
    pub(crate) delta: f32,
    pub(crate) lambda: f32,
}

impl PreferenceObjective for Slic {
    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let short = cast::<T>(self.delta) - chosen.log_p + rejected.log_p;
        let slope = if short > T::zero() { -T::one() } else { T::zero() };
        PairEval::of_margin(short.max(T::zero()), slope, T::one(), T::one())
            .with_nll(cast(self.lambda), chosen)
    }

    fn kink<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>) -> Option<T> {
        Some(chosen.log_p - rejected.log_p - cast(self.delta))
    }
}
