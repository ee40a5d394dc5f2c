use super::row::divergence;
use super::{ColumnEval, ColumnObjective, ColumnRow, Side, SideKind};
use num_traits::Float;

/// Distillation from a teacher's top k: the forward divergence, all other columns lumped into one class.
///
/// ```text
/// L = sum_i q_i log(q_i / p_i) + q_rest log(q_rest / p_rest)
/// d_i = p_i - q_i        d_rest = p_rest - q_rest
/// ```
///
/// With all columns listed it is the divergence of the whole rows, with fewer a lower bound of it. Of columns
/// [`alone`](super::Columns::alone), `p` and `q` are renormalised over the list. Without a teacher's rest, `q` is renormalised
/// and `p` is not: the student is pulled off all other columns.
///
/// **Side inputs.** The teacher's logits in the listed columns and the log-sum-exp of its others; or its log-probabilities and
/// the log of what they leave ([`rest_of_log_p`](super::rest_of_log_p)). `q` is their softmax, so both say the same.
///
/// **Domain.** Any logits. Infinite where the teacher has mass and the student none.
///
/// **Numerics.** Summed as `q log(q / p) - q + p`, of which no term is below 0, so that nothing cancels where both agree. The
/// likeliest class's derivative is formed from the others'.
///
/// ```
/// use tokenloss_core::columns::{ColumnObjective, ColumnRow, Side, TopkKl};
/// let row = ColumnRow { logits: &[1.0f64, 0.0], rest: 0.5 };
/// let same = Side { columns: &[-1.0, -2.0], row: -1.5 };
/// let mut d = [1.0; 2];
/// assert!(TopkKl.of_columns(row, same, &mut d).loss < 1e-30 && d[0].abs() < 1e-15);
/// ```
///
/// **Source.** Hinton et al. 2015 (arXiv 1503.02531), at temperature 1, truncated as trainers that keep a teacher's top k
/// do. Common code clamps or drops the rest; here it is a class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopkKl {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const TopkKl: TopkKl = TopkKl {};

impl ColumnObjective for TopkKl {
    const SIDE: SideKind = SideKind::Teacher;

    fn of_columns<T: Float>(&self, row: ColumnRow<'_, T>, side: Side<'_, T>, d: &mut [T]) -> ColumnEval<T> {
        let teacher = side.as_row();
        let (p, q) = (row.stats(), teacher.stats());
        let loss = (row.classes().zip(teacher.classes()))
            .fold(T::zero(), |sum, (z, y)| sum + divergence(q.target(y), p.target(z)));
        let d_rest = row.balanced(&p, d, |class, z| p.target(z).p() - q.target(teacher.class(class)).p());
        ColumnEval { loss, d_rest }
    }
}
