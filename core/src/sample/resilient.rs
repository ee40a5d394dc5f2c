use super::{
    SampleObjective, Samples, count,
    feasible::{ascend, lagrangian},
};
use crate::{Error, objective::cast};
use num_traits::Float;

/// Resilient feasible learning: constraints that may be relaxed, at a price.
///
/// ```text
/// min_(u >= 0) alpha / 2 |u|^2 such that l_i <= epsilon + u_i
/// loss = sum_i (lambda_i (l_i - epsilon) - lambda_i^2 / (2 alpha)) / n        weight_i = lambda_i / n
/// step   lambda_i <- max(0, lambda_i + eta (l_i - epsilon - lambda_i / alpha))
/// ```
///
/// The slack `u_i = lambda_i / alpha` is eliminated. The duals are bounded, and tend to `alpha max(0, l_i - epsilon)`:
/// [`SquaredHinge`](struct@super::SquaredHinge) is the same with the duals at their best at every step, without state.
/// `alpha = inf` is [`Feasible`](struct@super::Feasible).
///
/// **Domain.** `epsilon` from -1e6 to 1e6, in the unit of the losses; the price `alpha` from 1e-6 to 1e6; the duals' step
/// size `eta` from 0 to 1e6, stable below `2 alpha`.
///
/// **Inputs.** [`Samples::with_duals`], as of [`Feasible`](struct@super::Feasible). The loss is that of the duals before
/// their step.
///
/// ```
/// use tokenloss_core::sample::{Resilient, SampleObjective, Samples};
/// let resilient = Resilient::new(1.0, 2.0, 0.5)?;
/// let (losses, mut duals, mut weights) = ([3.0], [2.0], [0.0]);
/// let samples = Samples::new(&losses)?;
/// let loss = resilient.of_losses(&samples.with_duals(&duals)?, &mut weights, &mut [])?;
/// resilient.step(&samples, &mut duals)?;
/// assert_eq!((loss, weights, duals), (3.0, [2.0], [2.5]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Ramirez et al. 2025 (arXiv 2501.14912), as a sum over samples, not a mean. The code's value leaves out what
/// the losses do not move, `lambda epsilon` and `lambda^2 / (2 alpha)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resilient {
    pub(crate) epsilon: f32,
    pub(crate) alpha: f32,
    pub(crate) eta: f32,
}

impl Resilient {
    /// Moves the duals `[samples]` on.
    ///
    /// # Errors
    /// [`Error::Length`] for `duals`; [`Error::Input`] for the first that is negative or not finite. They are as they were
    /// then.
    pub fn step<T: Float>(&self, samples: &Samples<'_, T>, duals: &mut [T]) -> Result<(), Error> {
        let (epsilon, alpha, eta) = (cast::<T>(self.epsilon), cast::<T>(self.alpha), cast::<T>(self.eta));
        ascend(samples, duals, |loss, dual| eta * (loss - epsilon - dual / alpha))
    }
}

impl SampleObjective for Resilient {
    const SUMS_TO_ONE: bool = false;

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        let relaxed = lagrangian(samples, cast(self.epsilon), weights)?;
        let (alpha, all) = (cast::<T>(self.alpha), count::<T>(samples.count()));
        let price = samples.duals()?.iter().fold(T::zero(), |sum, &dual| sum + dual / all * dual);
        Ok(relaxed - price / (alpha + alpha))
    }
}
