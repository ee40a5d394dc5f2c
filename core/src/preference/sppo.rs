use super::{PairEval, PreferenceObjective};
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// Self-play preference optimisation with sure labels: each log-ratio is regressed on its own number.
///
/// ```text
/// L = ((log_p - reference)_chosen - 1 / (2 beta))^2 + ((log_p - reference)_rejected + 1 / (2 beta))^2
/// slopes = 2 ((log_p - reference)_chosen - 1 / (2 beta)), 2 ((log_p - reference)_rejected + 1 / (2 beta))
/// ```
///
/// **Domain.** `beta` from 0.001 to 100, the inverse of the paper's eta. Needs `reference`.
///
/// ```
/// use tokenloss_core::preference::{Sppo, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let chosen = Response { reference: -4.0, ..Response::new(-3.0, 2.0) };
/// let rejected = Response { reference: -4.0, ..Response::new(-5.0, 4.0) };
/// let eval = Sppo::new(0.5)?.of_pair(&chosen, &rejected, f64::NAN);
/// assert_eq!((eval.loss, eval.slope_chosen, eval.slope_rejected), (0.0, 0.0, 0.0));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Wu et al. 2024 (arXiv 2405.00675), equation 4.7 with probabilities of 1 and 0; TRL's
/// `sppo_hard`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sppo {
    pub(crate) beta: f32,
}

impl PreferenceObjective for Sppo {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let two = T::one() + T::one();
        let target = (two * cast(self.beta)).recip();
        let (w, l) = (chosen.log_ratio() - target, rejected.log_ratio() + target);
        PairEval { loss: w * w + l * l, slope_chosen: two * w, slope_rejected: two * l }
    }
}
