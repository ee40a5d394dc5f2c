use super::{Class, ClassLink, EntryEval, LabelObjective};
use crate::Number;

/// The expected cost of a class drawn from the row.
///
/// ```text
/// L = sum_j t_j p_j        dL/dz_j = p_j (t_j - L)
/// ```
///
/// The policy gradient of one draw, over all draws at once: labels are costs, or rewards with the sign turned.
///
/// **Domain.** Any finite labels, of any sign.
///
/// **Numerics.** The likeliest class's gradient is formed from what is left of its probability.
///
/// ```
/// use tokenloss_core::label::{Class, ExpectedCost, LabelObjective};
/// let eval = ExpectedCost::new()?.of_class(&Class::softmax(0.25f64.ln()), 3.0);
/// assert!((eval.value - 0.75).abs() < 1e-15 && (eval.pull - 0.75).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Minimum risk training (arXiv 1512.02433), over classes and not over sampled sequences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedCost {}

impl LabelObjective for ExpectedCost {
    fn link(&self) -> ClassLink {
        ClassLink::Softmax
    }

    #[inline(always)]
    fn of_class<N: Number>(&self, class: &Class<N>, label: N) -> EntryEval<N> {
        let cost = label * class.p;
        EntryEval { value: cost, pull: cost }
    }
}
