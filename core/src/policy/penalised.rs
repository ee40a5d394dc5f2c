use super::{PolicyEval, PolicyObjective, Rollout};
use num_traits::Float;

/// A surrogate and a penalty, added token by token: the loss of [`Ppo`](super::Ppo) with [`K3`](super::K3) is GRPO's.
///
/// ```
/// use tokenloss_core::{Segments, sequence::Sequences};
/// use tokenloss_core::policy::{Advantages, K3, Penalised, PolicyObjective, Ppo, Rollouts};
///
/// let log_p = [-1.0f64];
/// let rollouts = Rollouts::new(Sequences::new(Segments::new(&[0, 1], 1)?), &log_p, &log_p, Advantages::Sequences(&[2.0]))?;
/// let rollouts = rollouts.with_reference(&[-1.5])?;
/// let grpo = Penalised { surrogate: Ppo::new(0.2, 0.2)?, penalty: K3::new(0.04)? };
/// let mut slopes = [0.0];
/// grpo.of_rollout(&rollouts.rollout(0), &mut slopes);
/// assert!((slopes[0] - (-2.0 + f64::from(0.04f32) * (1.0 - (-0.5f64).exp()))).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalised<S, P> {
    /// What is optimised.
    pub surrogate: S,
    /// What holds it back.
    pub penalty: P,
}

impl<S: PolicyObjective, P: PolicyObjective> PolicyObjective for Penalised<S, P> {
    fn of_rollout<T: Float>(&self, rollout: &Rollout<'_, T>, slopes: &mut [T]) -> PolicyEval<T> {
        let surrogate = self.surrogate.of_rollout(rollout, slopes);
        let penalty = self.penalty.of_rollout(rollout, slopes);
        PolicyEval { loss: surrogate.loss + penalty.loss, clipped: surrogate.clipped + penalty.clipped }
    }

    fn held<T: Float>(&self, frozen: &Rollout<'_, T>, live: &Rollout<'_, T>) -> T {
        self.surrogate.held(frozen, live) + self.penalty.held(frozen, live)
    }

    /// Those of the surrogate: no listed penalty has one.
    fn kinks(&self) -> [Option<f32>; 3] {
        self.surrogate.kinks()
    }

    fn needs_reference(&self) -> bool {
        self.surrogate.needs_reference() || self.penalty.needs_reference()
    }
}
