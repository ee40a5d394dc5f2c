use super::{ColumnEval, ColumnObjective, ColumnRow, Columns, Side, SideKind};
use crate::{Batch, Error, NonFinite, Reduction, RowVerdict, Totals, check_length};

/// What a whole batch's objective is told beside the logits; see [`SideKind`] for what that is. An empty slice says
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sides<'a> {
    /// `[entries]`, of the listed columns.
    pub columns: &'a [f64],
    /// `[rows]`
    pub rows: &'a [f64],
}

impl<'a> Sides<'a> {
    /// Checks them against what the objective asks for, in all rows that take part.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Input`] for the first number that is none; [`Error::TooFew`] for a row with fewer columns
    /// than the objective is defined for.
    pub fn check<O: ColumnObjective>(&self, columns: &Columns<'_>, batch: &Batch<'_>) -> Result<(), Error> {
        let of_columns = if O::SIDE == SideKind::Nothing { 0 } else { columns.entries() };
        check_length("sides.columns", of_columns, self.columns.len())?;
        let of_rows = match O::SIDE {
            SideKind::Nothing => 0,
            SideKind::Values => columns.rows(),
            _ if self.rows.is_empty() => 0,
            _ => columns.rows(),
        };
        check_length("sides.rows", of_rows, self.rows.len())?;
        for row in (0..columns.rows()).filter(|&row| batch.target(row).is_some()) {
            let range = columns.range(row);
            if range.len() < O::LEAST {
                return Err(Error::TooFew {
                    what: "columns",
                    index: row,
                    needed: O::LEAST,
                    got: range.len(),
                });
            }
            let of_columns = self.columns.get(range.clone()).unwrap_or_default().iter().zip(range);
            for (&value, index) in of_columns {
                number("sides.columns", index, value, O::SIDE)?;
            }
            if let Some(&value) = self.rows.get(row) {
                number("sides.rows", row, value, O::SIDE)?;
            }
            let side = self.of_row(O::SIDE, columns, row);
            if O::SIDE == SideKind::Teacher && !side.as_row().stats().is_valid() {
                return Err(Error::TeacherNoMass { row, vocab: batch.shape().vocab() });
            }
        }
        Ok(())
    }

    /// Those of a row.
    fn of_row(&self, kind: SideKind, columns: &Columns<'_>, row: usize) -> Side<'a, f64> {
        let nothing = match kind {
            SideKind::Coefficients => 0.0,
            SideKind::Teacher => f64::NEG_INFINITY,
            SideKind::Nothing | SideKind::Values => f64::NAN,
        };
        // Of columns alone, the rest is left out of what they are compared with, too.
        let of_rest = kind != SideKind::Values;
        let given = self.rows.get(row).filter(|_| !(columns.are_alone() && of_rest));
        Side {
            columns: self.columns.get(columns.range(row)).unwrap_or_default(),
            row: given.copied().unwrap_or(nothing),
        }
    }
}

fn number(what: &'static str, index: usize, value: f64, kind: SideKind) -> Result<(), Error> {
    let is_teacher = kind == SideKind::Teacher;
    if value.is_finite() || (is_teacher && value == f64::NEG_INFINITY) {
        return Ok(());
    }
    let expected = if is_teacher { "a finite number or -inf" } else { "a finite number" };
    Err(Error::Input { what, index, value, expected })
}

/// Where [`ColumnLoss::judge`] writes.
#[derive(Debug)]
pub struct Judgement<'a> {
    /// `[rows]`, before weight and reduction; 0 for ignored rows, NaN for bad ones.
    pub losses: &'a mut [f64],
    /// `[rows]`, by the rest, times weight and scale; 0 for ignored rows, NaN for bad ones.
    pub d_rests: &'a mut [f64],
    /// `[entries]`, by the listed logits, as `d_rests`. Padding is left as it is.
    pub d_gathered: &'a mut [f64],
}

/// An objective, and what it is judged on.
#[derive(Debug)]
pub struct ColumnLoss<'a, O> {
    /// The objective.
    pub objective: &'a O,
    /// Over rows.
    pub reduction: Reduction,
    /// The listed columns of each row.
    pub columns: &'a Columns<'a>,
    /// What it is told beside the logits.
    pub sides: Sides<'a>,
}

