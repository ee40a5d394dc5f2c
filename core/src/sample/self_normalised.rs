use super::{SampleObjective, Samples, inverse_propensity::inverses, weighted_mean::normalise};
use crate::Error;
use num_traits::Float;

/// Self-normalised inverse propensity scoring.
///
/// ```text
/// w_i = min(1 / p_i, clip)        loss = sum_i w_i l_i / sum_i w_i        weight_i = w_i / sum_j w_j
/// ```
///
/// Of a lower variance than [`InversePropensity`](struct@super::InversePropensity), of a bias that vanishes with the number
/// of samples, and indifferent to a constant in the losses.
///
/// **Domain.** `clip` from 1, which is the mean, to 1e30, which clips nothing.
///
/// **Inputs.** [`Samples::with_propensities`].
///
/// ```
/// use tokenloss_core::sample::{SampleObjective, Samples, SelfNormalised};
/// let samples = Samples::new(&[1.0, 3.0])?.with_propensities(&[1.0, 0.25])?;
/// let mut weights = [0.0; 2];
/// let loss = SelfNormalised::new(3.0)?.of_losses(&samples, &mut weights, &mut [])?;
/// assert_eq!((loss, weights), (2.5, [0.25, 0.75]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Swaminathan and Joachims 2015, "The Self-Normalized Estimator for Counterfactual Learning".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SelfNormalised {
    pub(crate) clip: f32,
}

impl SampleObjective for SelfNormalised {
    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        inverses(samples, self.clip, weights)?;
        normalise("propensities", weights)?;
        Ok(samples.dot(weights))
    }
}
