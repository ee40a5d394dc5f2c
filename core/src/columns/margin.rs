use super::{ColumnEval, ColumnObjective, ColumnRow, Side, SideKind, cast};
use num_traits::Float;

/// Margin ranking: the first listed column is to lead every other by a margin.
///
/// ```text
/// L = mean_{i > 1} max(0, margin - (z_1 - z_i))
/// d_i = [z_1 - z_i < margin] / (k - 1)        d_1 = -sum_{i > 1} d_i        d_rest = 0
/// ```
///
/// Nothing is O(vocab). Kinks where a lead is the margin.
///
/// **Domain.** `margin` from 0 to 1000; at least two columns. A masked negative is led by any margin; infinite where the
/// first is masked.
///
/// **Numerics.** A difference of two logits.
///
/// ```
/// use tokenloss_core::columns::{ColumnObjective, ColumnRow, Margin, Side};
/// let row = ColumnRow { logits: &[2.0f64, 1.5, 0.0], rest: 0.0 };
/// let mut d = [0.0; 3];
/// let eval = Margin::new(1.0)?.of_columns(row, Side::nothing(), &mut d);
/// assert_eq!((eval.loss, d), (0.25, [-0.5, 0.5, 0.0]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Collobert et al. 2011 (arXiv 1103.0398), the ranking criterion with its margin of 1, which sums over all
/// words; the mean makes rows of different length alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    pub(crate) margin: f32,
}

impl ColumnObjective for Margin {
    const SIDE: SideKind = SideKind::Nothing;
    const LEAST: usize = 2;
    const NEEDS_REST: bool = false;

    fn of_columns<T: Float>(&self, row: ColumnRow<'_, T>, _: Side<'_, T>, d: &mut [T]) -> ColumnEval<T> {
        let (margin, first) = (cast::<T>(self.margin), row.class(0));
        let negatives = row.logits.len() - 1;
        let each = T::one() / T::from(negatives).unwrap_or_else(T::nan);
        let (mut loss, mut active) = (T::zero(), T::zero());
        for (d, &z) in d.iter_mut().zip(row.logits).skip(1) {
            let short = if z == T::neg_infinity() { z } else { margin - (first - z) };
            *d = if short > T::zero() { each } else { T::zero() };
            loss = loss + short.max(T::zero()) * each;
            active = active + *d;
        }
        d[0] = -active;
        ColumnEval { loss, d_rest: T::zero() }
    }

    fn to_kink<T: Float>(&self, row: ColumnRow<'_, T>) -> T {
        let margin = cast::<T>(self.margin);
        row.logits.iter().skip(1).fold(T::infinity(), |least, &z| {
            let away = (margin - (row.class(0) - z)).abs();
            least.min(away)
        })
    }
}
