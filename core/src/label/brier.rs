use super::{Class, ClassLink, EntryEval, LabelObjective};
use crate::Number;

/// The Brier score: the squared distance of probabilities from their labels.
///
/// ```text
/// L = sum_j (p_j - t_j)^2        pull_j = 2 p_j (p_j - t_j)
/// ```
///
/// A proper score, bounded where nll is not: labels that are wrong pull less.
///
/// **Domain.** Any finite labels; of labels that add up to 1 the loss is from 0 to 2.
///
/// **Numerics.** `p - t` as `p (1 - t) - t (1 - p)`, which for labels of 0 and 1 cancels nothing.
///
/// ```
/// use tokenloss_core::label::{Brier, Class, LabelObjective};
/// let eval = Brier::new()?.of_class(&Class::softmax(0.25f64.ln()), 1.0);
/// assert!((eval.value - 0.5625).abs() < 1e-15 && (eval.pull + 0.375).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Brier 1950. Some texts divide by the number of classes: a weight of the row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Brier {}

impl LabelObjective for Brier {
    fn link(&self) -> ClassLink {
        ClassLink::Softmax
    }

    #[inline(always)]
    fn of_class<N: Number>(&self, class: &Class<N>, label: N) -> EntryEval<N> {
        let off = class.p * (label.like(1.0) - label) - label * class.rest;
        EntryEval { value: off * off, pull: class.p * (off + off) }
    }
}
