use super::row::share;
use super::{ColumnEval, ColumnObjective, ColumnRow, Side, SideKind};
use num_traits::Float;

/// Regression by a token: the expected value of the listed columns, renormalised among themselves, against a value aimed
/// at.
///
/// ```text
/// w_i = exp z_i / sum_l exp z_l        s = sum_i w_i v_i        L = (s - y)^2 / 2
/// d_i = (s - y) w_i (v_i - s)        d_rest = 0
/// ```
///
/// Losses of pairs of scores chain through [`Moments`].
///
/// **Side inputs.** The columns' values, finite; for the row the value aimed at.
///
/// **Domain.** Any logits; at least one listed column has mass.
///
/// **Numerics.** The mean is taken from the likeliest column's value, and that column's derivative is formed from the
/// others'.
///
/// ```
/// use tokenloss_core::columns::{ColumnObjective, ColumnRow, ExpectedValue, Side};
/// let row = ColumnRow { logits: &[0.0f64, 0.0], rest: 9.0 };
/// let mut d = [0.0; 2];
/// let eval = ExpectedValue.of_columns(row, Side { columns: &[5.0, 1.0], row: 4.0 }, &mut d);
/// assert_eq!((eval.loss, d), (0.5, [-1.0, 1.0]));
/// ```
///
/// **Source.** The score of You et al. 2025 (DeQA-Score, arXiv 2501.11561), whose code renormalises over the levels on request
/// and compares pairs of scores; for soft labels of levels see [`SoftLabels`](struct@super::SoftLabels).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedValue {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const ExpectedValue: ExpectedValue = ExpectedValue {};

impl ColumnObjective for ExpectedValue {
    const SIDE: SideKind = SideKind::Values;
    const NEEDS_REST: bool = false;

    fn of_columns<T: Float>(&self, row: ColumnRow<'_, T>, side: Side<'_, T>, d: &mut [T]) -> ColumnEval<T> {
        let moments = Moments::of(row, side.columns);
        let off = moments.mean - side.row;
        moments.push_back(row, side.columns, off, T::zero(), d);
        ColumnEval { loss: off * off / (T::one() + T::one()), d_rest: T::zero() }
    }
}

/// Mean and variance of the values of a row's listed columns, renormalised among themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments<T> {
    /// `sum_i w_i v_i`
    pub mean: T,
    /// `sum_i w_i (v_i - mean)^2`
    pub variance: T,
}

impl<T: Float> Moments<T> {
    /// `values [columns]`.
    pub fn of(row: ColumnRow<'_, T>, values: &[T]) -> Self {
        let p = row.alone().stats();
        let at = values.get(p.argmax as usize).copied().unwrap_or_else(T::nan);
        let sum = |of: &dyn Fn(T) -> T| {
            (row.logits.iter().zip(values)).fold(T::zero(), |sum, (&z, &v)| sum + share(&p, z) * of(v))
        };
        let mean = at + sum(&|v| v - at);
        Self { mean, variance: sum(&|v| (v - mean) * (v - mean)) }
    }

    /// The listed logits' derivatives, of a loss with these by mean and variance: `d [columns]`, overwritten.
    ///
    /// ```text
    /// d_i = w_i (d_mean (v_i - mean) + d_variance ((v_i - mean)^2 - variance))
    /// ```
    pub fn push_back(&self, row: ColumnRow<'_, T>, values: &[T], d_mean: T, d_variance: T, d: &mut [T]) {
        let row = row.alone();
        let p = row.stats();
        row.balanced(&p, d, |class, z| match values.get(class) {
            Some(&v) => {
                let off = v - self.mean;
                share(&p, z) * (d_mean * off + d_variance * (off * off - self.variance))
            }
            None => T::zero(),
        });
    }
}
