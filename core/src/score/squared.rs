use super::{ScoreEval, ScoreObjective, error};
use num_traits::Float;

/// The squared error, whose mean is the MSE.
///
/// ```text
/// loss = (score - target)^2        slope = 2 (score - target)
/// ```
///
/// **Numerics.** The loss is infinite where the square leaves the float type, in `f32` from an error of 1.8e19 on;
/// the slope is not.
///
/// ```
/// use tokenloss_core::score::{ScoreObjective, Squared};
/// let eval = Squared::new()?.of_scores([3.0f64], [1.0]);
/// assert_eq!((eval.loss, eval.slopes), (4.0, [4.0]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Least squares; PyTorch's `MSELoss`, which has no factor of 1/2 either.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Squared {}

impl ScoreObjective for Squared {
    #[inline]
    fn of_scores<T: Float>(&self, [score]: [T; 1], [target]: [T; 1]) -> ScoreEval<T, 1> {
        let error = error(score, target);
        ScoreEval { loss: error * error, slopes: [error + error] }
    }
}
