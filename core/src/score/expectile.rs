use super::{ScoreEval, ScoreObjective, error};
use crate::objective::cast;
use num_traits::Float;

/// The expectile loss: the squared error, weighted by its sign. Its minimiser is the target's `tau` expectile.
///
/// ```text
/// w = tau  if score < target, else  1 - tau
/// loss = w (score - target)^2        slope = 2 w (score - target)
/// ```
///
/// `tau = 1/2` is half the squared error; towards 1 the minimiser tends to the greatest target, which is how offline
/// reinforcement learning takes a maximum over actions without asking for one. The second derivative jumps at a tie,
/// where loss and slope are 0.
///
/// **Domain.** `tau` from 0 to 1.
///
/// **Numerics.** The loss is infinite where the square leaves the float type; the slope is not.
///
/// ```
/// use tokenloss_core::score::{Expectile, ScoreObjective};
/// let eval = Expectile::new(0.75)?.of_scores([1.0f64], [3.0]);
/// assert_eq!((eval.loss, eval.slopes), (3.0, [-3.0]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Newey and Powell 1987; Kostrikov et al. 2021 (arXiv 2110.06169), with `score` for the value and
/// `target` for the action value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expectile {
    pub(crate) tau: f32,
}

impl ScoreObjective for Expectile {
    #[inline]
    fn of_scores<T: Float>(&self, [score]: [T; 1], [target]: [T; 1]) -> ScoreEval<T, 1> {
        let tau = cast::<T>(self.tau);
        let error = error(score, target);
        let pull = (if error < T::zero() { tau } else { T::one() - tau }) * error;
        ScoreEval { loss: pull * error, slopes: [pull + pull] }
    }

    fn kinks(&self, [target]: [f64; 1]) -> [Option<f64>; 2] {
        [Some(target), None]
    }
}
