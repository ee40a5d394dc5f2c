use super::{SampleObjective, Samples, count};
use crate::{Error, math::Exponents, objective::cast};
use num_traits::Float;

/// Distributionally robust optimisation over a KL ball, in the dual form with a fixed temperature.
///
/// ```text
/// loss = tau log(sum_i exp(l_i / tau) / n) + tau rho
///      = max_q <q, l> - tau (KL(q | 1/n) - rho)
/// weight_i = softmax(l / tau)_i        d loss / d tau = rho - KL(weights | 1/n)
/// ```
///
/// The least of it over `tau` is the greatest `<q, l>` in the ball `KL(q | 1/n) <= rho`; [`d_tau`](Self::d_tau) is what a
/// learnt temperature descends. `tau = inf` is the mean, `tau = 0` the maximum; [`Tilted`](struct@super::Tilted) is the same
/// with `t = 1 / tau`, `rho = 0`, and both signs.
///
/// **Domain.** `tau` from 1e-6 to 1e6, in the unit of the losses; the radius `rho` from 0 to 1e3, in nats.
///
/// **Numerics.** Exponents are differences from the greatest loss. Near the mean the logarithm is that of `1 - x` with `x`
/// from `exp_m1`, since a large `tau` would multiply its rounding.
///
/// ```
/// use tokenloss_core::sample::{KlDro, SampleObjective, Samples};
/// let mut weights = [0.0f64; 2];
/// let robust = KlDro::new(0.5, 0.0)?;
/// let loss = robust.of_losses(&Samples::new(&[0.0, 1.0])?, &mut weights, &mut [])?;
/// assert!((weights[1] / weights[0] - 2f64.exp()).abs() < 1e-14);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Hu and Hong 2013; Namkoong and Duchi 2017 (arXiv 1610.02581). With a reference model's losses
/// ([`Samples::with_reference`]) it is DRRho's KL form (arXiv 2505.06699).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KlDro {
    pub(crate) tau: f32,
    pub(crate) rho: f32,
}

impl KlDro {
    /// The derivative by `tau`, of the weights that [`of_losses`](SampleObjective::of_losses) gave: the radius less the
    /// weights' divergence from uniform ones.
    pub fn d_tau<T: Float>(&self, weights: &[T]) -> T {
        let all = count::<T>(weights.len());
        weights.iter().fold(
            cast::<T>(self.rho),
            |left, &q| {
                if q > T::zero() { left - q * (all * q).ln() } else { left }
            },
        )
    }
}

/// `1 / t log(sum_i exp(t l_i) / n)`, with softmax(t l) for the weights; `scaled` multiplies by `t`, which is not 0, and
/// `unscaled` divides by it. `extreme` is the loss for which `t l_i` is greatest.
pub(super) fn log_mean_exp<T: Float>(
    samples: &Samples<'_, T>,
    extreme: T,
    scaled: impl Fn(T) -> T,
    unscaled: impl Fn(T) -> T,
    weights: &mut [T],
) -> T {
    let least = samples.losses().fold(T::zero(), |least, loss| least.min(scaled(loss - extreme)));
    if -least <= T::epsilon() {
        // The mean, to the last bit of the losses' range; exponents might have no bits left.
        weights.fill(T::one() / count(samples.count()));
        return samples.dot(weights);
    }
    let exponents = Exponents::of(samples.losses().map(|loss| scaled(loss - extreme)));
    for (weight, loss) in weights.iter_mut().zip(samples.losses()) {
        *weight = scaled(loss - extreme).exp() / exponents.sum;
    }
    extreme + unscaled(exponents.log_mean())
}

/// The greatest loss.
pub(super) fn greatest<T: Float>(samples: &Samples<'_, T>) -> T {
    samples.losses().fold(T::neg_infinity(), T::max)
}

impl SampleObjective for KlDro {
    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        let (tau, rho) = (cast::<T>(self.tau), cast::<T>(self.rho));
        let loss = log_mean_exp(samples, greatest(samples), |gap| gap / tau, |log| log * tau, weights);
        Ok(loss + tau * rho)
    }
}
