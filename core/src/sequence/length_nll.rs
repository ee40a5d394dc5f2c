use super::{Response, SequenceEval, SequenceObjective};
use num_traits::Float;

/// Maximum likelihood, divided by a power of the length.
///
/// ```text
/// L = -log_p / |y|^alpha        slope = -1 / |y|^alpha
/// ```
///
/// `alpha = 0` is the sum over the tokens, `alpha = 1` their mean.
///
/// **Domain.** `alpha` from 0 to 4.
///
/// ```
/// use tokenloss_core::sequence::{LengthNll, Response, SequenceObjective};
/// let eval = LengthNll::new(1.0)?.of_sequence(&Response::new(-6.0, 3.0));
/// assert_eq!((eval.loss, eval.slope), (2.0, -1.0 / 3.0));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** The length penalty of Wu et al. 2016 (arXiv 1609.08144) in its simplest form. Any token
/// objective takes the same factors by
/// [`SequenceReduction::LengthPower`](super::SequenceReduction::LengthPower).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LengthNll {
    pub(crate) alpha: f32,
}

impl SequenceObjective for LengthNll {
    #[inline]
    fn of_sequence<T: Float>(&self, response: &Response<T>) -> SequenceEval<T> {
        let length = response.length_power(self.alpha);
        SequenceEval { loss: -response.log_p / length, slope: -length.recip(), kept: true }
    }
}
