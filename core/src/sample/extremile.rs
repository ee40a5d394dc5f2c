use super::Spectrum;
use crate::objective::cast;
use num_traits::Float;

/// The extremile: the expected maximum of `r` losses drawn at random.
///
/// ```text
/// spectrum on [0, 1], best to worst: r u^(r - 1)
/// weight of the j-th worst of n: (1 - j / n)^r - (1 - (j + 1) / n)^r        j from 0
/// ```
///
/// `r = 1` is the mean, `r = inf` the maximum.
///
/// **Domain.** `r` from 1 to 1024; it need not be a whole number.
///
/// **Numerics.** A weight is `(1 - j / n)^r` times `-exp_m1(r ln_1p(-1 / (n - j)))`, exact to a few roundings however
/// small it is.
///
/// ```
/// use tokenloss_core::sample::{Extremile, SampleObjective, Samples};
/// let (mut weights, mut scratch) = ([0.0f64; 2], [0; 2]);
/// let samples = Samples::new(&[0.0, 1.0])?;
/// // Two draws miss the worse loss in a quarter of all cases.
/// let loss = Extremile::new(2.0)?.of_losses(&samples, &mut weights, &mut scratch)?;
/// assert!((loss - 0.75).abs() < 1e-15 && (weights[0] - 0.25).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Daouia, Gijbels and Stupfler 2019; as a training objective in Mehta et al. 2024 (arXiv 2310.13863).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extremile {
    pub(crate) r: f32,
}

impl Spectrum for Extremile {
    fn mass<T: Float>(&self, from: T, to: T, of: T) -> T {
        let r = cast::<T>(self.r);
        let left = of - from;
        if left == T::zero() {
            return T::zero();
        }
        (left / of).powf(r) * -(r * (-(to - from) / left).ln_1p()).exp_m1()
    }
}
