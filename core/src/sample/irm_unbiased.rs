use super::{SampleObjective, Samples, count};
use crate::{Error, Segments};
use core::ops::Range;
use num_traits::Float;

/// The invariance penalty of IRMv1 without bias: the product of two independent halves in place of a square.
///
/// ```text
/// loss = mean_e D_e0 D_e1        D_ep = mean d_i of the samples of e in places of parity p
/// weight_i = D_e1 / (m n_e0) in even places, D_e0 / (m n_e1) in odd ones        for m environments
/// ```
///
/// A function of the samples' `d_i`, as [`Irm`](struct@super::Irm). It may be negative, and depends on which samples have
/// even places: shuffle first.
///
/// **Inputs.** [`Samples::with_groups`], the environments.
///
/// **Errors.** [`Error::TooFew`] for an environment of one sample.
///
/// ```
/// use tokenloss_core::{Segments, sample::{IrmUnbiased, SampleObjective, Samples}};
/// let samples = Samples::new(&[1.0, 3.0, 2.0])?.with_groups(Segments::new(&[0, 3], 3)?)?;
/// let mut weights = [0.0; 3];
/// let loss = IrmUnbiased::new()?.of_losses(&samples, &mut weights, &mut [])?;
/// assert_eq!((loss, weights), (4.5, [1.5, 1.5, 1.5]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** DomainBed's code for IRM (Arjovsky et al. 2019, arXiv 1907.02893, appendix D).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IrmUnbiased {}

/// The places of one parity, and how many they are.
fn half(environment: Range<usize>, parity: usize) -> (impl Iterator<Item = usize>, usize) {
    let places = (environment.start + parity..environment.end).step_by(2);
    let members = places.len();
    (places, members)
}

fn checked(environments: Segments<'_>) -> Result<Segments<'_>, Error> {
    match environments.iter().position(|environment| environment.len() < 2) {
        Some(index) => Err(Error::TooFew { what: "environments", index, needed: 2, got: 1 }),
        None => Ok(environments),
    }
}

impl SampleObjective for IrmUnbiased {
    const NON_NEGATIVE: bool = false;
    const SUMS_TO_ONE: bool = false;

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        let environments = checked(samples.groups()?)?;
        let share = T::one() / count(environments.count());
        let mut loss = T::zero();
        for environment in environments.iter() {
            let mean = |parity: usize| {
                let (places, members) = half(environment.clone(), parity);
                let part = T::one() / count(members);
                places.fold(T::zero(), |sum, sample| sum + part * samples.loss(sample))
            };
            loss = loss + share * mean(0) * mean(1);
            for parity in [0, 1] {
                let (places, members) = half(environment.clone(), parity);
                let weight = share * mean(1 - parity) / count(members);
                places.for_each(|sample| weights[sample] = weight);
            }
        }
        Ok(loss)
    }
}
