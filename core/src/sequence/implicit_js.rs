use super::divergence::{from_floor, of_implicit_reward};
use super::{Needs, Response, SequenceEval, SequenceObjective};
use num_traits::Float;

/// An implicit reward learned under the Jensen-Shannon divergence.
///
/// ```text
/// x = beta (log_p - reference)
/// L = -log(2 - e^-x)        slope = -beta e^-x / (2 - e^-x)
/// ```
///
/// What the model has learned already pulls exponentially less: the loss tends to `-log 2`.
///
/// **Domain.** `beta` from 0.001 to 10. Needs `reference`. The loss is infinite at `x = -log 2`, so from
/// `floor`, -0.69 to 0, down it goes on along its tangent; `floor` is a declared kink.
///
/// **Numerics.** `2 - e^-x` is `1 - exp_m1(-x)`, and its logarithm `ln_1p` of what is beside the 1.
///
/// ```
/// use tokenloss_core::sequence::{ImplicitJs, Response, SequenceObjective};
/// let response = Response { reference: -3.0, ..Response::new(-3.0, 4.0) };
/// let eval = ImplicitJs::new(0.5, -0.6)?.of_sequence(&response);
/// assert_eq!((eval.loss, eval.slope), (0.0, -0.5));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Wang et al. 2025 (arXiv 2507.00018) derive such objectives for fine-tuning; `phi` is the
/// concave function of this divergence in IQ-Learn (arXiv 2106.12142).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImplicitJs {
    pub(crate) beta: f32,
    pub(crate) floor: f32,
}

impl SequenceObjective for ImplicitJs {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_sequence<T: Float>(&self, response: &Response<T>) -> SequenceEval<T> {
        of_implicit_reward(response, self.beta, self.floor, |x| {
            let rest = -(-x).exp_m1();
            (rest.ln_1p(), (-x).exp() / (T::one() + rest))
        })
    }

    fn kink<T: Float>(&self, response: &Response<T>) -> Option<T> {
        Some(from_floor(response, self.beta, self.floor))
    }
}
