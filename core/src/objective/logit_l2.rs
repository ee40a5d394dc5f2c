use super::cast;
use crate::{RowEval, RowObjective, RowPartials, RowSummary};
use num_traits::Float;

/// Spectral decoupling: the squared norm of the logits. A term to add to another objective.
///
/// ```text
/// L = lambda / 2 sum_j z_j^2        dL/dz_j = lambda z_j
/// ```
///
/// The sum is over the classes that have mass. Unlike most objectives this one changes if all logits are shifted.
///
/// **Domain.** `lambda` from 0 to 16.
///
/// ```
/// use tokenloss_core::{LogitL2, RowObjective, reference};
/// let row = reference::summarise(&[3.0f64, 4.0], 0)?;
/// assert_eq!(LogitL2::new(1.0)?.of_row(&row).loss, 12.5);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Pezeshki et al. 2020 (arXiv 2011.09468). Their code takes the mean of the squares in one experiment;
/// divide `lambda` by the vocabulary for that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitL2 {
    pub(crate) lambda: f32,
}

impl RowObjective for LogitL2 {
    #[inline]
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        let half = cast::<T>(self.lambda) / (T::one() + T::one());
        RowEval {
            loss: half * row.stats.energy,
            partials: RowPartials { d_energy: half, ..RowPartials::zero() },
            kept: true,
        }
    }
}
