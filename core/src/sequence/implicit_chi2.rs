use super::divergence::of_implicit_reward;
use super::{Needs, Response, SequenceEval, SequenceObjective};
use num_traits::Float;

/// An implicit reward learned under the chi-squared divergence.
///
/// ```text
/// x = beta (log_p - reference)
/// L = -x + x^2 / 4        slope = -beta (1 - x / 2)
/// ```
///
/// Unlike maximum likelihood it stays near the reference: it is least at `x = 2`, and pulls back from beyond.
///
/// **Domain.** `beta` from 0.001 to 10. Needs `reference`. Every `x`.
///
/// ```
/// use tokenloss_core::sequence::{ImplicitChi2, Response, SequenceObjective};
/// let response = Response { reference: -3.0, ..Response::new(-3.0, 4.0) };
/// let eval = ImplicitChi2::new(0.5)?.of_sequence(&response);
/// assert_eq!((eval.loss, eval.slope), (0.0, -0.5));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Wang et al. 2025 (arXiv 2507.00018) derive such objectives for fine-tuning; `phi` is the
/// concave function of this divergence in IQ-Learn (arXiv 2106.12142).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImplicitChi2 {
    pub(crate) beta: f32,
}

impl SequenceObjective for ImplicitChi2 {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_sequence<T: Float>(&self, response: &Response<T>) -> SequenceEval<T> {
        let two = T::one() + T::one();
        of_implicit_reward(response, self.beta, f32::MIN, |x| (x - x * x / (two + two), T::one() - x / two))
    }
}
