use super::{PairEval, PreferenceObjective, log_ratio_margin};
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// A hinge on the margin of DPO.
///
/// ```text
/// h = beta ((log_p - reference)_chosen - (log_p - reference)_rejected)
/// L = max(0, 1 - h)        slopes = -+beta for h < 1, otherwise 0
/// ```
///
/// **Domain.** `beta` from 0.001 to 100; `1 / beta` is the margin that is asked for. Needs `reference`.
/// `h = 1` is a declared kink, where the slopes are 0.
///
/// ```
/// use tokenloss_core::preference::{Hinge, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let chosen = Response { reference: -4.0, ..Response::new(-3.0, 2.0) };
/// let rejected = Response { reference: -4.0, ..Response::new(-5.0, 4.0) };
/// let eval = Hinge::new(0.25)?.of_pair(&chosen, &rejected, f64::NAN);
/// assert_eq!((eval.loss, eval.slope_chosen, eval.slope_rejected), (0.5, -0.25, 0.25));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Liu et al. 2023 (arXiv 2309.06657), there hinge-norm; TRL's `hinge`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hinge {
    pub(crate) beta: f32,
}

impl PreferenceObjective for Hinge {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let beta = cast::<T>(self.beta);
        let short = T::one() - beta * log_ratio_margin(chosen, rejected);
        let slope = if short > T::zero() { -T::one() } else { T::zero() };
        PairEval::of_margin(short.max(T::zero()), slope, beta, beta)
    }

    fn kink<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>) -> Option<T> {
        Some(cast::<T>(self.beta) * log_ratio_margin(chosen, rejected) - T::one())
    }
}
