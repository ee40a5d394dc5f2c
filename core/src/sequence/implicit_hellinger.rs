use super::divergence::{from_floor, of_implicit_reward};
use super::{Needs, Response, SequenceEval, SequenceObjective};
use num_traits::Float;

/// An implicit reward learned under the squared Hellinger distance.
///
/// ```text
/// x = beta (log_p - reference)
/// L = -x / (1 + x)        slope = -beta / (1 + x)^2
/// ```
///
/// What the model has learned already pulls less and less: the loss tends to -1.
///
/// **Domain.** `beta` from 0.001 to 10. Needs `reference`. The loss is infinite at `x = -1`, so from `floor`,
/// -0.99 to 0, down it goes on along its tangent; `floor` is a declared kink.
///
/// ```
/// use tokenloss_core::sequence::{ImplicitHellinger, Response, SequenceObjective};
/// let response = Response { reference: -3.0, ..Response::new(-3.0, 4.0) };
/// let eval = ImplicitHellinger::new(0.5, -0.9)?.of_sequence(&response);
/// assert_eq!((eval.loss, eval.slope), (0.0, -0.5));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Wang et al. 2025 (arXiv 2507.00018) derive such objectives for fine-tuning; `phi` is the
/// concave function of this divergence in IQ-Learn (arXiv 2106.12142).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImplicitHellinger {
    pub(crate) beta: f32,
    pub(crate) floor: f32,
}

impl SequenceObjective for ImplicitHellinger {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_sequence<T: Float>(&self, response: &Response<T>) -> SequenceEval<T> {
        of_implicit_reward(response, self.beta, self.floor, |x| {
            let inverse = (T::one() + x).recip();
            (x * inverse, inverse * inverse)
        })
    }

    fn kink<T: Float>(&self, response: &Response<T>) -> Option<T> {
        Some(from_floor(response, self.beta, self.floor))
    }
}
