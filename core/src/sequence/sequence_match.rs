use super::{Transition, TransitionEval};
use crate::RowPartials;
use crate::objective::cast;
use num_traits::Float;

/// SequenceMatch under the chi-squared divergence: logits are the values of actions, their log-sum-exp is the
/// value of a state.
///
/// ```text
/// r = logit - gamma lse'        lse' of the row after, 0 after the last
/// L = -demonstration r + lse - gamma lse' + r^2 / (4 alpha)        w = r / (2 alpha) - demonstration
/// of the row:   d_target = w, d_lse = 1        of the row after:   d_lse = -gamma (1 + w)
/// ```
///
/// Logits themselves matter, and not only their differences: what a shift of all does to maximum likelihood,
/// nothing, it does not do here. A row is in two transitions, so that its partials are the sum of those of
/// both.
///
/// **Domain.** `alpha` from 0.001 to 1000, `gamma` from 0 to 1.
///
/// ```
/// use tokenloss_core::sequence::{SequenceMatch, Transition};
/// let eval = SequenceMatch::new(0.5, 0.5)?.of_transition(&Transition {
///     logit: 2.0, lse: 3.0, next_lse: Some(2.0), demonstration: 1.0,
/// });
/// assert_eq!((eval.loss, eval.partials.d_target, eval.next.d_lse), (-1.0 + 2.0 + 0.5, 0.0, -0.5));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Cundy and Ermon 2024 (arXiv 2306.05426), after IQ-Learn (arXiv 2106.12142). Their value after
/// the end of a sequence is that of an absorbing state; here it is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequenceMatch {
    pub(crate) alpha: f32,
    pub(crate) gamma: f32,
}

impl SequenceMatch {
    /// Loss and partials in one call.
    pub fn of_transition<T: Float>(&self, transition: &Transition<T>) -> TransitionEval<T> {
        let (alpha, gamma) = (cast::<T>(self.alpha), cast::<T>(self.gamma));
        let Transition { logit, lse, next_lse, demonstration } = *transition;
        let (zero, two) = (T::zero(), T::one() + T::one());
        let tail = next_lse.map_or(zero, |next| gamma * next);
        let r = logit - tail;
        let w = r / (two * alpha) - demonstration;
        let d_next = if next_lse.is_some() { -gamma * (T::one() + w) } else { zero };
        TransitionEval {
            loss: (lse - tail) + r * (r / (two * two * alpha) - demonstration),
            partials: RowPartials { d_target: w, d_lse: T::one(), ..RowPartials::zero() },
            next: RowPartials { d_lse: d_next, ..RowPartials::zero() },
        }
    }
}
