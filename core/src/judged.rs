//! The middle move's result for one row.

use crate::{Batch, Error, NonFinite, RowEval, RowObjective, RowPart, RowPartials, RowSummary, RowVerdict};

/// What is known of a row once it is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The row, summarised; NaN for ignored and for bad rows.
    pub summary: RowSummary<f64>,
    /// Times the row's weight, but not by the denominator; NaN for a bad row.
    pub partials: RowPartials<f64>,
    /// The objective's value, before weight and reduction; 0 for an ignored row, NaN for a bad one.
    pub loss: f64,
    /// Whether the objective kept the row.
    pub kept: bool,
}

impl Judged {
    /// A row that takes no part.
    pub fn ignored() -> Self {
        Self { summary: RowSummary::nan(), partials: RowPartials::zero(), loss: 0.0, kept: false }
    }

    /// A row with a summary.
    pub fn of<O: RowObjective>(objective: &O, weight: f32, summary: RowSummary<f64>) -> Self {
        let RowEval { loss, partials, kept } = objective.of_row(&summary);
        Self { summary, partials: partials.scaled(f64::from(weight)), loss, kept }
    }

    /// A row with a NaN or a +infinity in it, or without any mass.
    pub fn bad<O: RowObjective>(objective: &O) -> Self {
        let kept = objective.of_row(&RowSummary::<f64>::nan()).kept;
        Self { summary: RowSummary::nan(), partials: RowPartials::nan(), loss: f64::NAN, kept }
    }

    /// A row that was summarised before: ignored by its target, bad if its statistics are not valid.
    pub fn of_summary<O: RowObjective>(
        objective: &O,
        batch: &Batch<'_>,
        row: usize,
        summary: &RowSummary<f64>,
    ) -> Self {
        match batch.target(row) {
            None => Self::ignored(),
            Some(_) if !summary.stats.is_valid() => Self::bad(objective),
            Some(_) => Self::of(objective, batch.weight(row), *summary),
        }
    }

    /// A row of which all parts are merged, and what is wrong with it if the batch asks.
    pub fn of_part<O: RowObjective>(
        objective: &O,
        batch: &Batch<'_>,
        row: usize,
        part: &RowPart,
    ) -> (Self, Result<(), Error>) {
        if batch.target(row).is_none() {
            return (Self::ignored(), Ok(()));
        }
        match part.summary(row, batch.shape().vocab()) {
            Ok(summary) => (Self::of(objective, batch.weight(row), summary), Ok(())),
            Err(error) if batch.non_finite() == NonFinite::Error => (Self::bad(objective), Err(error)),
            Err(_) => (Self::bad(objective), Ok(())),
        }
    }

    /// What the totals need of it.
    pub fn verdict(&self) -> RowVerdict {
        RowVerdict { loss: self.loss, kept: self.kept, live: self.partials.is_live() }
    }
}
