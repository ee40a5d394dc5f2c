use super::{Divergence, Entry, EntryEval};
use crate::Number;

/// Total variation distance: half the sum of what the rows differ by.
///
/// ```text
/// D = (1/2) sum_j |p_j - q_j|
/// T dD/dz_j = pull_j - p_j sum_k pull_k,    pull_j = p_j sign(p_j - q_j) / 2
/// ```
///
/// **Domain.** From 0 to 1, whatever is masked. It has a kink where `p_j = q_j`; the gradient there is that of `sign(0) = 0`.
///
/// **Numerics.** Differences of what is nearly the same are not those of two probabilities.
///
/// ```
/// use tokenloss_core::divergence::{Divergence, Entry, TotalVariation};
/// let (p, q) = (0.2f64, 0.5f64);
/// let eval = TotalVariation::new()?.of_entry(&Entry::new(q.ln(), p.ln() - q.ln()));
/// assert!((eval.value - 0.15).abs() < 1e-15 && (eval.pull + 0.1).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** f-DISTILL (arXiv 2307.15190). Liger's kernel is this for one position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TotalVariation {}

impl Divergence for TotalVariation {
    #[inline(always)]
    fn of_entry<N: Number>(&self, entry: &Entry<N>) -> EntryEval<N> {
        let half = entry.one().like(0.5);
        let (of_difference, of_p) = (half * entry.difference(), half * entry.p());
        let p_is_not_less = (-entry.log_ratio).pick(of_p, half.like(0.0));
        EntryEval { value: entry.pick(-of_difference, of_difference), pull: entry.pick(-of_p, p_is_not_less) }
    }
}
