use super::{ColumnEval, ColumnObjective, ColumnRow, Side, SideKind};
use num_traits::Float;

/// Cross-entropy of the first listed column among the listed ones.
///
/// ```text
/// L = log sum_i exp z_i - z_1
/// d_i = exp z_i / sum_l exp z_l - [i = 1]        d_rest = 0
/// ```
///
/// The target against sampled negatives, or against the classes of one task: columns that are not listed are neither read nor
/// moved, so that nothing is O(vocab).
///
/// **Domain.** Any logits, of at least two columns. Infinite where the first is masked.
///
/// **Numerics.** That of nll; the likeliest column's derivative is formed from the others'.
///
/// ```
/// use tokenloss_core::columns::{ColumnObjective, ColumnRow, Side, SubsetSoftmax};
/// let row = ColumnRow { logits: &[1.0f64, 1.0], rest: 700.0 };
/// let eval = SubsetSoftmax.of_columns(row, Side::nothing(), &mut [0.0; 2]);
/// assert_eq!((eval.loss, eval.d_rest), (2f64.ln(), 0.0));
/// ```
///
/// **Source.** Li et al. 2020 (arXiv 2011.12216): an energy is a negative logit; their code lists one negative of the current
/// classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubsetSoftmax {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const SubsetSoftmax: SubsetSoftmax = SubsetSoftmax {};

impl ColumnObjective for SubsetSoftmax {
    const SIDE: SideKind = SideKind::Nothing;
    const LEAST: usize = 2;
    const NEEDS_REST: bool = false;

    fn of_columns<T: Float>(&self, row: ColumnRow<'_, T>, _: Side<'_, T>, d: &mut [T]) -> ColumnEval<T> {
        let row = row.alone();
        let p = row.stats();
        let d_rest = row.balanced(
            &p,
            d,
            |class, z| {
                if class == 0 { -p.target(z).one_minus_p } else { p.target(z).p() }
            },
        );
        ColumnEval { loss: -p.target(row.class(0)).log_p, d_rest }
    }
}
