use super::cast;
use crate::{RowEval, RowObjective, RowPartials, RowSummary};
use num_traits::Float;

/// Entropy minimisation on rows that are sure enough to be believed; for adaptation without labels.
///
/// ```text
/// L = H if H < share log count, and the row is dropped otherwise        dL/dz_j = -p_j (log p_j + H)
/// ```
///
/// The target is not looked at, but a row must have one to take part. With
/// [`Denominator::Kept`](crate::Denominator::Kept) the mean is over the rows that are believed.
///
/// **Domain.** `share` from 0, which drops every row, to 1.
///
/// ```
/// use tokenloss_core::{ReliableEntropy, RowObjective, reference};
/// let (flat, sure) = (reference::summarise(&[0.0f64; 4], 0)?, reference::summarise(&[9.0f64, 0.0, 0.0, 0.0], 0)?);
/// let objective = ReliableEntropy::new(0.4)?;
/// assert!(!objective.of_row(&flat).kept && objective.of_row(&sure).kept);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** SAR, Niu et al. 2023 (arXiv 2302.12400), without its second step and its moving average, which are no
/// part of a loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReliableEntropy {
    pub(crate) share: f32,
}

impl RowObjective for ReliableEntropy {
    #[inline]
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        let entropy = row.stats.entropy();
        // NaN is kept, so that a bad row is seen.
        if entropy >= cast::<T>(self.share) * row.stats.counted().ln() {
            return RowEval { loss: T::zero(), partials: RowPartials::zero(), kept: false };
        }
        RowEval {
            loss: entropy,
            partials: RowPartials { d_entropy: T::one(), ..RowPartials::zero() },
            kept: true,
        }
    }
}
