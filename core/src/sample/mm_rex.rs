use super::{SampleObjective, Samples, count};
use crate::{Error, objective::cast};
use num_traits::Float;

/// Minimax risk extrapolation: the worst mixture of the environments' risks, of which none has a share below `-beta`.
///
/// ```text
/// R_e = mean loss of environment e, m of them
/// loss = max sum_e a_e R_e  over  a_e >= -beta, sum_e a_e = 1
///      = (1 + m beta) max_e R_e - beta sum_e R_e
/// weight_i = ((1 + m beta) [e is the worst] - beta) / n_e of i's environment e
/// ```
///
/// `beta = 0` is the risk of the worst environment; the greater `beta`, the more equal the risks have to be. Environments
/// that are equally bad share what the worst one has. Weights of all others are negative: they go through slopes.
///
/// **Domain.** `beta` from 0 to 1e6.
///
/// **Inputs.** [`Samples::with_groups`], the environments.
///
/// ```
/// use tokenloss_core::{Segments, sample::{MmRex, SampleObjective, Samples}};
/// let samples = Samples::new(&[1.0, 3.0, 0.0])?.with_groups(Segments::new(&[0, 2, 3], 3)?)?;
/// let mut weights = [0.0; 3];
/// let loss = MmRex::new(0.5)?.of_losses(&samples, &mut weights, &mut [])?;
/// assert_eq!((loss, weights), (3.0, [0.75, 0.75, -0.5]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** MM-REx, Krueger et al. 2021 (arXiv 2003.00688), whose `lambda_min` is `-beta`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MmRex {
    pub(crate) beta: f32,
}

impl SampleObjective for MmRex {
    const NON_NEGATIVE: bool = false;

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        let (beta, environments) = (cast::<T>(self.beta), samples.groups()?);
        let risks = || environments.iter().map(|environment| samples.mean(environment));
        let worst = risks().fold(T::neg_infinity(), T::max);
        let ties = count::<T>(risks().filter(|&risk| risk == worst).count());
        let extra = (T::one() + beta * count(environments.count())) / ties;
        let mut below = T::zero();
        for (environment, risk) in environments.iter().zip(risks()) {
            let share = if risk == worst { extra - beta } else { -beta };
            below = below + (worst - risk);
            let weight = share / count(environment.len());
            weights[environment].fill(weight);
        }
        // The same as above, without the difference of two multiples of the worst.
        Ok(worst + beta * below)
    }
}
