use super::{
    SampleObjective, Samples, Spectrum, count,
    penalty::{Spread, for_each_block},
};
use crate::{Error, objective::cast};
use num_traits::Float;

/// A spectral risk, less a chi-square distance of its weights from uniform ones, which makes it smooth.
///
/// ```text
/// loss = max_q <q, l> - nu / 2 n sum_i (q_i - 1 / n)^2        q a convex combination of the spectrum's permutations
/// weight_i = q_i = (mass of i's block) / (members of it) + (l_i - mean of it) / (n nu)
/// ```
///
/// `nu = inf` is the mean, `nu = 0` the risk itself. Around `TopK(1)`, where `q` is any distribution, it is
/// chi-square DRO with a penalty. The weights are those of the maximum (Danskin): the penalty needs no gradient of its own.
///
/// **Domain.** `nu` from 1e-6 to 1e6, in the unit of the losses.
///
/// **Numerics.** Solved exactly, in O(n log n). Of losses only differences within a block are used, so that their size
/// does not matter.
///
/// ```
/// use tokenloss_core::sample::{ChiSquare, SampleObjective, Samples, TopK};
/// let (mut weights, mut scratch) = ([0.0; 2], [0; 4]);
/// let smooth = ChiSquare::new(TopK::new(1.0)?, 2.0)?;
/// let loss = smooth.of_losses(&Samples::new(&[0.0, 1.0])?, &mut weights, &mut scratch)?;
/// assert_eq!((loss, weights), (0.5625, [0.375, 0.625]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Mehta et al. 2024 (arXiv 2310.13863), whose code multiplies the shift cost by `n` for this penalty, as
/// here. Some give the distance without the `1 / 2`: their `nu` is half of this one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChiSquare<S> {
    pub(crate) inner: S,
    pub(crate) nu: f32,
}

/// Mass in equal shares, and to each member its own distance from the block's mean. Kept is the sum of the gaps below the
/// worst, negated.
struct Distance;

impl<T: Float> Spread<T> for Distance {
    fn of_equal(_: T) -> T {
        T::zero()
    }
    fn join(worse: T, better: T, members: T, gap: T) -> T {
        worse + better - members * gap
    }
    fn level(kept: T, members: T, mass: T) -> T {
        (kept - mass) / members
    }
}

impl<S: Spectrum> SampleObjective for ChiSquare<S> {
    fn scratch(&self, samples: usize) -> usize {
        2 * samples
    }

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        scratch: &mut [usize],
    ) -> Result<T, Error> {
        let (nu, all) = (cast::<T>(self.nu), count::<T>(samples.count()));
        let unit = all * nu;
        for_each_block::<T, Distance>(
            &self.inner,
            samples,
            unit,
            weights,
            scratch,
            |block, mass, weights| {
                let gap = |sample: usize| (samples.loss(block[0]) - samples.loss(sample)) / unit;
                let share = T::one() / count(block.len());
                let mean = block.iter().fold(T::zero(), |mean, &sample| mean + share * gap(sample));
                for &sample in block {
                    // No less than 0 but by a rounding.
                    weights[sample] = (mass * share + (mean - gap(sample))).max(T::zero());
                }
            },
        )?;
        let uniform = T::one() / all;
        let order = &scratch[..samples.count()];
        let distance = order.iter().fold(T::zero(), |sum, &sample| {
            let off = weights[sample] - uniform;
            sum + off * off
        });
        let half = T::one() / (T::one() + T::one());
        Ok(samples.dot_in(order, weights) - half * unit * distance)
    }
}
