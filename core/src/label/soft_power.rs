use super::{Class, ClassLink, EntryEval, LabelObjective};
use crate::Number;

/// The power family with soft targets.
///
/// ```text
/// L = sum_j t_j (1 - p_j^alpha) / alpha        pull_j = -t_j p_j^alpha
/// ```
///
/// [`Power`](crate::Power) of each class, times its label: with one label of 1 it is `Power` itself. `alpha` tends to
/// [`SoftTargets`](super::SoftTargets) at 0, and is the expected accuracy at 1.
///
/// **Domain.** Any finite labels; `alpha` from 0.001 to 16. Always finite: a masked class costs `t / alpha`.
///
/// **Numerics.** `1 - p^alpha` comes from `exp_m1`.
///
/// ```
/// use tokenloss_core::label::{Class, LabelObjective, SoftPower};
/// let eval = SoftPower::new(2.0)?.of_class(&Class::softmax(0.25f64.ln()), 0.5);
/// assert!((eval.value - 0.5 * (1.0 - 0.0625) / 2.0).abs() < 1e-15 && (eval.pull + 0.5 * 0.0625).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** "Beyond Log Likelihood" (arXiv 2510.00526) and generalised cross-entropy (arXiv 1805.07836) have it of one
/// target; its sum over soft ones is this crate's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftPower {
    pub(crate) alpha: f32,
}

impl LabelObjective for SoftPower {
    fn link(&self) -> ClassLink {
        ClassLink::Softmax
    }

    #[inline(always)]
    fn of_class<N: Number>(&self, class: &Class<N>, label: N) -> EntryEval<N> {
        let power = (label.like(self.alpha) * class.log_p).exp_and_gaps();
        EntryEval { value: -(label * power.exp_m1) / label.like(self.alpha), pull: -(label * power.exp) }
    }
}
