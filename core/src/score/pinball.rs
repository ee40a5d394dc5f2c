use super::{ScoreEval, ScoreObjective, error};
use crate::objective::cast;
use num_traits::Float;

/// The pinball loss, also known as quantile loss: its minimiser is the target's `tau` quantile.
///
/// ```text
/// loss = max(tau (target - score), (1 - tau) (score - target))        slope = [target <= score] - tau
/// ```
///
/// `tau = 1/2` is half the absolute error. At a tie, where any slope from `-tau` to `1 - tau` is a subgradient, it is
/// `1 - tau`: the target counts as covered.
///
/// **Domain.** `tau` from 0 to 1.
///
/// ```
/// use tokenloss_core::score::{Pinball, ScoreObjective};
/// let pinball = Pinball::new(0.75)?;
/// assert_eq!(pinball.of_scores([0.0f64], [2.0]).loss, 1.5);
/// assert_eq!(pinball.of_scores([2.0f64], [2.0]).slopes, [0.25]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Koenker and Bassett 1978. The convention for ties is that of Joshi et al. 2025 (arXiv 2502.13030);
/// automatic differentiation of the maximum gives `1/2 - tau` there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pinball {
    pub(crate) tau: f32,
}

impl ScoreObjective for Pinball {
    #[inline]
    fn of_scores<T: Float>(&self, [score]: [T; 1], [target]: [T; 1]) -> ScoreEval<T, 1> {
        let tau = cast::<T>(self.tau);
        let error = error(score, target);
        let slope = if error < T::zero() { -tau } else { T::one() - tau };
        ScoreEval { loss: slope * error, slopes: [slope] }
    }

    fn kinks(&self, [target]: [f64; 1]) -> [Option<f64>; 2] {
        [Some(target), None]
    }
}
