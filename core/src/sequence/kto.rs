use super::{Needs, Response, SequenceEval, SequenceObjective, check_some};
use crate::Error;
use crate::math::sigmoid;
use crate::objective::cast;
use num_traits::Float;

/// Kahneman-Tversky optimisation: sequences that are known to be desirable or undesirable, without pairs.
///
/// ```text
/// v = beta (log_p - reference - baseline)
/// reward > 0:   L = desirable   (1 - sigmoid(v))    slope = -beta desirable   sigmoid(v) sigmoid(-v)
/// otherwise:    L = undesirable (1 - sigmoid(-v))   slope =  beta undesirable sigmoid(v) sigmoid(-v)
/// ```
///
/// A sequence far on either side of the baseline is no longer moved.
///
/// **Domain.** `beta` from 0.001 to 100, `desirable` and `undesirable` from 0 to 100. Needs `reference`,
/// `baseline`, which no gradient flows through ([`baseline`](Self::baseline) estimates it), and `reward`, of
/// which only the sign counts: a label of 1 or 0, or of 1 or -1.
///
/// **Numerics.** `1 - sigmoid(v)` is `sigmoid(-v)`.
///
/// ```
/// use tokenloss_core::sequence::{Kto, Response, SequenceObjective};
/// let good = Response { reference: -5.0, reward: 1.0, baseline: 0.0, ..Response::new(-5.0, 3.0) };
/// let eval = Kto::new(0.1, 1.0, 1.0)?.of_sequence(&good);
/// assert!((eval.loss - 0.5f64).abs() < 1e-15 && (eval.slope + f64::from(0.1f32) / 4.0).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Ethayarajh et al. 2024 (arXiv 2402.01306). The paper writes it as a weight less a value, which
/// is `sigmoid(v)` or `sigmoid(-v)` times that weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kto {
    pub(crate) beta: f32,
    pub(crate) desirable: f32,
    pub(crate) undesirable: f32,
}

impl Kto {
    /// The baseline as the authors and TRL estimate it: the mean of `log_p - reference` over sequences that
    /// do not belong to their prompts (each prompt of a batch with the sequence of the next), and 0 where
    /// that is negative.
    ///
    /// TRL takes the mean over all ranks before it cuts at 0.
    ///
    /// # Errors
    /// * [`Error::TooFew`] if there are no sequences.
    /// * [`Error::Input`] as [`Needs::check`], with a `reference` needed.
    pub fn baseline(mismatched: &[Response<f64>]) -> Result<f64, Error> {
        check_some("mismatched", mismatched.len())?;
        Needs::REFERENCE.check(mismatched)?;
        let sum: f64 = mismatched.iter().map(Response::log_ratio).sum();
        Ok((sum / mismatched.len() as f64).max(0.0))
    }
}

impl SequenceObjective for Kto {
    fn needs(&self) -> Needs {
        Needs { reference: true, reward: true, baseline: true, ..Needs::NOTHING }
    }

    #[inline]
    fn of_sequence<T: Float>(&self, response: &Response<T>) -> SequenceEval<T> {
        let beta = cast::<T>(self.beta);
        let v = beta * (response.log_ratio() - response.baseline);
        let (weight, sign) = if response.reward > T::zero() {
            (cast::<T>(self.desirable), T::one())
        } else {
            (cast::<T>(self.undesirable), -T::one())
        };
        let loss = weight * sigmoid(-sign * v);
        SequenceEval { loss, slope: -sign * beta * loss * sigmoid(sign * v), kept: true }
    }
}
