use super::divergence::{from_floor, of_implicit_reward};
use super::{Needs, Response, SequenceEval, SequenceObjective};
use num_traits::Float;

/// An implicit reward learned under the total variation distance.
///
/// ```text
/// x = beta (log_p - reference)
/// L = -min(x, 1/2)        slope = -beta for x < 1/2, otherwise 0
/// ```
///
/// Maximum likelihood until a sequence is likelier than under the reference by a factor `e^(1 / 2 beta)`, and
/// nothing from there on.
///
/// **Domain.** `beta` from 0.001 to 10. Needs `reference`. `phi` is defined from `x = -1/2` on; below, the
/// loss goes on along the same line. `x = 1/2` is a declared kink, where the slope is 0.
///
/// ```
/// use tokenloss_core::sequence::{ImplicitTv, Response, SequenceObjective};
/// let response = Response { reference: -3.0, ..Response::new(-3.0, 4.0) };
/// let eval = ImplicitTv::new(0.5)?.of_sequence(&response);
/// assert_eq!((eval.loss, eval.slope), (0.0, -0.5));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Wang et al. 2025 (arXiv 2507.00018) derive such objectives for fine-tuning; `phi` is the
/// concave function of this divergence in IQ-Learn (arXiv 2106.12142).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImplicitTv {
    pub(crate) beta: f32,
}

impl SequenceObjective for ImplicitTv {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_sequence<T: Float>(&self, response: &Response<T>) -> SequenceEval<T> {
        let half = (T::one() + T::one()).recip();
        of_implicit_reward(response, self.beta, f32::MIN, |x| {
            if x < half { (x, T::one()) } else { (half, T::zero()) }
        })
    }

    fn kink<T: Float>(&self, response: &Response<T>) -> Option<T> {
        Some(from_floor(response, self.beta, 0.5))
    }
}
