use super::{ScoreEval, ScoreObjective};
use crate::math::{sigmoid, softplus};
use num_traits::Float;

/// Binary cross entropy from a logit, with a target of any real value.
///
/// ```text
/// loss = -target log sigmoid(score) - (1 - target) log sigmoid(-score)        slope = sigmoid(score) - target
/// ```
///
/// A target of 0 or 1 is a label, one between them a soft or smoothed label. One outside of `[0, 1]`, as debiased
/// estimates from label proportions have, is taken as it is: the loss is then not bounded below.
///
/// **Numerics.** The slope is `(1 - target) sigmoid(score) - target sigmoid(-score)`, so that a confident score keeps
/// the relative accuracy of its gradient for targets from 0 to 1; `sigmoid(score) - target` would cancel.
///
/// ```
/// use tokenloss_core::score::{BinaryCrossEntropy, ScoreObjective};
/// let eval = BinaryCrossEntropy::new()?.of_scores([40.0f32], [1.0]);
/// assert!((eval.slopes[0] / -(-40f32).exp() - 1.0).abs() < 1e-6);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Maximum likelihood; PyTorch's `BCEWithLogitsLoss`. Targets outside of `[0, 1]`: Busa-Fekete et al. 2023
/// (arXiv 2302.03115).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BinaryCrossEntropy {}

impl ScoreObjective for BinaryCrossEntropy {
    #[inline]
    fn of_scores<T: Float>(&self, [score]: [T; 1], [target]: [T; 1]) -> ScoreEval<T, 1> {
        let other = T::one() - target;
        ScoreEval {
            loss: target * softplus(-score) + other * softplus(score),
            slopes: [other * sigmoid(score) - target * sigmoid(-score)],
        }
    }
}
