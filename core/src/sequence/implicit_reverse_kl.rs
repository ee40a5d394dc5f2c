use super::divergence::{from_floor, of_implicit_reward};
use super::{Needs, Response, SequenceEval, SequenceObjective};
use num_traits::Float;

/// An implicit reward learned under the reverse Kullback-Leibler divergence.
///
/// ```text
/// x = beta (log_p - reference)
/// L = e^-(x + 1)        slope = -beta e^-(x + 1)
/// ```
///
/// What the model has learned already pulls exponentially less: the loss tends to 0.
///
/// **Domain.** `beta` from 0.001 to 10. Needs `reference`. The loss grows exponentially as `x` falls, so from
/// `floor`, -20 to 0, down it goes on along its tangent; `floor` is a declared kink.
///
/// ```
/// use tokenloss_core::sequence::{ImplicitReverseKl, Response, SequenceObjective};
/// let response = Response { reference: -3.0, ..Response::new(-3.0, 4.0) };
/// let eval = ImplicitReverseKl::new(0.5, -5.0)?.of_sequence(&response);
/// assert_eq!((eval.loss, eval.slope), ((-1f64).exp(), -0.5 * (-1f64).exp()));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Wang et al. 2025 (arXiv 2507.00018) derive such objectives for fine-tuning; `phi` is the
/// concave function of this divergence in IQ-Learn (arXiv 2106.12142).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImplicitReverseKl {
    pub(crate) beta: f32,
    pub(crate) floor: f32,
}

impl SequenceObjective for ImplicitReverseKl {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_sequence<T: Float>(&self, response: &Response<T>) -> SequenceEval<T> {
        of_implicit_reward(response, self.beta, self.floor, |x| {
            let small = (-x - T::one()).exp();
            (-small, small)
        })
    }

    fn kink<T: Float>(&self, response: &Response<T>) -> Option<T> {
        Some(from_floor(response, self.beta, self.floor))
    }
}
