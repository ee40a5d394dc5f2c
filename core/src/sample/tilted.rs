use super::{
    SampleObjective, Samples, count,
    kl_dro::{greatest, log_mean_exp},
};
use crate::{Error, objective::cast};
use num_traits::Float;

/// The tilted loss.
///
/// ```text
/// loss = log(sum_i exp(t l_i) / n) / t        weight_i = softmax(t l)_i
/// ```
///
/// `t = 0` is the mean, `t = inf` the maximum, `t = -inf` the minimum. A positive tilt is fair to the worst, as
/// [`KlDro`](struct@super::KlDro) with `tau = 1 / t`; a negative one leaves outliers alone.
///
/// **Domain.** `t` from -1e6 to 1e6, per unit of the losses.
///
/// **Numerics.** As [`KlDro`](struct@super::KlDro); exponents are differences from the loss that the tilt favours most.
///
/// ```
/// use tokenloss_core::sample::{SampleObjective, Samples, Tilted};
/// let mut weights = [0.0f64; 2];
/// let loss = Tilted::new(-2.0)?.of_losses(&Samples::new(&[0.0, 1.0])?, &mut weights, &mut [])?;
/// assert!((weights[0] / weights[1] - 2f64.exp()).abs() < 1e-14);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** TERM, Li et al. 2021 (arXiv 2007.01162).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tilted {
    pub(crate) t: f32,
}

impl SampleObjective for Tilted {
    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        let t = cast::<T>(self.t);
        if t == T::zero() {
            weights.fill(T::one() / count(samples.count()));
            return Ok(samples.dot(weights));
        }
        let extreme =
            if t > T::zero() { greatest(samples) } else { samples.losses().fold(T::infinity(), T::min) };
        Ok(log_mean_exp(samples, extreme, |gap| t * gap, |log| log / t, weights))
    }
}
