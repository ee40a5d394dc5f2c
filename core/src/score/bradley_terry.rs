use super::{Input, ScoreEval, ScoreObjective, error};
use crate::math::{sigmoid, softplus};
use crate::objective::cast;
use num_traits::Float;

/// The loss of a reward model: the preferred answer's reward should be the greater one.
///
/// ```text
/// d = chosen - rejected - margin
/// loss = -(1 - smoothing) log sigmoid(d) - smoothing log sigmoid(-d) + centre (chosen + rejected)^2
/// d loss / d d = smoothing sigmoid(d) - (1 - smoothing) sigmoid(-d)
/// ```
///
/// `margin`, a target, is how much better an annotator found the preferred answer; 0 where nobody said. `smoothing` is
/// the share of labels believed to be swapped. `centre`, usually 0.01, keeps rewards around 0, which the rest leaves
/// free.
///
/// **Domain.** `smoothing` from 0 to 0.5, `centre` from 0 to 10.
///
/// **Numerics.** By softplus, so that a confident pair keeps the relative accuracy of loss and slope and a hopeless
/// one is finite. With `centre` the loss is infinite where a square leaves the float type.
///
/// ```
/// use tokenloss_core::score::{BradleyTerry, ScoreObjective};
/// let eval = BradleyTerry::new(0.0, 0.0)?.of_scores([2.0f64, 2.0], [0.0]);
/// assert!((eval.loss - 2f64.ln()).abs() < 1e-15);
/// assert_eq!(eval.slopes, [-0.5, 0.5]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Bradley and Terry 1952; Ouyang et al. 2022 (arXiv 2203.02155); the margin: Touvron et al. 2023 (arXiv
/// 2307.09288); the centre: Eisenstein et al. 2023 (arXiv 2312.09244). TRL's `RewardTrainer` has margin and centre in
/// this form and no smoothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BradleyTerry {
    pub(crate) smoothing: f32,
    pub(crate) centre: f32,
}

impl ScoreObjective<2> for BradleyTerry {
    #[inline]
    fn of_scores<T: Float>(&self, [chosen, rejected]: [T; 2], [margin]: [T; 1]) -> ScoreEval<T, 2> {
        let [smoothing, centre] = [self.smoothing, self.centre].map(cast::<T>);
        let kept = T::one() - smoothing;
        let difference = error(error(chosen, rejected), margin);
        let slope = smoothing * sigmoid(difference) - kept * sigmoid(-difference);
        let sum = chosen + rejected;
        let pull = if centre == T::zero() { T::zero() } else { centre * sum };
        let off = if pull == T::zero() { T::zero() } else { pull * sum };
        ScoreEval {
            loss: kept * softplus(-difference) + smoothing * softplus(difference) + off,
            slopes: [slope + (pull + pull), (pull + pull) - slope],
        }
    }

    fn inputs() -> ([Input; 2], [Input; 1]) {
        ([Input::real("chosen"), Input::real("rejected")], [Input::real("margin")])
    }
}
