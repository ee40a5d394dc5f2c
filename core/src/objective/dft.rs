use crate::{TargetProb, TokenEval, TokenObjective};
use num_traits::Float;

/// Dynamic fine-tuning: nll weighted by the probability itself, through which no gradient flows.
///
/// ```text
/// L = -sg(p) log p        slope = -p        W(p) = p (1 - p)
/// ```
///
/// Its gradient is that of [`Power`](crate::Power) at `alpha = 1`; its value is not. The slope is therefore not
/// the derivative of the value: [`held`](TokenObjective::held) gives the function that it is the derivative of.
///
/// **Domain.** Every `log_p <= 0`; at p = 0 value and slope are 0.
///
/// ```
/// use tokenloss_core::{Dft, Power, TokenObjective};
/// let log_p = (0.25f64).ln();
/// assert_eq!(Dft.of_log_p(log_p).slope, Power::new(1.0)?.of_log_p(log_p).slope);
/// assert_eq!(Dft.of_log_p(log_p).loss, -0.25 * log_p);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Wu et al. 2025 (arXiv 2508.05629).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dft {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const Dft: Dft = Dft {};

impl TokenObjective for Dft {
    #[inline]
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        TokenEval { loss: self.held(target, target), slope: -target.log_p.exp(), kept: true }
    }

    #[inline]
    fn held<T: Float>(&self, frozen: TargetProb<T>, live: TargetProb<T>) -> T {
        let p = frozen.log_p.exp();
        if p == T::zero() { T::zero() } else { -p * live.log_p }
    }
}
