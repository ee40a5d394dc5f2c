use super::{SampleObjective, Samples, count};
use crate::{Error, check_length, objective::cast};
use num_traits::Float;

/// Feasible learning: every sample's loss at most `epsilon`, by a dual variable for each.
///
/// ```text
/// find l_i <= epsilon for all i
/// loss = sum_i lambda_i (l_i - epsilon) / n        weight_i = lambda_i / n
/// step   lambda_i <- max(0, lambda_i + eta (l_i - epsilon))
/// ```
///
/// A sample that meets its constraint loses weight until it has none; one that does not gains it without bound, which is
/// what [`Resilient`](struct@super::Resilient) is for.
///
/// **Domain.** `epsilon` from -1e6 to 1e6, in the unit of the losses; the duals' step size `eta` from 0 to 1e6.
///
/// **Inputs.** [`Samples::with_duals`]: of the samples in the batch, gathered by the caller and, after [`step`](Self::step),
/// scattered back. The loss is that of the duals before their step.
///
/// ```
/// use tokenloss_core::sample::{Feasible, SampleObjective, Samples};
/// let feasible = Feasible::new(1.0, 0.5)?;
/// let (losses, mut duals, mut weights) = ([3.0, 0.0], [1.0, 0.25], [0.0; 2]);
/// let samples = Samples::new(&losses)?;
/// let loss = feasible.of_losses(&samples.with_duals(&duals)?, &mut weights, &mut [])?;
/// feasible.step(&samples, &mut duals)?;
/// assert_eq!((loss, weights, duals), (0.875, [0.5, 0.125], [2.0, 0.0]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Ramirez et al. 2025 (arXiv 2501.14912), as a sum over samples, not a mean. The code for preferences takes
/// the mean over the batch, as here, starts the duals at 1, and leaves the constant `lambda epsilon` out of the value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Feasible {
    pub(crate) epsilon: f32,
    pub(crate) eta: f32,
}

impl Feasible {
    /// Moves the duals `[samples]` on.
    ///
    /// # Errors
    /// [`Error::Length`] for `duals`; [`Error::Input`] for the first that is negative or not finite. They are as they were
    /// then.
    pub fn step<T: Float>(&self, samples: &Samples<'_, T>, duals: &mut [T]) -> Result<(), Error> {
        let (epsilon, eta) = (cast::<T>(self.epsilon), cast::<T>(self.eta));
        ascend(samples, duals, |loss, _| eta * (loss - epsilon))
    }
}

/// One step of projected ascent; `slope` is the step that a loss and its dual ask for.
pub(super) fn ascend<T: Float>(
    samples: &Samples<'_, T>,
    duals: &mut [T],
    step: impl Fn(T, T) -> T,
) -> Result<(), Error> {
    samples.with_duals(&*duals)?;
    for (dual, loss) in duals.iter_mut().zip(samples.losses()) {
        // A dual that leaves the float type stays at its greatest value.
        *dual = (*dual + step(loss, *dual)).max(T::zero()).min(T::max_value());
    }
    Ok(())
}

/// `lambda / n`, and the mean of `lambda (l - epsilon)`.
pub(super) fn lagrangian<T: Float>(
    samples: &Samples<'_, T>,
    epsilon: T,
    weights: &mut [T],
) -> Result<T, Error> {
    check_length("weights", samples.count(), weights.len())?;
    let all = count::<T>(samples.count());
    let mut loss = T::zero();
    for ((weight, &dual), l) in weights.iter_mut().zip(samples.duals()?).zip(samples.losses()) {
        *weight = dual / all;
        loss = loss + *weight * (l - epsilon);
    }
    Ok(loss)
}

impl SampleObjective for Feasible {
    const SUMS_TO_ONE: bool = false;

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        lagrangian(samples, cast(self.epsilon), weights)
    }
}
