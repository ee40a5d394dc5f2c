use super::{Response, SequenceEval, SequenceObjective};
use crate::objective::{cast, power};
use num_traits::Float;

/// The Tsallis family: the power family of a whole sequence's probability `P`.
///
/// ```text
/// L = (1 - P^(1 - q)) / (1 - q)        slope = -P^(1 - q)
/// ```
///
/// `q = 1` is maximum likelihood, `q = 0` the expected reward of a verifier that accepts this sequence alone.
/// The smaller `q`, the slower an unlikely sequence is learned, and the less its noise is.
///
/// **Domain.** `q` from 0 to 1.
///
/// **Numerics.** As [`Power`](struct@crate::Power) at `alpha = 1 - q`. The probability of a long sequence is
/// small: where `(1 - q) log_p` is below -87, the slope is 0 in f32.
///
/// ```
/// use tokenloss_core::sequence::{Response, SequenceObjective, Tsallis};
/// let eval = Tsallis::new(0.5)?.of_sequence(&Response::new((0.25f64).ln(), 2.0));
/// assert!((eval.loss - 1.0).abs() < 1e-15 && (eval.slope + 0.5).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** arXiv 2604.25907, there `J_Q`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tsallis {
    pub(crate) q: f32,
}

impl SequenceObjective for Tsallis {
    #[inline]
    fn of_sequence<T: Float>(&self, response: &Response<T>) -> SequenceEval<T> {
        let eval = power(T::one() - cast::<T>(self.q), response.log_p);
        SequenceEval { loss: eval.loss, slope: eval.slope, kept: true }
    }
}
