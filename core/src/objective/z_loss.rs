use super::cast;
use crate::{Detail, RowEval, RowObjective, RowPartials, RowSummary};
use num_traits::Float;

/// z-loss: keeps the log-sum-exp near 0. A term to add to another objective.
///
/// ```text
/// L = lambda lse^2        dL/dz_j = 2 lambda lse p_j
/// ```
///
/// **Domain.** `lambda` from 0 to 16.
///
/// ```
/// use tokenloss_core::{RowObjective, ZLoss, reference};
/// let row = reference::summarise(&[0.0f64, 0.0], 0)?;
/// assert!((ZLoss::new(1.0)?.of_row(&row).loss - 2f64.ln().powi(2)).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** PaLM, Chowdhery et al. 2022 (arXiv 2204.02311), with `lambda = 1e-4`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ZLoss {
    pub(crate) lambda: f32,
}

impl RowObjective for ZLoss {
    #[inline]
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        let lse = row.stats.lse();
        let pull = cast::<T>(self.lambda) * lse;
        RowEval {
            loss: pull * lse,
            partials: RowPartials { d_lse: pull + pull, ..RowPartials::zero() },
            kept: true,
        }
    }

    fn detail(&self) -> Detail {
        Detail::Target
    }
}
