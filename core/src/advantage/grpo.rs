use super::{AdvantageEstimator, Group, Moments};
use num_traits::Float;

/// Group-relative advantages: how many standard deviations above its group's mean.
///
/// ```text
/// A_i = (R_i - mean R) / (std R + eps)
/// ```
///
/// The deviation is the sample's, with `n - 1`, as in the code of verl and of TRL; with `n` every advantage were
/// `sqrt(n / (n - 1))` times as large. A group whose rewards are all the same has advantages of 0, whatever `eps`.
///
/// **Domain.** `eps` from 0 to 1; groups of at least two. The code of verl takes the reward itself for the advantage of a
/// single rollout; here that is an error.
///
/// **Numerics.** Deviations are scaled before they are squared, and means are running means: neither overflows.
///
/// ```
/// use tokenloss_core::Segments;
/// use tokenloss_core::advantage::{AdvantageEstimator, Grpo, Outcomes};
///
/// let mut advantages = [0.0f64; 4];
/// let outcomes = Outcomes::new(&[1.0, 0.0, 0.5, 0.5], Segments::new(&[0, 2, 4], 4)?)?;
/// Grpo::new(0.0)?.estimate(&outcomes, &mut advantages)?;
/// assert!((advantages[0] - (0.5f64).sqrt()).abs() < 1e-15 && advantages[2..] == [0.0, 0.0]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Shao et al. 2024 (arXiv 2402.03300). `eps` is 1e-6 in the code of verl, 1e-4 in that of TRL.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grpo {
    pub(crate) eps: f32,
}

impl AdvantageEstimator for Grpo {
    const LEAST: usize = 2;

    fn of_group<T: Float>(&self, group: &Group<'_, T>, advantages: &mut [T]) {
        let moments = Moments::of(group.rewards.iter().copied());
        for (advantage, reward) in advantages.iter_mut().zip(group.rewards) {
            *advantage = moments.standardise(*reward, self.eps);
        }
    }
}