impl<O: ColumnObjective> ColumnLoss<'_, O> {
    /// Whether all columns of the vocabulary are looked at.
    pub fn needs_rest(&self) -> bool {
        O::NEEDS_REST && !self.columns.are_alone()
    }

    /// Checks all but the logits.
    ///
    /// # Errors
    /// [`Error::Denominator`]; those of [`Columns::check`] and of [`Sides::check`].
    pub fn check(&self, batch: &Batch<'_>) -> Result<(), Error> {
        self.reduction.check()?;
        self.columns.check(batch)?;
        self.sides.check::<O>(self.columns, batch)
    }

    /// Losses and derivatives of all rows, from the gathered logits `[entries]`, mapped if the batch has a map, and the log-sum-exp of each row's rest
    /// `[rows]`: NaN for a bad row, -infinity where there is no rest or nobody looks at it.
    ///
    /// A row is bad, too, where one of its gathered logits is NaN or +infinity, or where neither they nor the rest have
    /// mass.
    ///
    /// # Errors
    /// Those of [`check`](Self::check); [`Error::Length`] for any slice; [`Error::Support`] as the batch asks, after all
    /// other rows are done, for the first row that is infinitely far from its teacher, and is bad.
    pub fn judge(
        &self,
        batch: &Batch<'_>,
        gathered: &[f64],
        rests: &[f64],
        into: Judgement<'_>,
    ) -> Result<Totals, Error> {
        self.check(batch)?;
        let Self { objective, reduction, columns, sides } = *self;
        let (rows, entries) = (columns.rows(), columns.entries());
        check_length("gathered", entries, gathered.len())?;
        check_length("rests", rows, rests.len())?;
        check_length("losses", rows, into.losses.len())?;
        check_length("d_rests", rows, into.d_rests.len())?;
        check_length("d_gathered", entries, into.d_gathered.len())?;
        let row_of = |row: usize| ColumnRow { logits: &gathered[columns.range(row)], rest: rests[row] };
        // Every row that takes part is kept.
        let scale = reduction.scale(batch.valid(), batch.valid());
        let mut fault = None;
        for row in 0..rows {
            let d = &mut into.d_gathered[columns.range(row)];
            let (loss, d_rest) = (&mut into.losses[row], &mut into.d_rests[row]);
            if batch.target(row).is_none() {
                d.fill(0.0);
                (*loss, *d_rest) = (0.0, 0.0);
                continue;
            }
            let of_row = row_of(row);
            if !of_row.stats().is_valid() {
                d.fill(f64::NAN);
                (*loss, *d_rest) = (f64::NAN, f64::NAN);
                continue;
            }
            let side = sides.of_row(O::SIDE, columns, row);
            let eval = objective.of_columns(of_row, side, d);
            if O::SIDE == SideKind::Teacher && !eval.loss.is_finite() {
                d.fill(f64::NAN);
                (*loss, *d_rest) = (f64::NAN, f64::NAN);
                fault = fault.or(Some(unsupported(objective, row, columns, of_row, side.as_row())));
                continue;
            }
            let weight = f64::from(batch.weight(row)) * scale;
            // A weight of 0 switches a row off even where its derivatives are not finite.
            let scaled = |d: f64| if weight == 0.0 { 0.0 } else { d * weight };
            let ColumnEval { loss: of_eval, d_rest: by_rest } = eval;
            (*loss, *d_rest) = (of_eval, scaled(by_rest));
            d.iter_mut().for_each(|d| *d = scaled(*d));
        }
        let verdict = |row: usize| RowVerdict {
            loss: into.losses[row],
            kept: batch.target(row).is_some(),
            live: is_live(into.d_rests[row], &into.d_gathered[columns.range(row)]),
        };
        let totals = Totals::of_rows(batch, reduction, (0..rows).map(verdict));
        match fault {
            Some(fault) if batch.non_finite() == NonFinite::Error => Err(fault),
            _ => Ok(totals),
        }
    }
}

/// The first class that by itself makes a row infinitely far from its teacher: a listed column, or some column of the rest.
fn unsupported<O: ColumnObjective>(
    objective: &O,
    row: usize,
    columns: &Columns<'_>,
    student: ColumnRow<'_, f64>,
    teacher: ColumnRow<'_, f64>,
) -> Error {
    let is_infinite = |&class: &usize| {
        // Beside a class that both have.
        let beside = ColumnRow { logits: &[student.class(class)], rest: 0.0 };
        let side = Side { columns: &[teacher.class(class)], row: 0.0 };
        !objective.of_columns(beside, side, &mut [0.0]).loss.is_finite()
    };
    let listed = columns.of_row(row);
    let class = (0..listed.len()).find(is_infinite).unwrap_or(listed.len());
    // Of the rest, the first column that is not listed.
    let of_rest = || (0..).find(|id| !listed.contains(id)).unwrap_or_default();
    let column = listed.get(class).copied().unwrap_or_else(of_rest) as usize;
    Error::Support { row, column, student: student.class(class) as f32, teacher: teacher.class(class) as f32 }
}

/// Whether any derivative is one that a normal `f32` can hold. NaN is.
pub(crate) fn is_live(d_rest: f64, d_gathered: &[f64]) -> bool {
    let nothing = |d: &f64| d.abs() < f64::from(f32::MIN_POSITIVE);
    !(nothing(&d_rest) && d_gathered.iter().all(nothing))
}
