use super::{cast, power};
use crate::{Detail, RowEval, RowObjective, RowPartials, RowSummary, TokenEval};
use num_traits::Float;

/// The power family with an exponent that each row sets by its own p and the batch by its mean p. No gradient flows
/// through the exponent.
///
/// ```text
/// a0 = mean_p / 2        alpha = sg(clamp(a0 + (1 - a0) p / (2 - p), 0.001, 1))
/// L = (1 - p^alpha) / alpha        slope = -p^alpha
/// ```
///
/// `mean_p` is the mean probability of the targets of the current batch, which the caller knows from the last one
/// ([`Diagnostics::mean_p`](crate::Diagnostics::mean_p)) or from a forward pass.
///
/// **Domain.** `mean_p` from 0 to 1.
///
/// **Numerics.** `p / (2 - p)` is `p / (1 + (1 - p))`: nothing cancels.
///
/// ```
/// use tokenloss_core::{Cayley, RowObjective, reference};
/// let row = reference::summarise(&[0.0f64, 0.0], 0)?;
/// // alpha = 1/4 + 3/4 * 1/3 = 1/2
/// let loss = Cayley::new(0.5)?.of_row(&row).loss;
/// assert!((loss - 2.0 * (1.0 - 0.5f64.sqrt())).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** arXiv 2602.11424, `Cayley_Trans` in its code, which takes the mean over each micro-batch and divides by
/// `alpha + 1e-8`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cayley {
    pub(crate) mean_p: f32,
}

impl Cayley {
    fn alpha<T: Float>(&self, row: &RowSummary<T>) -> T {
        let floor = cast::<T>(self.mean_p) / (T::one() + T::one());
        let own = row.target.p() / (T::one() + row.target.one_minus_p);
        (floor + (T::one() - floor) * own).max(cast(0.001)).min(T::one())
    }
}

impl RowObjective for Cayley {
    #[inline]
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        let TokenEval { loss, slope, kept } = power(self.alpha(row), row.target.log_p);
        RowEval { loss, partials: RowPartials::of_slope(slope), kept }
    }

    #[inline]
    fn held_row<T: Float>(&self, frozen: &RowSummary<T>, live: &RowSummary<T>) -> T {
        power(self.alpha(frozen), live.target.log_p).loss
    }

    fn detail(&self) -> Detail {
        Detail::Target
    }
}
