use super::{Divergence, Entry, EntryEval};
use crate::Number;

/// Reverse Kullback-Leibler divergence, of the student from the teacher: the student keeps to what the teacher does.
///
/// ```text
/// D = KL(p || q) = sum_j p_j (log p_j - log q_j)        T dD/dz_j = p_j (log(p_j / q_j) - D)
/// ```
///
/// **Domain.** At least 0, 0 where the rows are the same. Classes that the student masks (`p_j = 0`) add nothing; where the
/// teacher masks a class that the student does not, it is infinite, and the row is an
/// [`Error::Support`](crate::Error::Support).
///
/// **Numerics.** A class counts as `p_j log(p_j / q_j) + q_j - p_j`, at least 0 each and without cancellation where the rows
/// are nearly the same; the terms that are added sum up to 0.
///
/// ```
/// use tokenloss_core::divergence::{Divergence, Entry, ReverseKl};
/// let (p, q) = (0.2f64, 0.5f64);
/// let eval = ReverseKl::new()?.of_entry(&Entry::new(q.ln(), p.ln() - q.ln()));
/// assert!((eval.value - (p * (p / q).ln() + q - p)).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** MiniLLM (arXiv 2306.08543), whose estimator samples tokens from the student; this is the sum over all classes
/// of one position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReverseKl {}

impl Divergence for ReverseKl {
    #[inline(always)]
    fn of_entry<N: Number>(&self, entry: &Entry<N>) -> EntryEval<N> {
        EntryEval { value: entry.student_gap(), pull: entry.p_log_ratio() }
    }
}
