use super::{SampleObjective, Samples};
use crate::Error;
use num_traits::Float;

/// The weighted mean.
///
/// ```text
/// loss = sum_i w_i l_i / sum_i w_i        weight_i = w_i / sum_j w_j
/// ```
///
/// With [`class_weights`](super::class_weights) it is PyTorch's `CrossEntropyLoss(weight=..)`.
///
/// **Inputs.** [`Samples::with_weights`].
///
/// **Numerics.** Weights are divided by the greatest first, so that their sum does not overflow.
///
/// **Errors.** [`Error::NoWeight`] for weights whose sum is 0.
///
/// ```
/// use tokenloss_core::sample::{SampleObjective, Samples, WeightedMean};
/// let samples = Samples::new(&[1.0, 3.0])?.with_weights(&[3.0, 1.0])?;
/// let mut weights = [0.0; 2];
/// let loss = WeightedMean::new()?.of_losses(&samples, &mut weights, &mut [])?;
/// assert_eq!((loss, weights), (1.5, [0.75, 0.25]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** The textbook; importance weighting where the weights are density ratios (Shimodaira 2000).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightedMean {}

/// Divides by the sum.
pub(super) fn normalise<T: Float>(what: &'static str, weights: &mut [T]) -> Result<(), Error> {
    let greatest = weights.iter().fold(T::zero(), |greatest, &weight| greatest.max(weight));
    if greatest == T::zero() {
        return Err(Error::NoWeight { what });
    }
    let sum = weights.iter().fold(T::zero(), |sum, &weight| sum + weight / greatest);
    weights.iter_mut().for_each(|weight| *weight = *weight / greatest / sum);
    Ok(())
}

impl SampleObjective for WeightedMean {
    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        weights.copy_from_slice(samples.weights()?);
        normalise("weights", weights)?;
        Ok(samples.dot(weights))
    }
}
