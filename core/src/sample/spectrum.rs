use super::{SampleObjective, Samples, count};
use crate::Error;
use core::cmp::Ordering;
use num_traits::Float;

/// A spectral risk: a mean of the losses in which a worse one never counts for less.
///
/// ```text
/// loss = sum_i mass(i, i + 1, n) l_(i)        l_(0) the greatest loss, l_(n - 1) the least
/// ```
///
/// It is a [`SampleObjective`], and what [`ChiSquare`](super::ChiSquare) and [`Kl`](super::Kl) go around. Its weights are
/// the greatest `<q, losses>` over all `q` that are convex combinations of the masses' permutations.
pub trait Spectrum {
    /// The mass on the samples from the `from`-th worst to before the `to`-th worst of `of`: additive, 1 in all, and for
    /// ranges of one length never more where they begin later.
    fn mass<T: Float>(&self, from: T, to: T, of: T) -> T;

    /// Whether there are enough samples.
    ///
    /// # Errors
    /// [`Error::TooFew`] if there are not.
    fn check(&self, samples: usize) -> Result<(), Error> {
        let _ = samples;
        Ok(())
    }
}

/// Puts the samples in order, worst first.
pub(super) fn worst_first<T: Float>(samples: &Samples<'_, T>, order: &mut [usize]) {
    order.iter_mut().enumerate().for_each(|(place, sample)| *sample = place);
    order.sort_unstable_by(|&a, &b| {
        // Losses are finite. Equal ones are kept in the order of the samples, for sums that repeat bit for bit.
        samples.loss(b).partial_cmp(&samples.loss(a)).unwrap_or(Ordering::Equal).then(a.cmp(&b))
    });
}

/// Where the run of losses that are equal to the one at `start` ends.
pub(super) fn run_end<T: Float>(samples: &Samples<'_, T>, order: &[usize], start: usize) -> usize {
    let loss = samples.loss(order[start]);
    start + order[start..].iter().take_while(|&&sample| samples.loss(sample) == loss).count()
}

impl<S: Spectrum> SampleObjective for S {
    fn scratch(&self, samples: usize) -> usize {
        samples
    }

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        order: &mut [usize],
    ) -> Result<T, Error> {
        self.check(order.len())?;
        worst_first(samples, order);
        let (mut loss, mut end) = (T::zero(), 0);
        while end < order.len() {
            let start = end;
            end = run_end(samples, order, start);
            let mass = self.mass::<T>(count(start), count(end), count(order.len()));
            let share = mass / count(end - start);
            order[start..end].iter().for_each(|&sample| weights[sample] = share);
            loss = loss + mass * samples.loss(order[start]);
        }
        Ok(loss)
    }
}
