use super::cast;
use crate::{Detail, RowEval, RowObjective, RowPartials, RowSummary};
use num_traits::Float;

/// The entropy as a penalty (`lambda > 0`, entropy minimisation) or as a bonus (`lambda < 0`). A term to add to another
/// objective: `nll + entropy:lambda=-0.1` is the confidence penalty.
///
/// ```text
/// L = lambda H        dL/dz_j = -lambda p_j (log p_j + H)
/// ```
///
/// The target is not looked at, but a row must have one to take part.
///
/// **Domain.** `lambda` from -16 to 16.
///
/// ```
/// use tokenloss_core::{Entropy, RowObjective, reference};
/// let row = reference::summarise(&[0.0f64; 4], 0)?;
/// assert!((Entropy::new(-1.0)?.of_row(&row).loss + 4f64.ln()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Pereyra et al. 2017 (arXiv 1701.06548) for the confidence penalty; Grandvalet and Bengio 2004 for
/// entropy minimisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entropy {
    pub(crate) lambda: f32,
}

impl RowObjective for Entropy {
    #[inline]
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        let lambda = cast::<T>(self.lambda);
        RowEval {
            loss: lambda * row.stats.entropy(),
            partials: RowPartials { d_entropy: lambda, ..RowPartials::zero() },
            kept: true,
        }
    }

    fn detail(&self) -> Detail {
        Detail::Entropy
    }
}
