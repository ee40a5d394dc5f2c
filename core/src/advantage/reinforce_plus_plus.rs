use super::{AdvantageEstimator, Group, Moments};
use num_traits::Float;

/// REINFORCE++: the reward less the mean of its group, whitened over the whole batch.
///
/// ```text
/// B_i = R_i - mean over the group        A_i = (B_i - mean B) / (std B + eps)
/// ```
///
/// With one group that is the whole batch it is the form without a baseline. The deviation is the sample's, with `n - 1`,
/// and of all rollouts alike, so that no prompt is weighed by its own.
///
/// **Domain.** `eps` from 0 to 1; groups of at least two.
///
/// ```
/// use tokenloss_core::Segments;
/// use tokenloss_core::advantage::{AdvantageEstimator, Outcomes, ReinforcePlusPlus};
///
/// let mut advantages = [0.0f64; 4];
/// let outcomes = Outcomes::new(&[1.0, 0.0, 3.0, 3.0], Segments::new(&[0, 2, 4], 4)?)?;
/// ReinforcePlusPlus::new(0.0)?.estimate(&outcomes, &mut advantages)?;
/// assert!((advantages[0] - (1.5f64).sqrt()).abs() < 1e-15 && advantages[2] == 0.0);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Hu et al. 2025 (arXiv 2501.03262). Its code whitens over tokens, where a long rollout counts more
/// ([`whiten`](super::whiten) does it on tokens), adds 1e-8 to the variance and not to the deviation, and gives a group of
/// one the mean 0, which is an error here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReinforcePlusPlus {
    pub(crate) eps: f32,
}

impl AdvantageEstimator for ReinforcePlusPlus {
    const LEAST: usize = 2;

    fn of_group<T: Float>(&self, group: &Group<'_, T>, advantages: &mut [T]) {
        let mean = Moments::of(group.rewards.iter().copied()).mean;
        advantages.iter_mut().zip(group.rewards).for_each(|(advantage, reward)| *advantage = *reward - mean);
    }

    fn whitens(&self) -> Option<f32> {
        Some(self.eps)
    }
}
