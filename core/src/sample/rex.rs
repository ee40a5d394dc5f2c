use super::{SampleObjective, Samples, count};
use crate::{Error, objective::cast};
use num_traits::Float;

/// Risk extrapolation: the mean of the environments' risks with a penalty on their variance.
///
/// ```text
/// R_e = mean loss of environment e, m of them        loss = mean_e R_e + beta mean_e (R_e - mean R)^2
/// weight_i = (1 + 2 beta (R_e - mean R)) / (m n_e) of i's environment
/// ```
///
/// An environment whose risk is below the mean by more than `1 / (2 beta)` has negative weights: they go through slopes.
///
/// **Domain.** `beta` from 0 to 1e6.
///
/// **Inputs.** [`Samples::with_groups`], the environments.
///
/// ```
/// use tokenloss_core::{Segments, sample::{Rex, SampleObjective, Samples}};
/// let samples = Samples::new(&[1.0, 3.0, 0.0])?.with_groups(Segments::new(&[0, 2, 3], 3)?)?;
/// let mut weights = [0.0; 3];
/// let loss = Rex::new(1.0)?.of_losses(&samples, &mut weights, &mut [])?;
/// assert_eq!((loss, weights), (2.0, [0.75, 0.75, -0.5]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** V-REx, Krueger et al. 2021 (arXiv 2003.00688), which has the sum of the risks in place of their mean.
/// DomainBed's code has the mean, as here, and raises `beta` from 1 after some steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rex {
    pub(crate) beta: f32,
}

impl SampleObjective for Rex {
    const NON_NEGATIVE: bool = false;

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        let (beta, environments) = (cast::<T>(self.beta), samples.groups()?);
        let share = T::one() / count(environments.count());
        let mean = environments.iter().fold(T::zero(), |sum, e| sum + share * samples.mean(e));
        let mut variance = T::zero();
        for environment in environments.iter() {
            let off = samples.mean(environment.clone()) - mean;
            variance = variance + share * off * off;
            let pull = T::one() + (beta + beta) * off;
            let members = count::<T>(environment.len());
            weights[environment].fill(share * pull / members);
        }
        Ok(mean + beta * variance)
    }
}
