use super::{PolicyEval, PolicyObjective, Rollout, clip, clip_kinks};
use num_traits::Float;

/// Group sequence policy optimisation: the clip of PPO on the ratio of the whole sequence, normalised by its length.
///
/// ```text
/// s = exp(mean_t d_t)        d_t = log_p_t - old_t
/// L = -min(A s, A clip(s, 1 - low, 1 + high))        at every token
/// slope_t = -A s where that is not clipped, else 0
/// ```
///
/// A sequence is clipped as a whole. The advantage is the sequence's; where tokens have their own it is their mean, and
/// [`GspoToken`](super::GspoToken) keeps them.
///
/// **Domain.** `low` from 0 to 1, `high` from 0 to 1e6. The mean of log-ratios varies little, so the published clips are
/// small: 3e-4 and 4e-4, the defaults.
///
/// **Kinks.** Those of [`Ppo`](super::Ppo), of `s`.
///
/// **Numerics.** `s` saturates at the square root of the greatest finite number.
///
/// ```
/// use tokenloss_core::{Segments, sequence::Sequences};
/// use tokenloss_core::policy::{Advantages, Gspo, PolicyObjective, Rollouts};
///
/// let (log_p, old) = ([-1.0f64, -2.0], [-1.5, -1.5]);
/// let rollouts = Rollouts::new(Sequences::new(Segments::new(&[0, 2], 2)?), &log_p, &old, Advantages::Sequences(&[2.0]))?;
/// let mut slopes = [0.0; 2];
/// let eval = Gspo::new(3e-4, 4e-4)?.of_rollout(&rollouts.rollout(0), &mut slopes);
/// assert_eq!((eval.loss, eval.clipped, slopes), (-4.0, 0, [-2.0, -2.0]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Zheng et al. 2025 (arXiv 2507.18071). The code of verl bounds `log s` by 10.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gspo {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Gspo {
    /// The loss of one token, and whether the sequence was clipped.
    fn token<T: Float>(&self, rollout: &Rollout<'_, T>) -> (T, bool) {
        let advantage = rollout.advantage();
        let (ratio, clipped) = clip(rollout.mean(|token| token.log_ratio()), advantage, self.low, self.high);
        (-advantage * ratio, clipped)
    }
}

impl PolicyObjective for Gspo {
    fn of_rollout<T: Float>(&self, rollout: &Rollout<'_, T>, slopes: &mut [T]) -> PolicyEval<T> {
        let (token, clipped) = self.token(rollout);
        let mut all = PolicyEval { loss: T::zero(), clipped: 0 };
        for (row, _) in rollout.tokens() {
            all.loss = all.loss + token;
            if clipped {
                all.clipped += 1;
            } else {
                slopes[row] = slopes[row] + token;
            }
        }
        all
    }

    fn held<T: Float>(&self, _frozen: &Rollout<'_, T>, live: &Rollout<'_, T>) -> T {
        self.token(live).0 * live.length()
    }

    fn kinks(&self) -> [Option<f32>; 3] {
        let [low, high] = clip_kinks(self.low, self.high);
        [low, high, None]
    }
}
