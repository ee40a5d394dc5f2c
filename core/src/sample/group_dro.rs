use super::{SampleObjective, Samples, weighted_mean::normalise};
use crate::{Error, objective::cast};
use num_traits::Float;

/// Group DRO: the risk of the worst group, by weights that rise with a group's risk.
///
/// ```text
/// R_g = mean loss of group g        loss = sum_g q_g R_g        weight_i = q_g / n_g of i's group
/// step   q_g <- q_g exp(eta R_g), rescaled to the sum that they had
/// ```
///
/// **Domain.** The step size `eta` from 0 to 1e3.
///
/// **Inputs.** [`Samples::with_groups`] and [`Samples::with_group_weights`]: of the groups in the batch, gathered by the
/// caller and, after [`step`](Self::step), scattered back. Since a step keeps their sum, the weights of all groups sum to 1
/// however few of them a batch has. The weights of samples sum to what those of the groups sum to.
///
/// **Numerics.** The greatest exponent is subtracted.
///
/// ```
/// use tokenloss_core::{Segments, sample::{GroupDro, SampleObjective, Samples}};
/// let robust = GroupDro::new(0.5)?;
/// let (losses, mut q, mut weights) = ([1.0, 3.0, 0.0f64], [0.5, 0.5], [0.0; 3]);
/// let samples = Samples::new(&losses)?.with_groups(Segments::new(&[0, 2, 3], 3)?)?;
/// robust.step(&samples, &mut q)?;
/// assert!((q[0] / q[1] - 1f64.exp()).abs() < 1e-14);
/// let loss = robust.of_losses(&samples.with_group_weights(&q)?, &mut weights, &mut [])?;
/// assert!((loss - 2.0 * q[0]).abs() < 1e-15 && weights[0] == q[0] / 2.0);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Sagawa et al. 2020 (arXiv 1911.08731). Its code steps before it takes the loss, as in the example, gives
/// groups that the batch lacks a risk of 0 and rescales all to 1; its adjustment `C / sqrt(n_g)` for small groups is a
/// constant to be added to the losses that [`step`](Self::step) is given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupDro {
    pub(crate) eta: f32,
}

impl GroupDro {
    /// Moves the groups' weights `[groups]` on.
    ///
    /// # Errors
    /// [`Error::Length`] for `group_weights` or if there are no groups; [`Error::Input`] for the first that is negative or
    /// not finite, [`Error::NoWeight`] if all are 0. They are as they were then.
    pub fn step<T: Float>(&self, samples: &Samples<'_, T>, group_weights: &mut [T]) -> Result<(), Error> {
        let (eta, groups) = (cast::<T>(self.eta), samples.groups()?);
        samples.with_group_weights(&*group_weights)?;
        let sum = group_weights.iter().fold(T::zero(), |sum, &weight| sum + weight);
        let exponent = |group: usize| eta * samples.mean(groups.range(group));
        // Of groups that have a weight: one that has none has no say.
        let greatest = (0..groups.count())
            .filter(|&group| group_weights[group] > T::zero())
            .fold(T::neg_infinity(), |greatest, group| greatest.max(exponent(group)));
        if greatest == T::neg_infinity() {
            return Err(Error::NoWeight { what: "group_weights" });
        }
        for (group, weight) in group_weights.iter_mut().enumerate() {
            if *weight > T::zero() {
                *weight = *weight * (exponent(group) - greatest).exp();
            }
        }
        normalise("group_weights", group_weights)?;
        group_weights.iter_mut().for_each(|weight| *weight = *weight * sum);
        Ok(())
    }
}

impl SampleObjective for GroupDro {
    const SUMS_TO_ONE: bool = false;

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        for (group, &weight) in samples.groups()?.iter().zip(samples.group_weights()?) {
            let share = weight / super::count(group.len());
            weights[group].fill(share);
        }
        Ok(samples.dot(weights))
    }
}
