use super::{ScoreEval, ScoreObjective, error};
use crate::objective::cast;
use num_traits::Float;

/// Huber's loss: half the square of a small error, and linear beyond `delta`.
///
/// ```text
/// e = |score - target|        loss = e^2 / 2  if e <= delta, else  delta (e - delta / 2)
///                             slope = (score - target) clamped to -delta to delta
/// ```
///
/// `delta = 1` is the smooth L1 loss. Both sides agree in value and slope at `e = delta`; the second derivative jumps
/// there.
///
/// **Domain.** `delta` from 0.001 to 1000.
///
/// **Numerics.** Nothing cancels: the linear part is at least `delta^2 / 2`.
///
/// ```
/// use tokenloss_core::score::{Huber, ScoreObjective};
/// let eval = Huber::new(1.0)?.of_scores([3.0f64], [0.0]);
/// assert_eq!((eval.loss, eval.slopes), (2.5, [1.0]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Huber 1964; PyTorch's `HuberLoss`. Its `SmoothL1Loss` divides this by `delta`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Huber {
    pub(crate) delta: f32,
}

impl ScoreObjective for Huber {
    #[inline]
    fn of_scores<T: Float>(&self, [score]: [T; 1], [target]: [T; 1]) -> ScoreEval<T, 1> {
        let (delta, half) = (cast::<T>(self.delta), cast::<T>(0.5));
        let error = error(score, target);
        if error.abs() <= delta {
            ScoreEval { loss: half * error * error, slopes: [error] }
        } else {
            ScoreEval { loss: delta * (error.abs() - half * delta), slopes: [delta.copysign(error)] }
        }
    }

    fn kinks(&self, [target]: [f64; 1]) -> [Option<f64>; 2] {
        let delta = f64::from(self.delta);
        [Some(target - delta), Some(target + delta)]
    }
}
