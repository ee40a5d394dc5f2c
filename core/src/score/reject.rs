use super::{Domain, Input, ScoreEval, ScoreObjective};
use crate::Error;
use crate::objective::cast;
use num_traits::Float;

/// A surrogate for abstention: a rejector's score `r` beside a fixed predictor that is right (`a = 1`) or wrong
/// (`a = -1`), where rejecting costs `cost`. The predictor's answer is rejected where `r <= 0`.
///
/// ```text
/// loss = exp(alpha (r - a) / 2) + cost exp(-beta r)
/// slope = alpha / 2 exp(alpha (r - a) / 2) - beta cost exp(-beta r)
/// ```
///
/// An upper bound of the loss that counts an accepted wrong answer as 1 and a rejected one as `cost`. It is
/// calibrated, so that its minimiser rejects exactly where the predictor is wrong with a probability above `cost`,
/// for the `beta` of [`calibrated`](Reject::calibrated).
///
/// **Domain.** `alpha` from 0.01 to 16, `beta` from 0.001 to 100,000, `cost` from 0.001 to 1.
///
/// **Numerics.** Each exponential stops at 1e-8 of the greatest finite value, so that loss and slope are finite.
///
/// ```
/// use tokenloss_core::score::{Reject, ScoreObjective};
/// let eval = Reject::calibrated(2.0, 0.05)?.of_scores([0.0f64], [1.0]);
/// assert!((eval.loss - ((-1f64).exp() + 0.05)).abs() < 1e-7);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Mohri et al. 2023 (arXiv 2301.09044).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reject {
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    pub(crate) cost: f32,
}

impl Reject {
    /// `beta = alpha (cost exp(alpha / 2) + (1 - cost) exp(-alpha / 2)) / (2 cost)`, at which the expected slope at
    /// `r = 0` vanishes where the predictor is wrong with a probability of `cost`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for any of the three, `beta` among them.
    pub fn calibrated(alpha: f32, cost: f32) -> Result<Self, Error> {
        // Checks the two that are given before anything is made of them.
        Self::new(alpha, 1.0, cost)?;
        let (a, c) = (f64::from(alpha), f64::from(cost));
        let expected = c * Float::exp(a / 2.0) + (1.0 - c) * Float::exp(-a / 2.0);
        Self::new(alpha, (a * expected / (2.0 * c)) as f32, cost)
    }
}

impl ScoreObjective for Reject {
    #[inline]
    fn of_scores<T: Float>(&self, [score]: [T; 1], [correct]: [T; 1]) -> ScoreEval<T, 1> {
        let [alpha, beta, cost] = [self.alpha, self.beta, self.cost].map(cast::<T>);
        let half = alpha * cast(0.5);
        // Room for alpha / 2, for beta and for the sum of the two.
        let greatest = T::max_value() * cast(1e-8);
        let accepted = (half * (score - correct)).exp().min(greatest);
        let rejected = cost * (-beta * score).exp().min(greatest);
        ScoreEval { loss: accepted + rejected, slopes: [half * accepted - beta * rejected] }
    }

    fn inputs() -> ([Input; 1], [Input; 1]) {
        ([Input::real("scores")], [Input { name: "correct", domain: Domain::Sign }])
    }
}
