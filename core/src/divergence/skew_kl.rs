use super::{Divergence, Entry, EntryEval};
use crate::Number;

/// Skew Kullback-Leibler divergence: the teacher from a mixture of both rows.
///
/// ```text
/// m = alpha q + (1 - alpha) p        D = KL(q || m)
/// T dD/dz_j = pull_j - p_j sum_k pull_k,    pull_j = (1 - alpha)^2 p_j (p_j - q_j) / m_j
/// ```
///
/// **Domain.** `alpha` from 0.001 to 0.9; at 0 it would be [`ForwardKl`](struct@super::ForwardKl). Always finite, at most
/// `ln(1 / alpha)`, whatever is masked.
///
/// **Numerics.** A class counts as `q_j log(q_j / m_j) + m_j - q_j`, at least 0 each; see
/// [`JensenShannon`](struct@super::JensenShannon) for the mixture. Where the
/// rows are nearly the same, the terms of a class cancel to `(1 - alpha)^2` of their size.
///
/// ```
/// use tokenloss_core::divergence::{Divergence, Entry, SkewKl};
/// let (p, q) = (0.2f64, 0.5f64);
/// let m = (p + q) / 2.0;
/// let eval = SkewKl::new(0.5)?.of_entry(&Entry::new(q.ln(), p.ln() - q.ln()));
/// assert!((eval.value - (q * (q / m).ln() + m - q)).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** DistiLLM (arXiv 2402.03898), which trains with `alpha = 0.1`. Its code leaves out the teacher's entropy, which
/// has no gradient, and every class that either row masks; here a mask is a probability of 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SkewKl {
    pub(crate) alpha: f32,
}

impl Divergence for SkewKl {
    #[inline(always)]
    fn of_entry<N: Number>(&self, entry: &Entry<N>) -> EntryEval<N> {
        let ratio = &entry.ratio;
        let teacher = entry.one().like(self.alpha);
        let student = entry.one() - teacher;
        let mixture = entry.mixture(student, teacher);
        let (x, gap) = (mixture.less_one, mixture.ln_gap);
        let q_is_less = ratio.gap_at_x + ratio.exp * gap - x * ratio.exp_m1;
        // p (p - q) / m, both sides of which have the greater once too often.
        let slope = ratio.exp_m1 / mixture.share;
        EntryEval {
            value: entry.greater * entry.pick(gap, q_is_less),
            pull: student * student * entry.greater * entry.pick(ratio.exp * slope, -slope),
        }
    }
}
