use super::row::divergence;
use super::{ColumnEval, ColumnObjective, ColumnRow, Side, SideKind};
use num_traits::Float;

/// Distillation from a teacher's top k: the reverse divergence, all other columns lumped into one class.
///
/// ```text
/// L = sum_i p_i log(p_i / q_i) + p_rest log(p_rest / q_rest)
/// d_i = p_i (log(p_i / q_i) - L)        d_rest = p_rest (log(p_rest / q_rest) - L)
/// ```
///
/// With all columns listed it is the divergence of the whole rows, with fewer a lower bound of it.
///
/// **Side inputs.** As of [`TopkKl`](struct@super::TopkKl); but the teacher must have mass wherever the row has, in the
/// rest, too: give [`rest_of_log_p`](super::rest_of_log_p) a least mass, or list columns [`alone`](super::Columns::alone).
///
/// **Domain.** Any logits, where the teacher covers the row. The derivative grows with the log-ratio.
///
/// **Numerics.** Summed as `p log(p / q) - p + q`, of which no term is below 0. The likeliest class's derivative is formed
/// from the others'.
///
/// ```
/// use tokenloss_core::columns::{ColumnObjective, ColumnRow, Side, TopkReverseKl};
/// // Both columns are alike to the student; the teacher gives them 3 : 1.
/// let row = ColumnRow { logits: &[0.0f64, 0.0], rest: f64::NEG_INFINITY };
/// let side = Side { columns: &[3f64.ln(), 0.0], row: f64::NEG_INFINITY };
/// let eval = TopkReverseKl.of_columns(row, side, &mut [0.0; 2]);
/// assert!((eval.loss - (2.0 / 3f64.sqrt()).ln()).abs() < 1e-15);
/// ```
///
/// **Source.** Gu et al. 2023 (MiniLLM, arXiv 2306.08543), of one token and at temperature 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopkReverseKl {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const TopkReverseKl: TopkReverseKl = TopkReverseKl {};

impl ColumnObjective for TopkReverseKl {
    const SIDE: SideKind = SideKind::CoveringTeacher;

    fn of_columns<T: Float>(&self, row: ColumnRow<'_, T>, side: Side<'_, T>, d: &mut [T]) -> ColumnEval<T> {
        let teacher = side.as_row();
        let (p, q) = (row.stats(), teacher.stats());
        let loss = (row.classes().zip(teacher.classes()))
            .fold(T::zero(), |sum, (z, y)| sum + divergence(p.target(z), q.target(y)));
        let d_rest = row.balanced(&p, d, |class, z| {
            let share = p.target(z).p();
            let log_ratio = p.target(z).log_p - q.target(teacher.class(class)).log_p;
            // A masked class is left alone, and so is one that underflows.
            if share == T::zero() { share } else { share * (log_ratio - loss) }
        });
        ColumnEval { loss, d_rest }
    }
}
