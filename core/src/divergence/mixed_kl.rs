use super::{Divergence, Entry, EntryEval, ForwardKl, ReverseKl};
use crate::Number;

/// A mixture of both Kullback-Leibler divergences.
///
/// ```text
/// D = mix KL(q || p) + (1 - mix) KL(p || q)
/// ```
///
/// At `mix = 0.5` this is half of Jeffreys' divergence, `(1/2) sum_j (p_j - q_j) log(p_j / q_j)`.
///
/// **Domain.** `mix` from 0, which is [`ReverseKl`](struct@ReverseKl), to 1, which is [`ForwardKl`](struct@ForwardKl). Infinite,
/// and an [`Error::Support`](crate::Error::Support), where one row masks a class that the other does not and the part that
/// notices has a weight.
///
/// **Numerics.** Those of the two parts.
///
/// ```
/// use tokenloss_core::divergence::{Divergence, Entry, MixedKl};
/// let (p, q) = (0.2f64, 0.5f64);
/// let eval = MixedKl::new(0.5)?.of_entry(&Entry::new(q.ln(), p.ln() - q.ln()));
/// assert!((eval.value - 0.5 * (p - q) * (p / q).ln()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Wu et al. (arXiv 2404.02657), adaptive Kullback-Leibler divergence, which sets the mixture row by row from how
/// far apart the two heads and the two tails lie; here it is the caller's constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixedKl {
    pub(crate) mix: f32,
}

impl Divergence for MixedKl {
    #[inline(always)]
    fn of_entry<N: Number>(&self, entry: &Entry<N>) -> EntryEval<N> {
        let (forward, reverse) = (ForwardKl {}.of_entry(entry), ReverseKl {}.of_entry(entry));
        // A part without weight must not bring in its infinities.
        if self.mix == 0.0 {
            return reverse;
        }
        if self.mix == 1.0 {
            return forward;
        }
        let mix = entry.greater.like(self.mix);
        let rest = entry.one() - mix;
        EntryEval {
            value: mix * forward.value + rest * reverse.value,
            pull: mix * forward.pull + rest * reverse.pull,
        }
    }
}
