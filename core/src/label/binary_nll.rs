use super::{Class, ClassLink, EntryEval, LabelObjective, either};
use crate::Number;

/// Binary cross-entropy of each class on its own, by logits.
///
/// ```text
/// L = -sum_j (positive t_j log p_j + (1 - t_j) log(1 - p_j))        p_j = 1 / (1 + exp -z_j)
/// dL/dz_j = (1 - t_j) p_j - positive t_j (1 - p_j)
/// ```
///
/// **Domain.** Any finite labels: from 0 to 1 they are probabilities; outside of it, as an unbiased estimate from proportions
/// makes them, the loss is not bounded below. `positive`, the weight of what is on, from 0 to 1000. A masked class with a label other
/// than 0 is an [`Error::Label`](crate::Error::Label).
///
/// **Numerics.** Both logarithms by the lesser probability; no probability is taken off 1.
///
/// ```
/// use tokenloss_core::label::{BinaryNll, Class, LabelObjective};
/// let eval = BinaryNll::new(1.0)?.of_class(&Class::sigmoid(0.0f64), 0.25);
/// assert!((eval.value - 2f64.ln()).abs() < 1e-15 && (eval.pull - 0.25).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** PyTorch's `binary_cross_entropy_with_logits` is this, with `pos_weight` for `positive` and a mean over classes
/// for the sum. Labels from proportions: EasyLLP (arXiv 2302.03115).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BinaryNll {
    pub(crate) positive: f32,
}

impl LabelObjective for BinaryNll {
    fn link(&self) -> ClassLink {
        ClassLink::Sigmoid
    }

    #[inline(always)]
    fn of_class<N: Number>(&self, class: &Class<N>, label: N) -> EntryEval<N> {
        let positive = label.like(self.positive);
        let on = EntryEval { value: -(positive * class.log_p), pull: -(positive * class.rest) };
        either(label, on, EntryEval { value: -class.log_rest, pull: class.p })
    }
}
