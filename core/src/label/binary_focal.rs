use super::{Class, ClassLink, EntryEval, LabelObjective, damp, either};
use crate::Number;

/// Focal loss of each class on its own: what is easy already counts for little.
///
/// ```text
/// L = sum_j alpha t_j F(p_j) + (1 - alpha)(1 - t_j) F(1 - p_j)        F(p) = -(1 - p)^gamma log p
/// dF(p)/dz = (1 - p)^gamma (gamma p log p - (1 - p))                  p = 1 / (1 + exp -z)
/// ```
///
/// **Domain.** Labels from 0 to 1; `alpha` from 0 to 1, `gamma` from 0, where it is a weighted
/// [`BinaryNll`](super::BinaryNll), to 16.
///
/// ```
/// use tokenloss_core::label::{BinaryFocal, Class, LabelObjective};
/// let eval = BinaryFocal::new(0.25, 2.0)?.of_class(&Class::sigmoid(0.0f64), 1.0);
/// assert!((eval.value - 0.25 * 0.25 * 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Lin et al. 2017 (arXiv 1708.02002). torchvision's `sigmoid_focal_loss` is this for labels of 0 and 1; of others it
/// takes the power of a mixed probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BinaryFocal {
    pub(crate) alpha: f32,
    pub(crate) gamma: f32,
}

/// `F` and its derivative by the logit.
#[inline(always)]
pub(super) fn focal<N: Number>(class: &Class<N>, gamma: f32) -> EntryEval<N> {
    let damp = damp(class.rest, class.log_rest, gamma);
    let p_log_p = class.p.gate(class.p * class.log_p);
    // 0 times infinity, where the class is masked and right so.
    let value = damp.gate(-(damp * class.log_p));
    EntryEval { value, pull: damp * (class.p.like(gamma) * p_log_p - class.rest) }
}

impl LabelObjective for BinaryFocal {
    fn link(&self) -> ClassLink {
        ClassLink::Sigmoid
    }

    fn domain(&self) -> [f32; 2] {
        [0.0, 1.0]
    }

    #[inline(always)]
    fn of_class<N: Number>(&self, class: &Class<N>, label: N) -> EntryEval<N> {
        let alpha = label.like(self.alpha);
        let left = label.like(1.0) - alpha;
        let (on, off) = (focal(class, self.gamma), focal(&class.turned(), self.gamma));
        let on = EntryEval { value: alpha * on.value, pull: alpha * on.pull };
        either(label, on, EntryEval { value: left * off.value, pull: -(left * off.pull) })
    }
}
