//! Objectives of a few listed columns of each row, where the list is not the target alone: teachers of which only the
//! top k are known, sets of candidates, negatives, levels.
//!
//! With the columns of a row listed, all others are known by one number, their log-sum-exp. So the row is one of k + 1
//! classes, the last of which is the rest, and the loss is a function of k + 1 logits:
//!
//! ```text
//! L = f(z_1 .. z_k, r)            r = log sum_{j not listed} exp z_j
//! dL/dz_j = d_j                   for the listed columns
//! dL/dz_j = d_rest exp(z_j - r)   for all others
//! ```
//!
//! Judging it takes O(k). The moves over the vocabulary are those of every other objective, of a row whose listed columns
//! are masked: `take` reads the listed logits and leaves masks, a backend summarises and pushes back what is left, and
//! `put` writes the listed entries into the gradient. Nothing is taken off a sum, so that the rest's mass is exact where
//! the listed columns hold all but 1e-30 of it, and so is the gradient.
//!
//! Whoever wants the listed columns among themselves ([`Columns::alone`]) needs no move over the vocabulary at all.
//!
//! ```
//! use tokenloss_core::columns::{ColumnObjective, ColumnRow, Side, SubsetMass};
//!
//! // Either of two columns is right, with logits 2 and 1; two others have 0 and 1.
//! let row = ColumnRow { logits: &[2.0f64, 1.0], rest: 1f64.exp().ln_1p() };
//! let mut d = [0.0; 2];
//! let eval = SubsetMass.of_columns(row, Side::nothing(), &mut d);
//! let odds = (1.0 + 1f64.exp()) / (2f64.exp() + 1f64.exp());
//! assert!((eval.loss - odds.ln_1p()).abs() < 1e-15);
//! assert!((d[0] + d[1] + eval.d_rest).abs() < 1e-15);
//! ```
//!
//! A temperature is the batch's [map](crate::LogitMap), a scale of `1 / T`: listed logits and the rest are then those of
//! the mapped row, and `T^2` is a weight of its rows.

#[cfg(feature = "alloc")]
mod evaluate;
mod judge;
mod list;
mod moves;
mod row;
mod topk;

#[cfg(feature = "alloc")]
pub use evaluate::{ColumnBackend, ColumnPartials};
pub use expected_value::Moments;
pub use judge::{ColumnLoss, Judgement, Sides};
pub use list::Columns;
pub use moves::{gather, gather_linear, put, put_linear, take};
pub use row::{ColumnEval, ColumnRow, Side};
pub use topk::Topk;

use crate::Error;
use crate::objective::cast;
use num_traits::Float;

/// What an objective is told beside the logits: a number for each listed column, and one for the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideKind {
    /// Nothing.
    Nothing,
    /// Coefficients of the listed columns, finite; for the row that of the rest, 0 without.
    Coefficients,
    /// A teacher's logits, or log-probabilities, in the listed columns, finite or -infinity; for the row the
    /// log-sum-exp of all its others, -infinity without.
    Teacher,
    /// Values of the listed columns, finite; for the row the value aimed at.
    Values,
}

/// A function of a row's listed columns and of its rest.
pub trait ColumnObjective {
    /// What it is told beside the logits.
    const SIDE: SideKind;

    /// The fewest columns that it is defined for.
    const LEAST: usize = 1;

    /// Whether the rest is looked at. Where nobody does, no backend is asked for it.
    const NEEDS_REST: bool = true;

    /// The loss, and its derivatives in both parts: `d [columns]`, overwritten, by the listed logits, and that by the
    /// rest's log-sum-exp.
    ///
    /// Some class of the row must have mass, and none may be NaN or +infinity.
    fn of_columns<T: Float>(&self, row: ColumnRow<'_, T>, side: Side<'_, T>, d: &mut [T]) -> ColumnEval<T>;

    /// The loss at `live` with every stop-gradient factor held at `frozen`; `scratch [columns]`.
    fn held<T: Float>(
        &self,
        frozen: ColumnRow<'_, T>,
        live: ColumnRow<'_, T>,
        side: Side<'_, T>,
        scratch: &mut [T],
    ) -> T {
        let _ = frozen;
        self.of_columns(live, side, scratch).loss
    }

    /// The distance, in logits, to the nearest point where the loss is not smooth.
    fn to_kink<T: Float>(&self, row: ColumnRow<'_, T>) -> T {
        let _ = row;
        T::infinity()
    }
}

macro_rules! declare_columns {
    ($($tokens:tt)*) => { listed! { "column" $($tokens)* } };
}
for_each_objective!(columns, declare_columns);

macro_rules! declare_column_weights {
    ($($tokens:tt)*) => { listed! { "column_weight" $($tokens)* } };
}
for_each_objective!(column_weights, declare_column_weights);

/// The log-mass that log-probabilities of distinct classes leave, `log(1 - sum exp log_p)`: a teacher's rest, where its
/// top k are all that was kept. At least `least`, the log-mass that rounding may have eaten.
///
/// This is a difference. Where the classes hold nearly all the mass the rest's relative error is that of the given numbers over
/// the rest: of log-probabilities kept in f32, a rest below 1e-6 is noise. Keep the teacher's own rest instead where it
/// can be had.
///
/// # Errors
/// [`Error::Input`] for a log-probability that is NaN or above 0, or, with the sum, if they are more than 1e-3 above 1.
///
/// ```
/// let log_p = [0.5f64.ln(), 0.25f64.ln()];
/// let rest = tokenloss_core::columns::rest_of_log_p(&log_p, f64::NEG_INFINITY)?;
/// assert!((rest - 0.25f64.ln()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
pub fn rest_of_log_p(log_p: &[f64], least: f64) -> Result<f64, Error> {
    const WHAT: &str = "log_p";
    let mut sum = 0.0;
    for (index, &log_p) in log_p.iter().enumerate() {
        // Rounding may have lifted a 0.
        if log_p.is_nan() || log_p > 1e-3 {
            return Err(Error::Input { what: WHAT, index, value: log_p, expected: "at most 0" });
        }
        sum += Float::exp(log_p);
    }
    if sum > 1.0 + 1e-3 {
        let index = log_p.len();
        return Err(Error::Input { what: "log_p, summed up", index, value: sum, expected: "at most 1" });
    }
    Ok(Float::max(Float::ln_1p(-Float::min(sum, 1.0)), least))
}
