use super::{SampleObjective, Samples, count};
use crate::Error;
use num_traits::Float;

/// The mean.
///
/// ```text
/// loss = sum_i l_i / n        weight_i = 1 / n
/// ```
///
/// **Numerics.** Losses are divided before they are summed, so that no sum overflows.
///
/// ```
/// use tokenloss_core::sample::{Mean, SampleObjective, Samples};
/// let mut weights = [0.0; 2];
/// let loss = Mean::new()?.of_losses(&Samples::new(&[1.0, 2.0])?, &mut weights, &mut [])?;
/// assert_eq!((loss, weights), (1.5, [0.5, 0.5]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Empirical risk minimisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {}

impl SampleObjective for Mean {
    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        weights.fill(T::one() / count(samples.count()));
        Ok(samples.dot(weights))
    }
}
