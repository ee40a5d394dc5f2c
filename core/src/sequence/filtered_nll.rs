use super::{Needs, Response, SequenceEval, SequenceObjective};
use crate::objective::cast;
use num_traits::Float;

/// Maximum likelihood on the sequences whose reward reaches a threshold; the others are dropped.
///
/// ```text
/// reward >= threshold:   L = -log_p, slope = -1        otherwise:   L = 0, slope = 0, kept = false
/// ```
///
/// [`Denominator::Kept`](crate::Denominator::Kept) makes it the mean over the sequences that are kept.
///
/// **Domain.** `threshold` from -1e6 to 1e6. Needs `reward`. No kink: the reward does not depend on the
/// model.
///
/// ```
/// use tokenloss_core::sequence::{FilteredNll, Response, SequenceObjective};
/// let objective = FilteredNll::new(0.5)?;
/// let of = |reward: f64| objective.of_sequence(&Response { reward, ..Response::new(-3.0, 2.0) });
/// assert_eq!((of(0.5).loss, of(0.5).slope, of(0.4).kept), (3.0, -1.0, false));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Hu et al. 2023 (arXiv 2308.12050), there MLE with filtering.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FilteredNll {
    pub(crate) threshold: f32,
}

impl SequenceObjective for FilteredNll {
    fn needs(&self) -> Needs {
        Needs::REWARD
    }

    #[inline]
    fn of_sequence<T: Float>(&self, response: &Response<T>) -> SequenceEval<T> {
        if response.reward >= cast(self.threshold) {
            SequenceEval { loss: -response.log_p, slope: -T::one(), kept: true }
        } else {
            SequenceEval { loss: T::zero(), slope: T::zero(), kept: false }
        }
    }
}
