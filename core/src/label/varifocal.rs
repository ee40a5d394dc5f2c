use super::binary_focal::focal;
use super::{Class, ClassLink, EntryEval, LabelObjective, either};
use crate::Number;

/// Varifocal loss: what is on is weighed by its quality, what is off is damped where it is easy.
///
/// ```text
/// L = sum_j t_j B_j [t_j > 0] + alpha F(1 - p_j) [t_j = 0]
/// B = -t log p - (1 - t) log(1 - p)        F(p) = -(1 - p)^gamma log p        p = 1 / (1 + exp -z)
/// dL/dz_j = t_j (p_j - t_j) or alpha p_j^gamma (p_j - gamma (1 - p_j) log(1 - p_j))
/// ```
///
/// **Domain.** Labels from 0 to 1; `alpha` from 0 to 1, `gamma` from 0 to 16.
///
/// ```
/// use tokenloss_core::label::{Class, LabelObjective, Varifocal};
/// let eval = Varifocal::new(0.75, 2.0)?.of_class(&Class::sigmoid(0.0f64), 0.75);
/// assert!((eval.value - 0.75 * 2f64.ln()).abs() < 1e-15 && (eval.pull + 0.75 * 0.25).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Zhang et al. 2021 (arXiv 2008.13367); mmdetection's `varifocal_loss` is this.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Varifocal {
    pub(crate) alpha: f32,
    pub(crate) gamma: f32,
}

impl LabelObjective for Varifocal {
    fn link(&self) -> ClassLink {
        ClassLink::Sigmoid
    }

    fn domain(&self) -> [f32; 2] {
        [0.0, 1.0]
    }

    #[inline(always)]
    fn of_class<N: Number>(&self, class: &Class<N>, label: N) -> EntryEval<N> {
        let on = EntryEval { value: -class.log_p, pull: -class.rest };
        let nll = either(label, on, EntryEval { value: -class.log_rest, pull: class.p });
        let off = focal(&class.turned(), self.gamma);
        let alpha = label.like(self.alpha);
        EntryEval {
            value: (-label).pick(label * nll.value, alpha * off.value),
            pull: (-label).pick(label * nll.pull, -(alpha * off.pull)),
        }
    }
}
