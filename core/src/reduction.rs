//! From rows to one number.

use crate::{Batch, Error};

/// What the sum over rows is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Denominator {
    /// Rows that are not ignored.
    #[default]
    Valid,
    /// Rows that are not ignored and that the objective's threshold keeps: the mean that the code of the
    /// paper takes. The count is known only after all rows are judged, so this costs a second sweep.
    Kept,
    /// The caller's number: for gradient accumulation over micro-batches and machines, where only the caller
    /// knows the count of the whole step.
    Given(f64),
}

/// How row losses become one loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reduction {
    /// Their weighted sum.
    Sum,
    /// Their weighted sum, divided by a denominator. Weights do not enter the denominator; for a weighted
    /// mean give their sum.
    Mean(Denominator),
}

impl Default for Reduction {
    fn default() -> Self {
        Self::Mean(Denominator::Valid)
    }
}

impl Reduction {
    /// Checks a given denominator.
    ///
    /// # Errors
    /// [`Error::Denominator`] if it is not a positive finite number.
    pub fn check(self) -> Result<Self, Error> {
        match self {
            Self::Mean(Denominator::Given(denominator))
                if !(denominator > 0.0 && denominator.is_finite()) =>
            {
                Err(Error::Denominator { denominator })
            }
            _ => Ok(self),
        }
    }

    /// The number that the sum is divided by, given the rows that are valid and those that are kept.
    pub fn denominator(self, valid: usize, kept: usize) -> f64 {
        match self {
            Self::Sum => 1.0,
            Self::Mean(Denominator::Valid) => valid as f64,
            Self::Mean(Denominator::Kept) => kept as f64,
            Self::Mean(Denominator::Given(denominator)) => denominator,
        }
    }

    /// The inverse of the [`denominator`](Reduction::denominator), by which gradients are multiplied; 0 where that
    /// is 0, so that a batch whose rows are all ignored has gradient 0 and not NaN.
    pub fn scale(self, valid: usize, kept: usize) -> f64 {
        let denominator = self.denominator(valid, kept);
        if denominator == 0.0 { 0.0 } else { 1.0 / denominator }
    }

    /// Whether the denominator is known only after all rows are judged.
    pub fn needs_kept(self) -> bool {
        self == Self::Mean(Denominator::Kept)
    }
}

/// What a batch amounts to. Holds all that is needed to renormalise, or to add micro-batches up.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// The weighted sum of the rows' losses.
    pub loss_sum: f64,
    /// The sum of the weights of the valid rows.
    pub weight_sum: f64,
    /// Rows that are not ignored.
    pub valid: usize,
    /// Valid rows that the objective's threshold keeps.
    pub kept: usize,
    /// Ignored rows.
    pub ignored: usize,
    /// Rows with a gradient: neither ignored nor dropped, and of a partial that an `f32` can hold. All others are
    /// left out of what a gradient costs where that can be done.
    pub live: usize,
    /// What the gradient was divided by.
    pub denominator: f64,
}

/// What [`Totals`] are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowVerdict {
    /// The objective's value, before weight and reduction; 0 where the row is ignored.
    pub loss: f64,
    /// Whether the objective kept the row.
    pub kept: bool,
    /// Whether the row's partials, times its weight, are live.
    pub live: bool,
}

impl Totals {
    /// From the verdict on each row, in row order, so that the sum does not depend on who computed the rows.
    pub fn of_rows(
        batch: &Batch<'_>,
        reduction: Reduction,
        rows: impl IntoIterator<Item = RowVerdict>,
    ) -> Self {
        let mut totals = Self::default();
        for (row, verdict) in rows.into_iter().enumerate() {
            if batch.target(row).is_none() {
                totals.ignored += 1;
                continue;
            }
            totals.add(f64::from(batch.weight(row)), verdict);
        }
        totals.denominator = reduction.denominator(totals.valid, totals.kept);
        totals
    }

    /// One row that is not ignored.
    pub(crate) fn add(&mut self, weight: f64, RowVerdict { loss, kept, live }: RowVerdict) {
        self.valid += 1;
        self.kept += usize::from(kept);
        self.live += usize::from(live);
        self.weight_sum += weight;
        if weight != 0.0 {
            self.loss_sum += weight * loss;
        }
    }

    /// The loss, `loss_sum / denominator`; 0 where the denominator is 0, so that a batch whose rows are all
    /// ignored has loss 0 and not NaN.
    pub fn loss(&self) -> f64 {
        if self.denominator == 0.0 { 0.0 } else { self.loss_sum / self.denominator }
    }
}
