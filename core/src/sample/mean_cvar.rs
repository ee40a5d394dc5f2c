use super::{
    Spectrum,
    cvar::{tail, worst},
};
use crate::objective::cast;
use num_traits::Float;

/// A mix of the mean and the mean of the worst `alpha`.
///
/// ```text
/// loss = (1 - lambda) mean(l) + lambda CVaR_alpha(l)
/// weight_i = (1 - lambda) / n + lambda times that of CVaR
/// ```
///
/// No sample's weight is below `(1 - lambda) / n`, so that no part of the data is forgotten.
///
/// **Domain.** `alpha` from 1e-6 to 1; `lambda` from 0, which is the mean, to 1, which is
/// [`Cvar`](struct@super::Cvar).
///
/// ```
/// use tokenloss_core::sample::{MeanCvar, SampleObjective, Samples};
/// let (mut weights, mut scratch) = ([0.0; 2], [0; 2]);
/// let samples = Samples::new(&[0.0, 1.0])?;
/// let loss = MeanCvar::new(0.5, 0.5)?.of_losses(&samples, &mut weights, &mut scratch)?;
/// assert_eq!((loss, weights), (0.75, [0.25, 0.75]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Rockafellar and Uryasev 2000, as the mean-CVaR trade-off; group DRO's public code has it as
/// `min_var_weight`, which is `1 - lambda`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeanCvar {
    pub(crate) alpha: f32,
    pub(crate) lambda: f32,
}

impl Spectrum for MeanCvar {
    fn mass<T: Float>(&self, from: T, to: T, of: T) -> T {
        let lambda = cast::<T>(self.lambda);
        (T::one() - lambda) * ((to - from) / of) + lambda * worst(tail(self.alpha, of), from, to)
    }
}
