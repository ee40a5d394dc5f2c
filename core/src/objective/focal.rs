use super::cast;
use crate::{TargetProb, TokenEval, TokenObjective};
use num_traits::Float;

/// Focal loss: nll damped where the model is already sure.
///
/// ```text
/// f(p) = -(1 - p)^gamma log p        slope = (1 - p)^gamma (gamma p log p / (1 - p) - 1)
/// W(p) = (1 - p)^gamma ((1 - p) - gamma p log p)
/// ```
///
/// More prior-averse than nll. `W` peaks near p = 0, but not at it: at .043 for `gamma = 1`.
///
/// **Domain.** `gamma` from 0, which is nll, to 16.
///
/// **Numerics.** `log p / (1 - p)` is a ratio of two exact numbers and tends to -1 at p = 1; powers are taken
/// of `1 - p` itself. Both underflow where `(1 - p)^gamma` does.
///
/// ```
/// use tokenloss_core::{Focal, TokenObjective};
/// let eval = Focal::new(2.0)?.of_log_p((0.5f64).ln());
/// assert!((eval.loss - 0.25 * 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Lin et al. 2017 (arXiv 1708.02002); "Beyond Log Likelihood", appendix F.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Focal {
    pub(crate) gamma: f32,
}

impl TokenObjective for Focal {
    #[inline]
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        let gamma = cast::<T>(self.gamma);
        let damp = target.one_minus_p.powf(gamma);
        // -log p / (1 - p), which is 1 at p = 1 and meets p = 0 only as p log p = 0.
        let ratio =
            if target.one_minus_p == T::zero() { T::one() } else { -target.log_p / target.one_minus_p };
        let p = target.p();
        let pull = if p == T::zero() { T::zero() } else { gamma * p * ratio };
        let loss = if damp == T::zero() { T::zero() } else { -damp * target.log_p };
        TokenEval { loss, slope: -damp * (T::one() + pull), kept: true }
    }
}
