use super::{PairEval, PreferenceObjective};
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// Identity preference optimisation: the margin is regressed on a number, so that it cannot grow for ever.
///
/// ```text
/// h = (log_p - reference)_chosen / |chosen|^alpha - (log_p - reference)_rejected / |rejected|^alpha
/// d = h - 1 / (2 beta)        L = d^2        slopes = 2 d / |chosen|^alpha, -2 d / |rejected|^alpha
/// ```
///
/// `alpha = 0` takes sums over the tokens, `alpha = 1` their means. The target is the same for both, so that
/// `beta` means another thing: with sums of a hundred tokens, 0.1 asks for a margin of .05 per token, with
/// means for one of 5.
///
/// **Domain.** `beta` (the paper's tau) from 0.001 to 100, `alpha` from 0 to 1. Needs `reference`.
///
/// ```
/// use tokenloss_core::preference::{Ipo, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let chosen = Response { reference: -4.0, ..Response::new(-3.0, 2.0) };
/// let rejected = Response { reference: -4.0, ..Response::new(-5.0, 4.0) };
/// let eval = Ipo::new(0.25, 0.0)?.of_pair(&chosen, &rejected, f64::NAN);
/// assert_eq!((eval.loss, eval.slope_chosen, eval.slope_rejected), (0.0, 0.0, 0.0));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Azar et al. 2023 (arXiv 2310.12036), equation 17, which has sums: `alpha = 0`. TRL takes
/// means: `alpha = 1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ipo {
    pub(crate) beta: f32,
    pub(crate) alpha: f32,
}

impl PreferenceObjective for Ipo {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let (w, l) = (chosen.length_power(self.alpha), rejected.length_power(self.alpha));
        let two = T::one() + T::one();
        let error = chosen.log_ratio() / w - rejected.log_ratio() / l - (two * cast(self.beta)).recip();
        PairEval::of_margin(error * error, two * error, w.recip(), l.recip())
    }
}
