use super::{Class, ClassLink, EntryEval, LabelObjective, damp, either, ln};
use crate::Number;
use num_traits::Float;

/// Focal loss with labels that are qualities: damped by how far the probability is from its label.
///
/// ```text
/// L = sum_j a_j |p_j - t_j|^gamma B_j        B = -t log p - (1 - t) log(1 - p)        p = 1 / (1 + exp -z)
/// dL/dz = a |u|^gamma (u + gamma p (1 - p) B / u)        u = p - t
/// ```
///
/// with `a_j = alpha` where the label is above 0 and `1 - alpha` where it is 0.
///
/// **Domain.** Labels from 0 to 1; `alpha` from 0 to 1, `gamma` from 1 to 16. Of `gamma = 1` there is a kink at `p = t`.
///
/// **Numerics.** `p - t` as `p (1 - t) - t (1 - p)`, which for labels of 0 and 1 cancels nothing.
///
/// ```
/// use tokenloss_core::label::{Class, LabelObjective, QualityFocal};
/// let eval = QualityFocal::new(0.25, 2.0)?.of_class(&Class::sigmoid(0.0f64), 0.75);
/// assert!((eval.value - 0.25 * 0.0625 * 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Li et al. 2020 (arXiv 2006.04388), which has no `alpha`: this at .5 is half of it. Stable-DINO (arXiv 2304.04742)
/// is this with `alpha = .25`, `gamma = 2` and a label of probability and overlap, which the caller makes and holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QualityFocal {
    pub(crate) alpha: f32,
    pub(crate) gamma: f32,
}

impl LabelObjective for QualityFocal {
    fn link(&self) -> ClassLink {
        ClassLink::Sigmoid
    }

    fn domain(&self) -> [f32; 2] {
        [0.0, 1.0]
    }

    #[inline(always)]
    fn of_class<N: Number>(&self, class: &Class<N>, label: N) -> EntryEval<N> {
        let Class { p, log_p, rest, log_rest } = *class;
        let (one, left) = (p.like(1.0), p.like(1.0) - label);
        let share = (-label).pick(p.like(self.alpha), one - p.like(self.alpha));
        let off = p * left - label * rest;
        let far = off.larger(-off);
        // 1 - |p - t|
        let near = off.pick(left + p, rest + label);
        let less_one = damp(far, ln(far, near), self.gamma - 1.0);
        let nll = EntryEval { value: -log_p, pull: p };
        let nll = either(label, nll, EntryEval { value: -log_rest, pull: p }).value;
        let inner = p * rest * nll * p.like(self.gamma);
        let value = share * (less_one * far * nll);
        EntryEval { value, pull: share * less_one * (far * off + off.pick(-inner, inner)) }
    }

    fn to_kink<T: Float>(&self, class: &Class<T>, label: T) -> T {
        (class.logit() - (label / (T::one() - label)).ln()).abs()
    }
}
