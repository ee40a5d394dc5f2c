use super::{AdvantageEstimator, Group, Moments};
use crate::math::narrow;
use num_traits::Float;

/// Leave-one-out advantages: the reward less the mean of the group's others.
///
/// ```text
/// A_i = R_i - mean_{j != i} R_j = n / (n - 1) (R_i - mean R)
/// ```
///
/// The baseline does not depend on the rollout that it is for, so that the gradient is unbiased.
///
/// **Domain.** Groups of at least two.
///
/// ```
/// use tokenloss_core::Segments;
/// use tokenloss_core::advantage::{AdvantageEstimator, Outcomes, Rloo};
///
/// let mut advantages = [0.0f64; 3];
/// Rloo.estimate(&Outcomes::new(&[1.0, 0.0, 0.5], Segments::new(&[0, 3], 3)?)?, &mut advantages)?;
/// assert_eq!(advantages, [0.75, -0.75, 0.0]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Kool et al. 2019; Ahmadian et al. 2024 (arXiv 2402.14740).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rloo {}

/// The estimator itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const Rloo: Rloo = Rloo {};

impl AdvantageEstimator for Rloo {
    const LEAST: usize = 2;

    fn of_group<T: Float>(&self, group: &Group<'_, T>, advantages: &mut [T]) {
        let mean = Moments::of(group.rewards.iter().copied()).mean;
        let n = narrow::<T>(group.rewards.len() as f64);
        let factor = n / (n - T::one());
        for (advantage, reward) in advantages.iter_mut().zip(group.rewards) {
            *advantage = factor * (*reward - mean);
        }
    }
}
