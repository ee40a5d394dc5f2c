use super::{Divergence, Entry, EntryEval};
use crate::Number;

/// Skew reverse Kullback-Leibler divergence: the student from a mixture of both rows.
///
/// ```text
/// m = alpha p + (1 - alpha) q        D = KL(p || m)
/// T dD/dz_j = pull_j - p_j sum_k pull_k,
/// pull_j = p_j (log(p_j / m_j) + alpha (1 - alpha) (q_j - p_j) / m_j)
/// ```
///
/// **Domain.** `alpha` from 0.001 to 0.9; at 0 it would be [`ReverseKl`](struct@super::ReverseKl). Always finite, at most
/// `ln(1 / alpha)`, whatever is masked.
///
/// **Numerics.** A class counts as `p_j log(p_j / m_j) + m_j - p_j`, at least 0 each; see
/// [`JensenShannon`](struct@super::JensenShannon) for the mixture. Where the
/// rows are nearly the same, the terms of a class cancel to `(1 - alpha)^2` of their size.
///
/// ```
/// use tokenloss_core::divergence::{Divergence, Entry, SkewReverseKl};
/// let (p, q) = (0.2f64, 0.5f64);
/// let m = (p + q) / 2.0;
/// let eval = SkewReverseKl::new(0.5)?.of_entry(&Entry::new(q.ln(), p.ln() - q.ln()));
/// assert!((eval.value - (p * (p / m).ln() + m - p)).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** DistiLLM (arXiv 2402.03898), which trains with `alpha = 0.1`. Its code leaves out every
/// class that either row masks; here a mask is a probability of 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SkewReverseKl {
    pub(crate) alpha: f32,
}

impl Divergence for SkewReverseKl {
    #[inline(always)]
    fn of_entry<N: Number>(&self, entry: &Entry<N>) -> EntryEval<N> {
        let ratio = &entry.ratio;
        let student = entry.one().like(self.alpha);
        let teacher = entry.one() - student;
        let mixture = entry.mixture(student, teacher);
        let (x, gap, ln) = (mixture.less_one, mixture.ln_gap, mixture.ln());
        let p_is_less = ratio.gap_at_x + ratio.exp * gap - x * ratio.exp_m1;
        let slope = student * teacher * ratio.exp_m1 / mixture.share;
        EntryEval {
            value: entry.greater * entry.pick(p_is_less, gap),
            pull: entry.greater * entry.pick(ratio.x_exp - ratio.exp * (ln + slope), slope - ln),
        }
    }
}
