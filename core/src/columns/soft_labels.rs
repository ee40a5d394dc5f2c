use super::{ColumnEval, ColumnObjective, ColumnRow, Side, SideKind};
use num_traits::Float;

/// Cross-entropy with sparse soft labels, whose coefficients need not sum to 1.
///
/// ```text
/// L = -sum_i c_i log p_i - c_rest log p_rest
/// d_i = C p_i - c_i        d_rest = C p_rest - c_rest        C = sum_i c_i + c_rest
/// ```
///
/// One column with coefficient 1 is nll; a probability for each of a few levels is the soft-label loss of a rated token, over
/// the whole row or, of columns [`alone`](super::Columns::alone), over the levels.
///
/// **Side inputs.** The coefficients, finite; for the row the rest's, 0 without.
///
/// **Domain.** Any logits. Negative coefficients are allowed; the loss is then not bounded below. Infinite where a masked
/// column has a coefficient.
///
/// **Numerics.** The likeliest class's derivative is formed from the others', so that a confident row with its label keeps its
/// gradient.
///
/// ```
/// use tokenloss_core::columns::{ColumnObjective, ColumnRow, Side, SoftLabels};
/// let row = ColumnRow { logits: &[0.0f64, 0.0], rest: 2f64.ln() };
/// let side = Side { columns: &[0.5, 0.25], row: 0.0 };
/// let mut d = [0.0; 2];
/// let eval = SoftLabels.of_columns(row, side, &mut d);
/// assert!((eval.loss - 0.75 * 4f64.ln()).abs() < 1e-15);
/// assert!((d[0] - (0.75 * 0.25 - 0.5)).abs() < 1e-15);
/// ```
///
/// **Source.** Soft targets: Szegedy et al. 2016 (arXiv 1512.00567). Levels of a rating: You et al. 2025 (DeQA-Score, arXiv
/// 2501.11561), whose code takes the divergence over the whole row, which differs by the labels' entropy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftLabels {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const SoftLabels: SoftLabels = SoftLabels {};

impl ColumnObjective for SoftLabels {
    const SIDE: SideKind = SideKind::Coefficients;

    fn of_columns<T: Float>(&self, row: ColumnRow<'_, T>, side: Side<'_, T>, d: &mut [T]) -> ColumnEval<T> {
        let labels = side.as_row();
        let p = row.stats();
        let (mut loss, mut sum) = (T::zero(), T::zero());
        for (z, c) in row.classes().zip(labels.classes()) {
            sum = sum + c;
            if c != T::zero() {
                loss = loss - c * p.target(z).log_p;
            }
        }
        let d_rest = row.balanced(&p, d, |class, z| sum * p.target(z).p() - labels.class(class));
        ColumnEval { loss, d_rest }
    }
}
