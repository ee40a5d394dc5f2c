use super::{PairEval, PreferenceObjective, cross_entropy, log_ratio_margin};
use crate::math::sigmoid;
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// Margin matching preference optimisation: how much better the preferred sequence is decides how sure the
/// model should be.
///
/// ```text
/// h = beta ((log_p - reference)_chosen - (log_p - reference)_rejected)
/// p = sigmoid(gamma gap)        L = -p log sigmoid(h) - (1 - p) log sigmoid(-h)
/// slopes = +-beta (sigmoid(h) - p)
/// ```
///
/// The optimum is `h = gamma gap`. An infinite gap is [`Dpo`](struct@super::Dpo), and the gap of
/// `p = 1 - smoothing` its smoothed form.
///
/// **Domain.** `beta` from 0.001 to 100, `gamma` from 0 to 100. Needs `reference` and `gap`, the difference
/// of two qualities.
///
/// **Numerics.** `sigmoid(a) - sigmoid(b)` is `-sigmoid(a) sigmoid(-b) exp_m1(b - a)`, so that the slope
/// keeps its relative accuracy at the optimum and far from it.
///
/// ```
/// use tokenloss_core::preference::{Mmpo, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let chosen = Response { reference: -4.0, ..Response::new(-3.0, 2.0) };
/// let rejected = Response { reference: -4.0, ..Response::new(-5.0, 4.0) };
/// let eval = Mmpo::new(0.5, 1.0)?.of_pair(&chosen, &rejected, 1.0f64);
/// assert!(eval.slope_chosen.abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Kim et al. 2024 (arXiv 2410.03145).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mmpo {
    pub(crate) beta: f32,
    pub(crate) gamma: f32,
}

impl PreferenceObjective for Mmpo {
    fn needs(&self) -> Needs {
        Needs { reference: true, gap: true, ..Needs::NOTHING }
    }

    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, gap: T) -> PairEval<T> {
        let (beta, sure) = (cast::<T>(self.beta), cast::<T>(self.gamma) * gap);
        let h = beta * log_ratio_margin(chosen, rejected);
        let (loss, _) = cross_entropy(sigmoid(sure), sigmoid(-sure), h);
        // sigmoid(a) - sigmoid(b) of the greater a.
        let (a, b) = (h.max(sure), h.min(sure));
        let size = -sigmoid(a) * sigmoid(-b) * (b - a).exp_m1();
        PairEval::of_margin(loss, if h < sure { -size } else { size }, beta, beta)
    }
}
