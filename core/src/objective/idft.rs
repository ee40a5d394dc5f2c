use super::cast;
use crate::{Detail, RowEval, RowObjective, RowPartials, RowSummary};
use num_traits::Float;

/// IDFT: `-p^gamma log p` with an exponent that each row sets by how likely its target is for the model's own samples. No
/// gradient flows through the exponent.
///
/// ```text
/// phi = log p + H        gamma = sg(1 + lambda (clamp(exp(-phi / beta), 0.1, 2) - 1))
/// L = -p^gamma log p        slope = -p^gamma (1 + gamma log p)
/// ```
///
/// `phi` has mean 0 over what the model itself would sample. **The slope is positive where `p < exp(-1 / gamma)`**: there
/// descent pushes the target down. `lambda = 0` is `-p log p`, and not nll.
///
/// **Domain.** `beta` from 0.1 to 16, `lambda` from 0 to 1. At p = 0 value and slope are 0.
///
/// ```
/// use tokenloss_core::{Idft, RowObjective, reference};
/// let row = reference::summarise(&[0.0f64, 0.0], 0)?;
/// // phi = 0, gamma = 1
/// assert!((Idft::new(1.0, 1.0)?.of_row(&row).loss - 0.5 * 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** arXiv 2602.12222, as in the code beside it that raises `lambda` from 0 to 1 between 20 % and 30 % of the
/// steps; that code holds p at 1e-10 or more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Idft {
    pub(crate) beta: f32,
    pub(crate) lambda: f32,
}

impl Idft {
    fn gamma<T: Float>(&self, row: &RowSummary<T>) -> T {
        let phi = row.target.log_p + row.stats.entropy();
        // exp(-phi / beta) may overflow; the clamp comes first.
        let most = cast::<T>(2.0).ln();
        let raw = (-phi / cast(self.beta)).min(most).exp().max(cast(0.1));
        T::one() + cast::<T>(self.lambda) * (raw - T::one())
    }
}

impl RowObjective for Idft {
    #[inline]
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        let (gamma, log_p) = (self.gamma(row), row.target.log_p);
        let power = (gamma * log_p).exp();
        let slope = if power == T::zero() { T::zero() } else { -power * (T::one() + gamma * log_p) };
        RowEval { loss: self.held_row(row, row), partials: RowPartials::of_slope(slope), kept: true }
    }

    #[inline]
    fn held_row<T: Float>(&self, frozen: &RowSummary<T>, live: &RowSummary<T>) -> T {
        let log_p = live.target.log_p;
        let power = (self.gamma(frozen) * log_p).exp();
        if power == T::zero() { T::zero() } else { -power * log_p }
    }

    fn detail(&self) -> Detail {
        Detail::Entropy
    }
}
