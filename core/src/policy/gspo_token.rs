use super::{PolicyEval, PolicyObjective, Rollout, clip, clip_kinks};
use num_traits::Float;

/// [`Gspo`](super::Gspo) with an advantage for every token.
///
/// ```text
/// s_t = sg(s) p_t / sg(p_t)        s = exp(mean_t d_t), d_t = log_p_t - old_t
/// L = sum_t -min(A_t s_t, A_t clip(s_t, 1 - low, 1 + high))
/// slope_t = -A_t s where that is not clipped, else 0
/// ```
///
/// In value every `s_t` is `s`; in gradient each is its own token's. Where all advantages of a sequence are the same, so are loss
/// and slopes of `Gspo`. [`held`](PolicyObjective::held) gives the function that the slopes are derivatives of.
///
/// **Domain**, **kinks** and **numerics** are those of `Gspo`.
///
/// ```
/// use tokenloss_core::{Segments, sequence::Sequences};
/// use tokenloss_core::policy::{Advantages, GspoToken, PolicyObjective, Rollouts};
///
/// let (log_p, old) = ([-1.0f64, -2.0], [-1.5, -1.5]);
/// let rollouts = Rollouts::new(Sequences::new(Segments::new(&[0, 2], 2)?), &log_p, &old, Advantages::Rows(&[2.0, -1.0]))?;
/// let mut slopes = [0.0; 2];
/// let eval = GspoToken::new(3e-4, 4e-4)?.of_rollout(&rollouts.rollout(0), &mut slopes);
/// assert_eq!((eval.loss, eval.clipped, slopes), (-1.0, 0, [-2.0, 1.0]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Zheng et al. 2025 (arXiv 2507.18071), section 4.3; what the code of verl calls gspo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GspoToken {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl PolicyObjective for GspoToken {
    fn of_rollout<T: Float>(&self, rollout: &Rollout<'_, T>, slopes: &mut [T]) -> PolicyEval<T> {
        let log_ratio = rollout.mean(|token| token.log_ratio());
        let mut all = PolicyEval { loss: T::zero(), clipped: 0 };
        for (row, token) in rollout.tokens() {
            let (ratio, clipped) = clip(log_ratio, token.advantage, self.low, self.high);
            let loss = -token.advantage * ratio;
            all.loss = all.loss + loss;
            if clipped {
                all.clipped += 1;
            } else {
                slopes[row] = slopes[row] + loss;
            }
        }
        all
    }

    fn held<T: Float>(&self, frozen: &Rollout<'_, T>, live: &Rollout<'_, T>) -> T {
        let log_ratio = frozen.mean(|token| token.log_ratio());
        frozen.tokens().zip(live.tokens()).fold(T::zero(), |sum, ((_, frozen), (_, live))| {
            let log_ratio = log_ratio + (live.log_p - frozen.log_p);
            sum - live.advantage * clip(log_ratio, live.advantage, self.low, self.high).0
        })
    }

    fn kinks(&self) -> [Option<f32>; 3] {
        let [low, high] = clip_kinks(self.low, self.high);
        [low, high, None]
    }
}
