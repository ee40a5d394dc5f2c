use super::{Spectrum, cvar::worst};
use crate::{Error, objective::cast};
use num_traits::Float;

/// The average of the `k` greatest losses.
///
/// ```text
/// loss = sum_(j < k) l_(j) / k        weight_i = 1 / k for the k worst, 0 for the others
/// ```
///
/// [`Cvar`](struct@super::Cvar) with `alpha = k / n`. `k = 1` is the maximum. Of a `k` between two whole numbers the last
/// sample counts in part.
///
/// **Domain.** `k` from 1 to 16,777,216.
///
/// **Errors.** [`Error::TooFew`] for fewer than `k` losses.
///
/// ```
/// use tokenloss_core::sample::{SampleObjective, Samples, TopK};
/// let (mut weights, mut scratch) = ([0.0; 3], [0; 3]);
/// let samples = Samples::new(&[4.0, 1.0, 2.0])?;
/// let loss = TopK::new(2.0)?.of_losses(&samples, &mut weights, &mut scratch)?;
/// assert_eq!((loss, weights), (3.0, [0.5, 0.0, 0.5]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Fan et al. 2017, "Learning with Average Top-k Loss" (arXiv 1705.08826). With a reference model's losses
/// ([`Samples::with_reference`](super::Samples::with_reference)) it is the selection of RHO-loss (arXiv 2206.07137).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopK {
    pub(crate) k: f32,
}

impl Spectrum for TopK {
    fn mass<T: Float>(&self, from: T, to: T, _: T) -> T {
        worst(cast::<T>(self.k), from, to)
    }

    fn check(&self, samples: usize) -> Result<(), Error> {
        let needed = f64::from(self.k);
        if (samples as f64) < needed {
            // Truncated, and one more for what was cut off.
            let needed = needed as usize + usize::from(needed % 1.0 > 0.0);
            return Err(Error::TooFew { what: "losses", index: 0, needed, got: samples });
        }
        Ok(())
    }
}
