use super::cast;
use crate::{RowEval, RowObjective, RowPartials, RowSummary};
use num_traits::Float;

/// nll weighted by the row's entropy, as a share of the greatest possible one. No gradient flows through the weight.
///
/// ```text
/// w = sg((H / log count)^alpha)        L = -w log p        slope = -w
/// ```
///
/// Rows on which the model is sure, right or wrong, lose weight.
///
/// **Domain.** `alpha` from 0, which is nll, to 8. A row with one class that has mass has weight 0, unless `alpha = 0`.
///
/// ```
/// use tokenloss_core::{EntropyGated, RowObjective, reference};
/// let row = reference::summarise(&[0.0f64, 0.0], 0)?;
/// assert!((EntropyGated::new(1.0)?.of_row(&row).loss - 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** EAFT (arXiv 2601.02151), in the form that takes the entropy of the whole vocabulary. The paper's own
/// looks at the 20 greatest logits only; that weight is a row weight, from `top_k`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EntropyGated {
    pub(crate) alpha: f32,
}

impl EntropyGated {
    fn weight<T: Float>(&self, row: &RowSummary<T>) -> T {
        let (entropy, most) = (row.stats.entropy(), row.stats.counted().ln());
        let share = if most == T::zero() { T::zero() } else { entropy / most };
        share.powf(cast(self.alpha))
    }
}

impl RowObjective for EntropyGated {
    #[inline]
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        let slope = -self.weight(row);
        RowEval { loss: self.held_row(row, row), partials: RowPartials::of_slope(slope), kept: true }
    }

    #[inline]
    fn held_row<T: Float>(&self, frozen: &RowSummary<T>, live: &RowSummary<T>) -> T {
        let weight = self.weight(frozen);
        if weight == T::zero() { T::zero() } else { -weight * live.target.log_p }
    }
}
