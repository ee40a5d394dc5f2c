use super::{Divergence, Entry, EntryEval};
use crate::Number;

/// Forward Kullback-Leibler divergence, of the teacher from the student: the student covers all that the teacher does.
///
/// ```text
/// D = KL(q || p) = sum_j q_j (log q_j - log p_j)        T dD/dz_j = p_j - q_j
/// ```
///
/// **Domain.** At least 0, 0 where the rows are the same. Classes that the teacher masks (`q_j = 0`) add nothing; where the
/// student masks a class that the teacher does not, it is infinite, and the row is an
/// [`Error::Support`](crate::Error::Support).
///
/// **Numerics.** A class counts as `q_j log(q_j / p_j) + p_j - q_j`, at least 0 each and without cancellation where the rows
/// are nearly the same; the terms that are added sum up to 0. The pull is the difference itself. The pulls of all
/// classes add up to 0; what is measured of their sum all the same is what the normalisers are off by, and it is taken off like
/// any other divergence's: so the gradient is good to a unit in the last place of `f32` also between rows that differ by 1e-5.
///
/// ```
/// use tokenloss_core::divergence::{Divergence, Entry, ForwardKl};
/// let (p, q) = (0.2f64, 0.5f64);
/// let eval = ForwardKl::new()?.of_entry(&Entry::new(q.ln(), p.ln() - q.ln()));
/// assert!((eval.value - (q * (q / p).ln() + p - q)).abs() < 1e-15 && (eval.pull - (p - q)).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Hinton et al. 2015 (arXiv 1503.02531), there as the cross entropy, which differs by the teacher's entropy;
/// PyTorch's `kl_div(log p, q)` is this. As an anchor: ASFT (arXiv 2509.23753).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ForwardKl {}

impl Divergence for ForwardKl {
    #[inline(always)]
    fn of_entry<N: Number>(&self, entry: &Entry<N>) -> EntryEval<N> {
        EntryEval { value: entry.teacher_gap(), pull: entry.difference() }
    }
}
