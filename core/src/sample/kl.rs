use super::{
    SampleObjective, Samples, Spectrum, count,
    penalty::{Spread, for_each_block},
};
use crate::{Error, math::Exponents, objective::cast};
use num_traits::Float;

/// A spectral risk, less the Kullback-Leibler divergence of its weights from uniform ones, which makes it smooth.
///
/// ```text
/// loss = max_q <q, l> - nu sum_i q_i log(n q_i)        q a convex combination of the spectrum's permutations
/// weight_i = q_i = (mass of i's block) softmax over the block (l / nu)_i
/// ```
///
/// `nu = inf` is the mean, `nu = 0` the risk itself. Around `TopK(1)`, where `q` is any distribution, it is
/// [`KlDro`](struct@super::KlDro) with `tau = nu`.
///
/// **Domain.** `nu` from 1e-6 to 1e6, in the unit of the losses.
///
/// **Numerics.** Solved exactly, in O(n log n). Exponents are differences from a block's worst loss; a block's part of the
/// loss is its mass times its log-mean-exp, so that neither weights that underflow nor a large `nu` cost accuracy.
///
/// ```
/// use tokenloss_core::sample::{Kl, SampleObjective, Samples, TopK};
/// let (mut weights, mut scratch) = ([0.0f64; 2], [0; 4]);
/// let smooth = Kl::new(TopK::new(1.0)?, 1.0)?;
/// let loss = smooth.of_losses(&Samples::new(&[0.0, 1.0])?, &mut weights, &mut scratch)?;
/// assert!((loss - ((1.0 + 1f64.exp()) / 2.0).ln()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Mehta et al. 2024 (arXiv 2310.13863). Their code takes the logarithm of the spectrum, which a part of it
/// that is 0 makes infinite; here that is a block that is always joined to a worse one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kl<S> {
    pub(crate) inner: S,
    pub(crate) nu: f32,
}

/// Mass by softmax. Kept is the sum of the exponentials relative to the worst.
struct Softmax;

impl<T: Float> Spread<T> for Softmax {
    fn of_equal(members: T) -> T {
        members
    }
    fn join(worse: T, better: T, _: T, gap: T) -> T {
        worse + (-gap).exp() * better
    }
    fn level(kept: T, _: T, mass: T) -> T {
        (kept / mass).ln()
    }
}

impl<S: Spectrum> SampleObjective for Kl<S> {
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
        let mut loss = T::zero();
        for_each_block::<T, Softmax>(&self.inner, samples, nu, weights, scratch, |block, mass, weights| {
            if mass == T::zero() {
                block.iter().for_each(|&sample| weights[sample] = T::zero());
                return;
            }
            let worst = samples.loss(block[0]);
            let exponent = |sample: usize| (samples.loss(sample) - worst) / nu;
            let exponents = Exponents::of(block.iter().map(|&sample| exponent(sample)));
            for &sample in block {
                weights[sample] = mass * (exponent(sample).exp() / exponents.sum);
            }
            // The block's mass over its share of the samples. Over all blocks `surplus - 1` has a mean of 0: taking it
            // off makes an error in the masses one of second order, which a large `nu` does not carry into the loss.
            let share = count::<T>(block.len()) / all;
            let surplus = mass / share;
            let divergence = share * (surplus * surplus.ln() - (surplus - T::one()));
            loss = loss + mass * (worst + nu * exponents.log_mean()) - nu * divergence;
        })?;
        Ok(loss)
    }
}
