use super::Spectrum;
use crate::objective::cast;
use num_traits::Float;

/// Conditional value at risk, also superquantile or expected shortfall: the mean of the worst `alpha` of the losses.
///
/// ```text
/// loss = min_eta eta + sum_i max(0, l_i - eta) / (alpha n)
///      = max <q, l>  over  0 <= q_i <= 1 / (alpha n), sum_i q_i = 1
/// weight_i = 1 / (alpha n) for the worst floor(alpha n), what is left of 1 for the next
/// ```
///
/// `alpha = 1` is the mean, `alpha <= 1 / n` the maximum. Where `alpha n` is no whole number, the sample at the boundary
/// counts in part; an `alpha n` that is whole but for the rounding of an `f32` counts as whole.
///
/// **Domain.** `alpha` from 1e-6 to 1. The literature also gives the share that is left out, `1 - alpha`.
///
/// **Numerics.** Weights are ratios of counts, and nothing is formed as `1 - (1 - alpha)`.
///
/// ```
/// use tokenloss_core::sample::{Cvar, SampleObjective, Samples};
/// let (mut weights, mut scratch) = ([0.0; 4], [0; 4]);
/// let samples = Samples::new(&[4.0, 1.0, 2.0, 3.0])?;
/// let loss = Cvar::new(0.375)?.of_losses(&samples, &mut weights, &mut scratch)?;
/// assert_eq!(weights, [2.0 / 3.0, 0.0, 0.0, 1.0 / 3.0]);
/// assert!((loss - 11.0 / 3.0f64).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Rockafellar and Uryasev 2000; as a robust loss in Levy et al. 2020 (arXiv 2010.05893). With a reference
/// model's losses ([`Samples::with_reference`](super::Samples::with_reference)) it is DRRho's CVaR form (arXiv
/// 2505.06699).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cvar {
    pub(crate) alpha: f32,
}

impl Spectrum for Cvar {
    fn mass<T: Float>(&self, from: T, to: T, of: T) -> T {
        worst(tail(self.alpha, of), from, to)
    }
}

/// How many samples a share of them is, at least the worst one.
pub(super) fn tail<T: Float>(alpha: f32, of: T) -> T {
    let size = cast::<T>(alpha) * of;
    let whole = size.round();
    // A tenth of ten samples is one, though the f32 nearest to a tenth is more than it.
    let size = if (size - whole).abs() <= cast::<T>(f32::EPSILON) * whole { whole } else { size };
    size.max(T::one())
}

/// The mass of a range where the `size` worst have all of it, in equal shares.
pub(super) fn worst<T: Float>(size: T, from: T, to: T) -> T {
    (to.min(size) - from.min(size)) / size
}
