use super::{Divergence, Entry, EntryEval};
use crate::Number;

/// Alpha-divergence, between both Kullback-Leibler divergences.
///
/// ```text
/// D = (1 - sum_j p_j^alpha q_j^(1 - alpha)) / (alpha (1 - alpha))
/// T dD/dz_j = pull_j - p_j sum_k pull_k,    pull_j = (p_j - p_j^alpha q_j^(1 - alpha)) / (1 - alpha)
/// ```
///
/// **Domain.** `alpha` from 0.01 to 0.99; 0.5 is `2 sum_j (sqrt p_j - sqrt q_j)^2`, four times the squared Hellinger
/// distance. It tends to [`ForwardKl`](struct@super::ForwardKl) as `alpha` tends to 0 and to
/// [`ReverseKl`](struct@super::ReverseKl) as it tends to 1. Always finite, from 0 to `1 / (alpha (1 - alpha))`, whatever is
/// masked.
///
/// **Numerics.** With the ratio `e^a` of the lesser probability to the greater and the exponent `w` of the lesser, a class
/// counts as `w (e^a - 1 - a) - (e^(w a) - 1 - w a)` of the greater down to `a = -1`: the linear terms are left out of both,
/// so that what cancels is a factor of `1 / (1 - w)`. Below, where nothing cancels, they count as they are.
///
/// ```
/// use tokenloss_core::divergence::{Alpha, Divergence, Entry};
/// let (p, q) = (0.2f64, 0.5f64);
/// let eval = Alpha::new(0.5)?.of_entry(&Entry::new(q.ln(), p.ln() - q.ln()));
/// assert!((eval.value - 2.0 * (p.sqrt() - q.sqrt()).powi(2)).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Amari 1985; for distillation AlphaNet (arXiv 2102.07954), which clips the density ratio and takes the worse of
/// two values of alpha.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alpha {
    pub(crate) alpha: f32,
}

impl Divergence for Alpha {
    #[inline(always)]
    fn of_entry<N: Number>(&self, entry: &Entry<N>) -> EntryEval<N> {
        let (ratio, one) = (&entry.ratio, entry.one());
        let alpha = one.like(self.alpha);
        let rest = one - alpha;
        let less = entry.pick(alpha, rest);
        let power = (less * ratio.x).exp_and_gaps();
        let near = |near, far| (ratio.x + one).pick(far, near);
        let value = near(less * ratio.gap_at_0 - power.gap_at_0, less * ratio.exp_m1 - power.exp_m1);
        let p_is_less = near(ratio.exp_m1 - power.exp_m1, ratio.exp - power.exp);
        EntryEval {
            value: entry.greater * value / (alpha * rest),
            pull: entry.greater * entry.pick(p_is_less, -power.exp_m1) / rest,
        }
    }
}
