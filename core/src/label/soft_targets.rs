use super::{Class, ClassLink, EntryEval, LabelObjective, where_not_0};
use crate::Number;

/// Cross-entropy with soft targets, which need not add up to 1.
///
/// ```text
/// L = -sum_j t_j log p_j        dL/dz_j = T p_j - t_j        T = sum_k t_k
/// ```
///
/// A row of one 1 is nll; a smoothed row label smoothing; a teacher's probabilities the cross-entropy of distillation, which
/// is the forward divergence and the teacher's entropy; a mix of two rows mixup. Utilities of predicting `j` where `y` is
/// right, times a class weight, are the row of a Bayesian decision.
///
/// **Domain.** Any finite labels. With negative ones the loss is not bounded below. A masked class with a label other than 0
/// is an [`Error::Label`](crate::Error::Label).
///
/// **Numerics.** The likeliest class's gradient is formed from what is left of its probability, so that a confident row with its
/// label keeps its gradient.
///
/// ```
/// use tokenloss_core::label::{Class, LabelObjective, SoftTargets};
/// let eval = SoftTargets::new()?.of_class(&Class::softmax(0.25f64.ln()), 0.5);
/// assert_eq!((eval.value, eval.pull), (0.5 * 4f64.ln(), -0.5));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Szegedy et al. 2016 (arXiv 1512.00567); as the coefficients of a decision arXiv 2303.06075, whose code adds a hard
/// target with a margin: add 1 to that label, and the margin to that logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftTargets {}

impl LabelObjective for SoftTargets {
    fn link(&self) -> ClassLink {
        ClassLink::Softmax
    }

    #[inline(always)]
    fn of_class<N: Number>(&self, class: &Class<N>, label: N) -> EntryEval<N> {
        EntryEval { value: -where_not_0(label, label * class.log_p), pull: -label }
    }
}
