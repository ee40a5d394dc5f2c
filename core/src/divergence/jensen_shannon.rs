use super::{Divergence, Entry, EntryEval};
use crate::Number;

/// Generalised Jensen-Shannon divergence: both rows against their mixture.
///
/// ```text
/// m = beta q + (1 - beta) p
/// D = beta KL(q || m) + (1 - beta) KL(p || m)
/// T dD/dz_j = (1 - beta) p_j (log(p_j / m_j) - KL(p || m))
/// ```
///
/// **Domain.** `beta`, the teacher's weight, from 0.01 to 0.99; 0.5 is the Jensen-Shannon divergence, from 0 to ln 2. Always
/// finite: at most the entropy of the weights, whatever is masked. As `beta` tends to 0, `D / beta` tends to the forward
/// divergence `KL(q || p)`, and as it tends to 1, `D / (1 - beta)` to the reverse one.
///
/// **Numerics.** With the ratio `e^a` of the lesser probability to the greater and the weight `w` of the lesser's row, the
/// mixture is `1 + x` of the greater, `x = w (e^a - 1)`, and a class counts as
/// `w (1 - e^a + a e^a) - x^2 + (1 + x)(x - ln(1 + x))` of it: terms of the second order each. What they cancel is a factor of
/// `1 / (1 - w)`, so that a relative error of 1e-6 is 1e-4 at the ends of the domain where the rows are nearly the same.
///
/// ```
/// use tokenloss_core::divergence::{Divergence, Entry, JensenShannon};
/// let (p, q) = (0.2f64, 0.5f64);
/// let m = (p + q) / 2.0;
/// let eval = JensenShannon::new(0.5)?.of_entry(&Entry::new(q.ln(), p.ln() - q.ln()));
/// assert!((eval.value - (q * (q / m).ln() + p * (p / m).ln()) / 2.0).abs() < 1e-15);
/// assert!((eval.pull - p * (p / m).ln() / 2.0).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** GKD (arXiv 2306.13649), `JSD(beta)`, with its convention that `beta` weighs the teacher. TRL's and Liger's
/// code is this inside the domain, and at `beta` 0 and 1 changes over to the forward and the reverse divergence, which are
/// objectives of their own here. The square-root and unweighted forms of other texts differ by constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JensenShannon {
    pub(crate) beta: f32,
}

impl Divergence for JensenShannon {
    #[inline(always)]
    fn of_entry<N: Number>(&self, entry: &Entry<N>) -> EntryEval<N> {
        let ratio = &entry.ratio;
        let teacher = entry.one().like(self.beta);
        let student = entry.one() - teacher;
        let mixture = entry.mixture(student, teacher);
        let (x, ln) = (mixture.less_one, mixture.ln());
        EntryEval {
            value: entry.greater * (mixture.less * ratio.gap_at_x - x * x + mixture.share * mixture.ln_gap),
            pull: student * entry.greater * entry.pick(ratio.x_exp - ratio.exp * ln, -ln),
        }
    }
}
