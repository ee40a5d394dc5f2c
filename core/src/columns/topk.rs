use super::{ColumnEval, ColumnObjective, ColumnRow, Side, SideKind};
use crate::divergence::{Divergence, Entry, EntrySums};
use num_traits::Float;

/// Distillation from a teacher's top k: any [`Divergence`] of both rows' k + 1 classes, of which the last is the rest, lumped.
///
/// ```text
/// L = sum_i value(p_i, q_i) + value(p_rest, q_rest)
/// d_i = pull_i - p_i sum_l pull_l        d_rest likewise
/// ```
///
/// With all columns listed it is the divergence of the whole rows, with fewer a lower bound of it. Of columns
/// [`alone`](super::Columns::alone), `p` and `q` are renormalised over the list. Without a teacher's rest, `q` is renormalised
/// and `p` is not: forward divergences then pull the student off all other columns.
///
/// **Side inputs.** The teacher's logits in the listed columns and the log-sum-exp of its others; or its log-probabilities and
/// the log of what they leave ([`rest_of_log_p`](super::rest_of_log_p)). `q` is their softmax, so both say the same.
///
/// **Domain.** The divergence's, at temperature 1. Reverse ones need a teacher that covers the row, in the rest, too: give
/// `rest_of_log_p` a least mass, or list columns alone. A row for which it is infinite is an
/// [`Error::Support`](crate::Error::Support).
///
/// **Numerics.** The divergence's. The likeliest class's derivative is formed from the others'.
///
/// ```
/// use tokenloss_core::columns::{ColumnObjective, ColumnRow, Side, Topk};
/// use tokenloss_core::divergence::ForwardKl;
///
/// let row = ColumnRow { logits: &[1.0f64, 0.0], rest: 0.5 };
/// let same = Side { columns: &[-1.0, -2.0], row: -1.5 };
/// let mut d = [1.0; 2];
/// let eval = Topk(ForwardKl::new()?).of_columns(row, same, &mut d);
/// assert!(eval.loss < 1e-30 && d[0].abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Hinton et al. 2015 (arXiv 1503.02531), truncated as trainers that keep a teacher's top k do. Common code
/// clamps or drops the rest; here it is a class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Topk<D>(pub D);

impl<D: Divergence> ColumnObjective for Topk<D> {
    const SIDE: SideKind = SideKind::Teacher;

    fn of_columns<T: Float>(&self, row: ColumnRow<'_, T>, side: Side<'_, T>, d: &mut [T]) -> ColumnEval<T> {
        let teacher = side.as_row();
        let (p, q) = (row.stats(), teacher.stats());
        let (log_p, log_q) = (p.tail.ln_1p(), q.tail.ln_1p());
        let entry = |class: usize| {
            let (z, u) = (row.class(class) - p.max, teacher.class(class) - q.max);
            Entry::new((z - log_p).max(u - log_q), (z - u) - (log_p - log_q))
        };
        let mut sums = EntrySums { value: T::zero(), pull: T::zero() };
        for class in 0..=row.logits.len() {
            let eval = self.0.of_entry(&entry(class));
            sums = sums.merge(EntrySums { value: eval.value, pull: eval.pull });
        }
        let d_rest = row.balanced(&p, d, |class, _| {
            let entry = entry(class);
            self.0.of_entry(&entry).pull - entry.p() * sums.pull
        });
        ColumnEval { loss: sums.value, d_rest }
    }
}
