use super::{SampleObjective, Samples, count};
use crate::{Error, objective::cast};
use num_traits::Float;

/// The weight of a sample in compatibility-aware dynamic fine-tuning: less for one that the model finds harder than the
/// batch.
///
/// ```text
/// z_i = (c_i - mean c) / std c        w_i = sg exp(-beta max(0, z_i))
/// loss = sum_i w_i l_i / n        weight_i = w_i / n
/// ```
///
/// The difficulty `c_i` is the mean nll of a sample's tokens; the losses are those of another objective, in the paper the
/// mean of [`Dft`](struct@crate::Dft). Samples no harder than the mean have the weight that they would have in it.
///
/// **Domain.** `beta` from 0, which is the mean, to 1e3; the paper has 1.
///
/// **Inputs.** [`Samples::with_difficulties`].
///
/// **Numerics.** The standard deviation is that of the batch itself, with a denominator of `n`. Where all difficulties are
/// equal it is 0, and all weights are 1.
///
/// ```
/// use tokenloss_core::sample::{Cadft, SampleObjective, Samples};
/// let samples = Samples::new(&[0.5f64, 0.25])?.with_difficulties(&[1.0, 3.0])?;
/// let mut weights = [0.0; 2];
/// Cadft::new(1.0)?.of_losses(&samples, &mut weights, &mut [])?;
/// assert!(weights[0] == 0.5 && (weights[1] - 0.5 * (-1f64).exp()).abs() < 1e-16);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** "Compatibility-Aware Dynamic Fine-Tuning" (arXiv 2606.11206), without its rewriting of hard samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cadft {
    pub(crate) beta: f32,
}

impl SampleObjective for Cadft {
    const SUMS_TO_ONE: bool = false;

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        let (beta, difficulties) = (cast::<T>(self.beta), samples.difficulties()?);
        let all = count::<T>(samples.count());
        // Half a distance from the first: exactly 0 for equals, and finite for any two.
        let half = T::one() / (T::one() + T::one());
        let distance = |c: T| half * c - half * difficulties[0];
        let mean = difficulties.iter().fold(T::zero(), |sum, &c| sum + distance(c) / all);
        // Relative to the greatest one, so that no square leaves the float type.
        let far = difficulties.iter().fold(T::zero(), |far, &c| far.max((distance(c) - mean).abs()));
        let variance = difficulties.iter().fold(T::zero(), |sum, &c| {
            let off = (distance(c) - mean) / far;
            sum + off * off / all
        });
        let deviation = variance.sqrt();
        for (weight, &c) in weights.iter_mut().zip(difficulties) {
            let z = if far > T::zero() { (distance(c) - mean) / far / deviation } else { T::zero() };
            *weight = (-beta * z.max(T::zero())).exp() / all;
        }
        Ok(samples.dot(weights))
    }
}
