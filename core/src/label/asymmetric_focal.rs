use super::{Class, ClassLink, EntryEval, LabelObjective, damp, either, ln};
use crate::Number;
use crate::objective::cast;
use num_traits::Float;

/// Asymmetric loss: classes that are off are damped by a power of their own, and not counted at all once they are easy.
///
/// ```text
/// L = -sum_j t_j sg((1 - p_j)^gamma_pos) log p_j + (1 - t_j) sg(m_j^gamma_neg) log(1 - m_j)
/// m_j = max(p_j - margin, 0)        p_j = 1 / (1 + exp -z_j)
/// dL/dz_j = -t_j (1 - p_j)^(gamma_pos + 1) + (1 - t_j) m_j^gamma_neg p_j (1 - p_j) / (1 - m_j)    [m_j > 0]
/// ```
///
/// The powers are held: they weigh a class, and have no gradient. A prior of each class is its class weight.
///
/// **Domain.** Labels from 0 to 1; the powers from 0 to 16, `margin` from 0 to .5. A kink at `p_j = margin`.
///
/// **Numerics.** Without a margin no probability is taken off anything; with one, `p - margin` is what it is.
///
/// ```
/// use tokenloss_core::label::{AsymmetricFocal, Class, LabelObjective};
/// let eval = AsymmetricFocal::new(0.0, 2.0, 0.25)?.of_class(&Class::sigmoid(0.0f64), 0.0);
/// assert!((eval.value + 0.0625 * 0.75f64.ln()).abs() < 1e-15);
/// assert!((eval.pull - 0.0625 * 0.25 / 0.75).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Ridnik et al. 2021 (arXiv 2009.14119), whose code holds the powers by default and clamps probabilities at 1e-8; of
/// labels between 0 and 1 it takes one power of mixed probability. COMIC (arXiv 2304.10539) weighs classes by priors and adds that
/// weight to `gamma_neg`, which is not offered here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AsymmetricFocal {
    pub(crate) gamma_pos: f32,
    pub(crate) gamma_neg: f32,
    pub(crate) margin: f32,
}

/// What the margin leaves of a class that is off.
struct Left<N> {
    m: N,
    ln_m: N,
    /// `1 - m` and its logarithm.
    rest: N,
    ln_rest: N,
}

impl AsymmetricFocal {
    #[inline(always)]
    fn left<N: Number>(&self, class: &Class<N>) -> Left<N> {
        if self.margin == 0.0 {
            return Left { m: class.p, ln_m: class.log_p, rest: class.rest, ln_rest: class.log_rest };
        }
        let m = (class.p - class.p.like(self.margin)).larger(class.p.like(0.0));
        // min(1 - p + margin, 1)
        let rest = -(-(class.rest + class.p.like(self.margin))).larger(class.p.like(-1.0));
        Left { m, ln_m: ln(m, rest), rest, ln_rest: ln(rest, m) }
    }
}

impl LabelObjective for AsymmetricFocal {
    fn link(&self) -> ClassLink {
        ClassLink::Sigmoid
    }

    fn domain(&self) -> [f32; 2] {
        [0.0, 1.0]
    }

    #[inline(always)]
    fn of_class<N: Number>(&self, class: &Class<N>, label: N) -> EntryEval<N> {
        let of_on = damp(class.rest, class.log_rest, self.gamma_pos);
        let on = EntryEval { value: of_on.gate(-(of_on * class.log_p)), pull: -(of_on * class.rest) };
        let Left { m, ln_m, rest, ln_rest } = self.left(class);
        let of_off = m.gate(damp(m, ln_m, self.gamma_neg));
        // Without a margin `(1 - p) / (1 - m)` is 1, also where both are 0.
        let inner = if self.margin == 0.0 { class.p } else { class.p * class.rest / rest };
        either(label, on, EntryEval { value: of_off.gate(-(of_off * ln_rest)), pull: of_off * inner })
    }

    fn held<N: Number>(&self, frozen: &Class<N>, live: &Class<N>, label: N) -> N {
        let of_on = damp(frozen.rest, frozen.log_rest, self.gamma_pos);
        let Left { m, ln_m, .. } = self.left(frozen);
        let of_off = m.gate(damp(m, ln_m, self.gamma_neg));
        let ln_rest = self.left(live).ln_rest;
        -(label * of_on * live.log_p + (label.like(1.0) - label) * of_off * ln_rest)
    }

    fn to_kink<T: Float>(&self, class: &Class<T>, _: T) -> T {
        let margin = cast::<T>(self.margin);
        (class.logit() - (margin / (T::one() - margin)).ln()).abs()
    }
}
