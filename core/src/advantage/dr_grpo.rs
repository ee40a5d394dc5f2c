use super::{AdvantageEstimator, Group, Moments};
use num_traits::Float;

/// Group-relative advantages without the deviation: [`Grpo`](super::Grpo) "done right".
///
/// ```text
/// A_i = R_i - mean R
/// ```
///
/// Dividing by the deviation weighs prompts that are nearly always or nearly never solved more. The other half of the
/// method is a reduction whose divisor does not depend on lengths.
///
/// **Domain.** Groups of at least two.
///
/// ```
/// use tokenloss_core::Segments;
/// use tokenloss_core::advantage::{AdvantageEstimator, DrGrpo, Outcomes};
///
/// let mut advantages = [0.0f64; 2];
/// DrGrpo.estimate(&Outcomes::new(&[1.0, 0.0], Segments::new(&[0, 2], 2)?)?, &mut advantages)?;
/// assert_eq!(advantages, [0.5, -0.5]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Liu et al. 2025 (arXiv 2503.20783).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DrGrpo {}

/// The estimator itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const DrGrpo: DrGrpo = DrGrpo {};

impl AdvantageEstimator for DrGrpo {
    const LEAST: usize = 2;

    fn of_group<T: Float>(&self, group: &Group<'_, T>, advantages: &mut [T]) {
        let mean = Moments::of(group.rewards.iter().copied()).mean;
        advantages.iter_mut().zip(group.rewards).for_each(|(advantage, reward)| *advantage = *reward - mean);
    }
}
