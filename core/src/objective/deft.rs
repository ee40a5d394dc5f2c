use super::power;
use crate::{RowEval, RowObjective, RowPartials, RowSummary, TokenEval};
use num_traits::Float;

/// DEFT: the power family with an exponent that each row sets by how concentrated its distribution is. No gradient flows
/// through the exponent.
///
/// ```text
/// alpha = sg(sum_j p_j^2)        L = (1 - p^alpha) / alpha        slope = -p^alpha
/// ```
///
/// A flat row trains by nll, a peaked one by `-p`. `alpha` lies between `1 / count` and 1.
///
/// **Domain.** Every row. A masked target (p = 0) has loss `1 / alpha` and slope 0.
///
/// **Numerics.** As [`Power`](crate::Power): nothing is subtracted from 1.
///
/// ```
/// use tokenloss_core::{Deft, RowObjective, reference};
/// let row = reference::summarise(&[0.0f64, 0.0], 0)?;
/// // alpha = 1/2
/// assert!((Deft.of_row(&row).loss - 2.0 * (1.0 - 0.5f64.sqrt())).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** arXiv 2602.11424. Its code divides by `alpha + 1e-6`, which makes value and gradient smaller by at most
/// 1e-6 times the vocabulary, relatively.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deft {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const Deft: Deft = Deft {};

impl RowObjective for Deft {
    #[inline]
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        let TokenEval { loss, slope, kept } = power(row.stats.sum_p_squared(), row.target.log_p);
        RowEval { loss, partials: RowPartials::of_slope(slope), kept }
    }

    #[inline]
    fn held_row<T: Float>(&self, frozen: &RowSummary<T>, live: &RowSummary<T>) -> T {
        power(frozen.stats.sum_p_squared(), live.target.log_p).loss
    }
}
