use super::{AdvantageEstimator, Group, Moments};
use crate::objective::cast;
use num_traits::Float;

/// Stratified GRPO: a rollout is compared with those of its group that are of its own kind.
///
/// ```text
/// A_i = alpha (R_i - mean_k R) / (std_k R + eps) + (1 - alpha) (R_i - mean R) / (std R + eps)
/// ```
///
/// `k` is the stratum of rollout `i` within its group, for example the number of its calls of a tool; the second term is
/// [`Grpo`](super::Grpo), which is also what a single stratum gives. Deviations are the sample's, with `n - 1`.
///
/// A stratum of one, or one whose rewards are all the same, has nothing to compare with: its first term is 0, and only
/// the share of the whole group is left.
///
/// **Domain.** `alpha` and `eps` from 0 to 1; groups of at least two. Needs strata.
///
/// ```
/// use tokenloss_core::Segments;
/// use tokenloss_core::advantage::{AdvantageEstimator, Outcomes, Stratified};
///
/// let outcomes = Outcomes::new(&[1.0f64, 0.0, 1.0], Segments::new(&[0, 3], 3)?)?.with_strata(&[7, 7, 2])?;
/// let mut advantages = [0.0; 3];
/// Stratified::new(1.0, 0.0)?.estimate(&outcomes, &mut advantages)?;
/// assert!((advantages[0] - (0.5f64).sqrt()).abs() < 1e-15 && advantages[2] == 0.0);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Zhu et al. 2025 (arXiv 2510.06214).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stratified {
    pub(crate) alpha: f32,
    pub(crate) eps: f32,
}

impl AdvantageEstimator for Stratified {
    const LEAST: usize = 2;
    const NEEDS_STRATA: bool = true;

    fn of_group<T: Float>(&self, group: &Group<'_, T>, advantages: &mut [T]) {
        let alpha = cast::<T>(self.alpha);
        let whole = Moments::of(group.rewards.iter().copied());
        for (first, &stratum) in group.strata.iter().enumerate() {
            if group.strata[..first].contains(&stratum) {
                continue;
            }
            let rewards = group.rewards.iter().zip(group.strata).filter(|(_, of)| **of == stratum);
            let moments = Moments::of(rewards.map(|(reward, _)| *reward));
            for ((advantage, reward), of) in advantages.iter_mut().zip(group.rewards).zip(group.strata) {
                if *of == stratum {
                    *advantage = alpha * moments.standardise(*reward, self.eps)
                        + (T::one() - alpha) * whole.standardise(*reward, self.eps);
                }
            }
        }
    }
}
