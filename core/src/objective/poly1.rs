use super::cast;
use crate::{TargetProb, TokenEval, TokenObjective};
use num_traits::Float;

/// Poly-1: nll with the first coefficient of its expansion in `1 - p` raised by `epsilon`.
///
/// ```text
/// f(p) = -log p + epsilon (1 - p)        slope = -(1 + epsilon p)        W(p) = (1 + epsilon p) (1 - p)
/// ```
///
/// Since `-log p = sum_k (1 - p)^k / k`, this is the least change that moves weight to rows that are sure already
/// (`epsilon > 0`) or away from them (`epsilon < 0`).
///
/// **Domain.** `epsilon` from -0.5 to 16. Nearer to -1 the two terms would cancel where p is near 1.
///
/// ```
/// use tokenloss_core::{Poly1, TokenObjective};
/// let eval = Poly1::new(2.0)?.of_log_p((0.5f64).ln());
/// assert!((eval.loss - (2f64.ln() + 1.0)).abs() < 1e-15 && (eval.slope + 2.0).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Leng et al. 2022 (arXiv 2204.12511). Their default for images is `epsilon = 1` or 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Poly1 {
    pub(crate) epsilon: f32,
}

impl TokenObjective for Poly1 {
    #[inline]
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        let epsilon = cast::<T>(self.epsilon);
        let loss = -target.log_p + epsilon * target.one_minus_p;
        TokenEval { loss, slope: -(T::one() + epsilon * target.p()), kept: true }
    }
}
