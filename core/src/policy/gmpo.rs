use super::{PolicyEval, PolicyObjective, Rollout, ratio};
use crate::objective::cast;
use num_traits::Float;

/// Geometric-mean policy optimisation: log-ratios clipped token by token, then averaged.
///
/// ```text
/// c_t = min(d_t, high) for A >= 0, max(d_t, -low) for A < 0        d_t = log_p_t - old_t
/// L = -A exp(mean_t c_t)        at every token
/// slope_t = -A exp(mean_t c_t) where c_t = d_t, else 0
/// ```
///
/// One wild token cannot carry a geometric mean away, so the clip is wide. Without it (`low` and `high` at their greatest) the
/// loss is that of [`Gspo`](super::Gspo) without its clip. The advantage is the sequence's; where tokens have their own it is their mean.
///
/// **Domain.** `low` and `high` from 0 to 1000, of the log-ratio: a sequence of one token is [`Ppo`](super::Ppo) with its
/// `low = 1 - exp(-low)` and `high = exp(high) - 1`.
///
/// **Kinks.** At the log-ratio `-low` for negative and `high` for positive advantages.
///
/// **Numerics.** The exponential saturates at the square root of the greatest finite number.
///
/// ```
/// use tokenloss_core::{Segments, sequence::Sequences};
/// use tokenloss_core::policy::{Advantages, Gmpo, PolicyObjective, Rollouts};
///
/// let (log_p, old) = ([-1.0f64, -2.0], [-3.0, -1.5]);
/// let rollouts = Rollouts::new(Sequences::new(Segments::new(&[0, 2], 2)?), &log_p, &old, Advantages::Sequences(&[2.0]))?;
/// let mut slopes = [0.0; 2];
/// let eval = Gmpo::new(0.5, 0.5)?.of_rollout(&rollouts.rollout(0), &mut slopes);
/// assert_eq!((eval.loss, eval.clipped, slopes), (-4.0, 1, [0.0, -2.0]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Zhao et al. 2025 (arXiv 2507.20673). Its code, too, clips log-ratios, by .4 either way, and takes the mean over
/// sequences; that of verl adds 1e-8 to lengths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gmpo {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Gmpo {
    /// A token's log-ratio, clipped, and whether it was.
    fn clip<T: Float>(&self, log_ratio: T, advantage: T) -> (T, bool) {
        let (low, high) = (cast::<T>(-self.low), cast::<T>(self.high));
        if advantage < T::zero() {
            (log_ratio.max(low), log_ratio < low)
        } else {
            (log_ratio.min(high), log_ratio > high)
        }
    }

    /// The loss of one token.
    fn token<T: Float>(&self, rollout: &Rollout<'_, T>, advantage: T) -> T {
        -advantage * ratio(rollout.mean(|token| self.clip(token.log_ratio(), advantage).0))
    }
}

impl PolicyObjective for Gmpo {
    fn of_rollout<T: Float>(&self, rollout: &Rollout<'_, T>, slopes: &mut [T]) -> PolicyEval<T> {
        let advantage = rollout.advantage();
        let loss = self.token(rollout, advantage);
        let mut clipped = 0;
        for (row, token) in rollout.tokens() {
            if self.clip(token.log_ratio(), advantage).1 {
                clipped += 1;
            } else {
                slopes[row] = slopes[row] + loss;
            }
        }
        PolicyEval { loss: loss * rollout.length(), clipped }
    }

    fn held<T: Float>(&self, _frozen: &Rollout<'_, T>, live: &Rollout<'_, T>) -> T {
        self.token(live, live.advantage()) * live.length()
    }

    fn kinks(&self) -> [Option<f32>; 3] {
        [Some(-self.low), Some(self.high), None]
    }
}
