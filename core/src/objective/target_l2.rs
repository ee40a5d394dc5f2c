use super::cast;
use crate::{Detail, RowEval, RowObjective, RowPartials, RowSummary};
use num_traits::Float;

/// Holds the target's logit near `gamma`. A term to add to another objective.
///
/// ```text
/// L = lambda (z_t - gamma)^2        dL/dz_j = 2 lambda (z_t - gamma) [j = t]
/// ```
///
/// **Domain.** `lambda` from 0 to 16, `gamma` from -1000 to 1000. A masked target has an infinite loss.
///
/// **Numerics.** The logit is `log p + lse`, which rounds as the log-sum-exp does.
///
/// ```
/// use tokenloss_core::{RowObjective, TargetL2, reference};
/// let row = reference::summarise(&[3.0f64, 4.0], 0)?;
/// assert!((TargetL2::new(1.0, 1.0)?.of_row(&row).loss - 4.0).abs() < 1e-14);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Pezeshki et al. 2020 (arXiv 2011.09468), the variant with a centre for each class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetL2 {
    pub(crate) lambda: f32,
    pub(crate) gamma: f32,
}

impl RowObjective for TargetL2 {
    #[inline]
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        // A masked target is infinitely far off, and 0 times that is not 0.
        if self.lambda == 0.0 {
            return RowEval { loss: T::zero(), partials: RowPartials::zero(), kept: true };
        }
        let off = (row.target.log_p + row.stats.lse()) - cast::<T>(self.gamma);
        let pull = cast::<T>(self.lambda) * off;
        RowEval {
            loss: pull * off,
            partials: RowPartials { d_target: pull + pull, ..RowPartials::zero() },
            kept: true,
        }
    }

    fn detail(&self) -> Detail {
        Detail::Target
    }
}
