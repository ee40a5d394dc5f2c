use super::{SampleObjective, Samples, count};
use crate::{Error, objective::cast};
use num_traits::Float;

/// Inverse propensity scoring: the mean over all samples from those that were seen.
///
/// ```text
/// loss = sum_i min(1 / p_i, clip) l_i / n        weight_i = min(1 / p_i, clip) / n
/// ```
///
/// Unbiased where nothing is clipped; clipping trades variance for a bias. The weights do not sum to 1, which is what
/// [`SelfNormalised`](struct@super::SelfNormalised) mends.
///
/// **Domain.** `clip` from 1, which is the mean, to 1e30, which clips nothing.
///
/// **Inputs.** [`Samples::with_propensities`].
///
/// ```
/// use tokenloss_core::sample::{InversePropensity, SampleObjective, Samples};
/// let samples = Samples::new(&[1.0, 1.0])?.with_propensities(&[0.5, 0.01])?;
/// let mut weights = [0.0; 2];
/// let loss = InversePropensity::new(10.0)?.of_losses(&samples, &mut weights, &mut [])?;
/// assert_eq!((loss, weights), (6.0, [1.0, 5.0]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Horvitz and Thompson 1952; clipped by Ionides 2008.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InversePropensity {
    pub(crate) clip: f32,
}

/// `min(1 / p, clip)` of each sample.
pub(super) fn inverses<T: Float>(
    samples: &Samples<'_, T>,
    clip: f32,
    weights: &mut [T],
) -> Result<(), Error> {
    for (weight, propensity) in weights.iter_mut().zip(samples.propensities()?) {
        *weight = propensity.recip().min(cast(clip));
    }
    Ok(())
}

impl SampleObjective for InversePropensity {
    const SUMS_TO_ONE: bool = false;

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        inverses(samples, self.clip, weights)?;
        let all = count(samples.count());
        weights.iter_mut().for_each(|weight| *weight = *weight / all);
        Ok(samples.dot(weights))
    }
}
