use super::{SampleObjective, Samples, count};
use crate::{Error, objective::cast};
use num_traits::Float;

/// Resilient feasible learning without state: a squared hinge on what a loss exceeds `epsilon` by.
///
/// ```text
/// loss = alpha / 2 sum_i max(0, l_i - epsilon)^2 / n        weight_i = alpha max(0, l_i - epsilon) / n
/// ```
///
/// [`Resilient`](struct@super::Resilient) with its duals at their best.
///
/// **Domain.** `epsilon` from -1e6 to 1e6, in the unit of the losses; the price `alpha` from 1e-6 to 1e6.
///
/// ```
/// use tokenloss_core::sample::{SampleObjective, Samples, SquaredHinge};
/// let mut weights = [0.0; 2];
/// let hinge = SquaredHinge::new(1.0, 2.0)?;
/// let loss = hinge.of_losses(&Samples::new(&[3.0, 0.5])?, &mut weights, &mut [])?;
/// assert_eq!((loss, weights), (2.0, [2.0, 0.0]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** The closed form of the inner problem of Ramirez et al. 2025 (arXiv 2501.14912). The code's comparison,
/// "clamped", is the same with `alpha = 2`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SquaredHinge {
    pub(crate) epsilon: f32,
    pub(crate) alpha: f32,
}

impl SampleObjective for SquaredHinge {
    const SUMS_TO_ONE: bool = false;

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        let (epsilon, alpha) = (cast::<T>(self.epsilon), cast::<T>(self.alpha));
        let (all, half) = (count::<T>(samples.count()), T::one() / (T::one() + T::one()));
        let mut loss = T::zero();
        for (weight, l) in weights.iter_mut().zip(samples.losses()) {
            let excess = (l - epsilon).max(T::zero());
            *weight = alpha * excess / all;
            loss = loss + half * *weight * excess;
        }
        Ok(loss)
    }
}
