use super::{Needs, Response, SequenceEval, SequenceObjective, check_some};
use crate::Error;
use crate::objective::cast;
use num_traits::Float;

/// Trajectory balance: sequences are to be as likely as their rewards say, up to one constant.
///
/// ```text
/// d = baseline + log_p - beta reward        L = d^2        slope = 2 d
/// ```
///
/// `reward` is the logarithm of what a GFlowNet calls the reward, and `baseline` its `log Z`. The derivative
/// by `log Z` is the slope, too: where sequences share a `log Z` that is learned, the sum of their slopes.
/// For a reward `r` regularised by `tau KL(model || reference)`, give `reference + r / tau` as the reward,
/// and 1 as `beta`.
///
/// **Domain.** `beta` from 0.001 to 100. Needs `reward` and `baseline`, which [`log_z`](Self::log_z)
/// estimates.
///
/// ```
/// use tokenloss_core::sequence::{Response, SequenceObjective, TrajectoryBalance};
/// let response = Response { reward: -3.0, baseline: 0.5, ..Response::new(-5.0, 4.0) };
/// let eval = TrajectoryBalance::new(1.0)?.of_sequence(&response);
/// assert_eq!((eval.loss, eval.slope), (2.25, -3.0));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Malkin et al. 2022 (arXiv 2201.13259); for sequences, with `beta`, Jain et al. 2023 (arXiv
/// 2210.12765).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrajectoryBalance {
    pub(crate) beta: f32,
}

impl TrajectoryBalance {
    /// `log Z` of the sequences of one prompt as their mean says, `mean(beta reward - log_p)`: the one for
    /// which their losses are least. Held where the gradient is taken, it makes trajectory balance VarGrad.
    ///
    /// # Errors
    /// * [`Error::TooFew`] if there are no sequences.
    /// * [`Error::Input`] as [`Needs::check`], with a `reward` needed.
    pub fn log_z(&self, prompt: &[Response<f64>]) -> Result<f64, Error> {
        check_some("prompt", prompt.len())?;
        Needs::REWARD.check(prompt)?;
        let beta = f64::from(self.beta);
        let sum: f64 = prompt.iter().map(|response| beta * response.reward - response.log_p).sum();
        Ok(sum / prompt.len() as f64)
    }
}

impl SequenceObjective for TrajectoryBalance {
    fn needs(&self) -> Needs {
        Needs { reward: true, baseline: true, ..Needs::NOTHING }
    }

    #[inline]
    fn of_sequence<T: Float>(&self, response: &Response<T>) -> SequenceEval<T> {
        let d = response.baseline + response.log_p - cast::<T>(self.beta) * response.reward;
        SequenceEval { loss: d * d, slope: d + d, kept: true }
    }
}
