use super::{AdvantageEstimator, Group};
use crate::objective::cast;
use num_traits::Float;

/// Generalised advantage estimation, of every token.
///
/// ```text
/// delta_t = R_t + gamma V_{t+1} - V_t        A_t = delta_t + gamma lambda A_{t+1}
/// ```
///
/// Behind the last token value and advantage are 0. Here a group is a sequence: rewards and baselines are those of its
/// tokens, and a baseline is the value `V_t` of what came before the token. `A_t + V_t` is the target of the value.
/// `lambda = 1` is the return less the value, `lambda = 0` the error of one step.
///
/// **Domain.** `gamma` and `lambda` from 0 to 1. Needs baselines.
///
/// ```
/// use tokenloss_core::Segments;
/// use tokenloss_core::advantage::{AdvantageEstimator, Gae, Outcomes};
///
/// let outcomes = Outcomes::new(&[0.0f64, 1.0], Segments::new(&[0, 2], 2)?)?.with_baselines(&[0.5, 0.75])?;
/// let mut advantages = [0.0; 2];
/// Gae::new(1.0, 1.0)?.estimate(&outcomes, &mut advantages)?;
/// assert_eq!(advantages, [0.5, 0.25]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Schulman et al. 2016 (arXiv 1506.02438). The codes of TRL and verl whiten the result; so does
/// [`whiten`](super::whiten).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gae {
    pub(crate) gamma: f32,
    pub(crate) lambda: f32,
}

impl AdvantageEstimator for Gae {
    const LEAST: usize = 1;
    const NEEDS_BASELINES: bool = true;

    fn of_group<T: Float>(&self, group: &Group<'_, T>, advantages: &mut [T]) {
        let (gamma, lambda) = (cast::<T>(self.gamma), cast::<T>(self.lambda));
        let (mut next_value, mut next) = (T::zero(), T::zero());
        let tokens = group.rewards.iter().zip(group.baselines).zip(advantages.iter_mut());
        for ((&reward, &value), advantage) in tokens.rev() {
            next = reward + gamma * next_value - value + gamma * lambda * next;
            next_value = value;
            *advantage = next;
        }
    }
}
