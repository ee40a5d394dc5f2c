use super::{
    SampleObjective, Samples, count,
    spectrum::{run_end, worst_first},
};
use crate::{Error, objective::cast};
use num_traits::Float;

/// Distributionally robust optimisation over a chi-square ball.
///
/// ```text
/// loss = max <q, l>  over  q_i >= 0, sum_i q_i = 1, n sum_i (q_i - 1 / n)^2 <= rho
/// weight_i = q_i = max(0, 1 / m + (l_i - mean of the m worst) / nu)
/// ```
///
/// with `m` and `nu` such that the ball is met. While no weight is 0, the loss is `mean + sqrt(rho variance)`: the mean
/// with a penalty on the variance. `rho = 0` is the mean, `rho >= n - 1` the maximum.
///
/// **Domain.** `rho` from 0 to 1e6.
///
/// **Numerics.** Solved exactly, in O(n log n). The weights are those of losses that are shifted and scaled to `[0, 1]`.
/// Where the maximum is attained often enough for the ball not to bind, the samples that attain it share equally.
///
/// ```
/// use tokenloss_core::sample::{ChiSquareDro, SampleObjective, Samples};
/// let (mut weights, mut scratch) = ([0.0f64; 2], [0; 2]);
/// let robust = ChiSquareDro::new(0.25)?;
/// let loss = robust.of_losses(&Samples::new(&[0.0, 1.0])?, &mut weights, &mut scratch)?;
/// // Mean 1/2, standard deviation 1/2.
/// assert!((loss - (0.5 + 0.5 * 0.5)).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Namkoong and Duchi 2017 (arXiv 1610.02581); Levy et al. 2020 (arXiv 2010.05893), who halve the divergence:
/// their radius is half of this one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChiSquareDro {
    pub(crate) rho: f32,
}

/// Of the weights: how many are not 0, the mean of their gaps below the worst loss, and how steeply they fall with it.
struct Support<T> {
    members: T,
    mean: T,
    inverse_nu: T,
}

impl<T: Float> Support<T> {
    /// The greatest set of worst samples on whose face the ball's optimum has no negative weight.
    fn of(gap: impl Fn(usize) -> T, samples: &Samples<'_, T>, order: &[usize], rho: T) -> Self {
        let all = count::<T>(order.len());
        let (mut mean, mut squares, mut end) = (T::zero(), T::zero(), 0);
        let mut support = None;
        while end < order.len() {
            let start = end;
            end = run_end(samples, order, start);
            // A run of equals at once, merged by Chan's formula.
            let (before, run, members) = (count::<T>(start), count::<T>(end - start), count::<T>(end));
            let step = gap(order[start]) - mean;
            squares = squares + step * step * before * (run / members);
            mean = mean + step * (run / members);
            // n m (sum_i q_i^2 - 1 / m), what the ball leaves on this face.
            let room = members * (T::one() + rho) - all;
            if room < T::zero() {
                continue;
            }
            let inverse_nu =
                if squares == T::zero() { T::zero() } else { (room / (all * members * squares)).sqrt() };
            let least = T::one() / members + (mean - gap(order[start])) * inverse_nu;
            if least >= T::zero() {
                support = Some(Self { members, mean, inverse_nu });
            }
        }
        // The last face that has room passes but for a rounding; the first run of equals always does where it has room.
        support.unwrap_or(Self {
            members: count(run_end(samples, order, 0)),
            mean: T::zero(),
            inverse_nu: T::zero(),
        })
    }
}

impl SampleObjective for ChiSquareDro {
    fn scratch(&self, samples: usize) -> usize {
        samples
    }

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        order: &mut [usize],
    ) -> Result<T, Error> {
        worst_first(samples, order);
        let (worst, least) = (samples.loss(order[0]), samples.loss(order[order.len() - 1]));
        // Halved, so that the range of losses of any size is finite.
        let half = T::one() / (T::one() + T::one());
        let range = half * worst - half * least;
        let gap = |sample: usize| {
            if range == T::zero() { T::zero() } else { (half * worst - half * samples.loss(sample)) / range }
        };
        let rho = cast::<T>(self.rho);
        let ties = run_end(samples, order, 0);
        let support = if count::<T>(ties) * (T::one() + rho) >= count(order.len()) {
            Support { members: count(ties), mean: T::zero(), inverse_nu: T::zero() }
        } else {
            Support::of(gap, samples, order, rho)
        };
        for (place, &sample) in order.iter().enumerate() {
            let inside = count::<T>(place) < support.members;
            let weight = T::one() / support.members + (support.mean - gap(sample)) * support.inverse_nu;
            weights[sample] = if inside { weight.max(T::zero()) } else { T::zero() };
        }
        Ok(samples.dot_in(order, weights))
    }
}
