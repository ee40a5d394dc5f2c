use super::Spectrum;
use crate::objective::cast;
use num_traits::Float;

/// The exponential spectral risk measure.
///
/// ```text
/// spectrum on [0, 1], best to worst: rho exp(rho u) / (exp(rho) - 1)
/// weight of the j-th worst of n: exp(-rho j / n) (1 - exp(-rho / n)) / (1 - exp(-rho))        j from 0
/// ```
///
/// `rho = 0` is the mean, `rho = inf` the maximum.
///
/// **Domain.** `rho` from 0 to 1024.
///
/// **Numerics.** By `exp_m1` and exponents of at most 0.
///
/// ```
/// use tokenloss_core::sample::{Esrm, SampleObjective, Samples};
/// let (mut weights, mut scratch) = ([0.0f64; 2], [0; 2]);
/// let samples = Samples::new(&[0.0, 1.0])?;
/// let loss = Esrm::new(2.0)?.of_losses(&samples, &mut weights, &mut scratch)?;
/// assert!((weights[1] / weights[0] - 1f64.exp()).abs() < 1e-14);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Cotter and Dowd 2006; as a training objective in Mehta et al. 2024 (arXiv 2310.13863).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Esrm {
    pub(crate) rho: f32,
}

impl Spectrum for Esrm {
    fn mass<T: Float>(&self, from: T, to: T, of: T) -> T {
        let rho = cast::<T>(self.rho);
        if rho == T::zero() {
            return (to - from) / of;
        }
        // Of a `rho` so small that both underflow, what is left is their ratio.
        let share = rho * ((to - from) / of);
        (-rho * (from / of)).exp() * ((-share).exp_m1() / (-rho).exp_m1())
    }
}
