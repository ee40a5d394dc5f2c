use super::judge::is_live;
use super::{ColumnLoss, ColumnObjective, Columns, Judgement, gather, gather_linear, put, put_linear, take};
use crate::{
    Backend, Batch, Element, Error, Linear, LinearBackend, LinearGradients, LinearOptions, Logits, NonFinite,
    RowPart, RowPartials, RowStats, RowSummary, Totals, check_length, check_whole,
};
use alloc::{vec, vec::Vec};
use num_traits::Float;

/// What is pushed back of rows with listed columns, times weight and scale.
#[derive(Debug, Clone, Copy)]
pub struct ColumnPartials<'a> {
    /// The listed columns.
    pub columns: &'a Columns<'a>,
    /// `[rows]`, by the log-sum-exp of the rest.
    pub d_rests: &'a [f64],
    /// `[entries]`, by the listed logits.
    pub d_gathered: &'a [f64],
}

impl ColumnPartials<'_> {
    /// Checks the columns and both lengths.
    ///
    /// # Errors
    /// Those of [`Columns::check`]; [`Error::Length`].
    pub fn check(&self, batch: &Batch<'_>) -> Result<(), Error> {
        self.columns.check(batch)?;
        check_length("d_rests", self.columns.rows(), self.d_rests.len())?;
        check_length("d_gathered", self.columns.entries(), self.d_gathered.len())
    }

    /// Whether a row has any derivative that a normal `f32` can hold. NaN is.
    pub fn is_live(&self, row: usize) -> bool {
        is_live(self.d_rests[row], &self.d_gathered[self.columns.range(row)])
    }

    /// `sum_j |dL/dz_j|`
    pub fn norm(&self, row: usize) -> f64 {
        let listed = self.d_gathered[self.columns.range(row)].iter();
        listed.fold(Float::abs(self.d_rests[row]), |sum, &d| sum + Float::abs(d))
    }
}

/// The moves of a linear form whose rows have listed columns: they are masked as soon as a tile of logits is computed, and
/// their derivatives written as soon as it has become its own gradient. Beside that, the greatest columns of each row.
pub trait ColumnBackend: LinearBackend {
    /// As [`parts_linear`](LinearBackend::parts_linear), of all columns but each row's listed ones.
    ///
    /// # Errors
    /// Those of `parts_linear`, and of [`Columns::check`].
    fn rests_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        columns: &Columns<'_>,
        parts: &mut [RowPart],
    ) -> Result<(), Self::Error>;

    /// As [`push_back_linear`](LinearBackend::push_back_linear), from summaries of the rests: a column that is not listed gets
    /// its row's `d_rests [rows]` times its share of the rest, a listed one its own of `d_gathered [entries]`.
    ///
    /// # Errors
    /// Those of `push_back_linear`, and of [`Columns::check`].
    fn push_back_columns_linear<E: Element, G: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        rests: &[RowSummary<f64>],
        partials: ColumnPartials<'_>,
        gradients: LinearGradients<'_, G>,
    ) -> Result<usize, Self::Error>;

    /// The `k` greatest logits of each row and their columns, greatest first, the first of equals first: `ids [rows, k]`, as
    /// [`Columns::new`] takes them, and `top [rows, k]`. Where fewer than `k` columns are not masked, and in ignored rows,
    /// [`IGNORE_INDEX`](crate::IGNORE_INDEX) and -infinity follow.
    ///
    /// # Errors
    /// [`Error::TooFew`] for a `k` of 0; [`Error::Length`] for any slice; [`Error::NonFinite`] as the batch asks, after all
    /// other rows are done, the bad row's `top` being NaN; the backend's own.
    fn top_k<E: Element>(
        &self,
        batch: &Batch<'_>,
        logits: &[E],
        k: usize,
        ids: &mut [i32],
        top: &mut [f32],
    ) -> Result<(), Self::Error>;

    /// The same, of logits that are never held.
    ///
    /// # Errors
    /// Those of [`top_k`](Self::top_k); [`Error::Columns`] for a shard; [`Error::Budget`]; those of
    /// [`LinearOptions::check`].
    fn top_k_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        k: usize,
        ids: &mut [i32],
        top: &mut [f32],
    ) -> Result<(), Self::Error>;
}

impl<O: ColumnObjective> ColumnLoss<'_, O> {
    /// Losses `[rows]`, totals and the gradient of logits, whatever the backend: see the [moves](super). Out of place, the
    /// logits are copied first; read only, some rows at a time are.
    ///
    /// Losses are before weight and reduction; 0 for ignored rows.
    ///
    /// # Errors
    /// Those of [`judge`](Self::judge); [`Error::Length`] for `logits` or `losses`; [`Error::NonFinite`] and
    /// [`Error::NoMass`] as the batch asks, after all other rows are done; the backend's own.
    pub fn evaluate<B: Backend, E: Element>(
        &self,
        backend: &B,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        losses: Option<&mut [f32]>,
    ) -> Result<Totals, B::Error> {
        logits.check(batch.shape())?;
        let mut call = Call::new(self, batch, &losses)?;
        match logits {
            Logits::Read(logits) => {
                gather(batch, self.columns, logits, &mut call.gathered)?;
                if self.needs_rest() {
                    call.rests_of_copies(backend, logits)?;
                }
                Ok(call.finish(losses)?)
            }
            Logits::OutOfPlace { logits, dlogits } => {
                let (stride, vocab) = (batch.shape().stride(), batch.shape().vocab());
                for (from, into) in logits.chunks(stride).zip(dlogits.chunks_mut(stride)) {
                    into[..vocab].copy_from_slice(&from[..vocab]);
                }
                call.in_place(backend, dlogits, losses)
            }
            Logits::InPlace(logits) => call.in_place(backend, logits, losses),
        }
    }

    /// The same from hidden states and a head. The logits of rows with a gradient are computed twice; where the rest is not
    /// looked at, none but the listed ones are computed at all, and tolerances of [`LinearOptions`] are not needed.
    ///
    /// # Errors
    /// [`Error::Columns`] for a shard; those of [`judge`](Self::judge); [`Error::Length`] for any slice; [`Error::Budget`];
    /// those of [`LinearOptions::check`]; [`Error::NonFinite`] and [`Error::NoMass`] as the batch asks, after all other rows
    /// are done; the backend's own.
    pub fn evaluate_linear<B: ColumnBackend, E: Element, G: Element>(
        &self,
        backend: &B,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        gradients: LinearGradients<'_, G>,
        losses: Option<&mut [f32]>,
    ) -> Result<Totals, B::Error> {
        check_whole(linear)?;
        options.check()?;
        gradients.check(linear)?;
        let columns = self.columns;
        let mut call = Call::new(self, linear.batch(), &losses)?;
        gather_linear(linear, columns, &mut call.gathered)?;
        if self.needs_rest() {
            let mut parts = vec![RowPart::empty(); linear.rows()];
            backend.rests_linear(linear, options, columns, &mut parts)?;
            call.rests_of_parts(&parts);
        }
        let mut totals = call.finish(losses);
        if !call.is_judged(&totals) || !gradients.any() {
            return Ok(totals?);
        }
        if self.needs_rest() {
            call.fill_empty_rests();
            let Call { d_rests, d_gathered, .. } = &call;
            let partials = ColumnPartials { columns, d_rests, d_gathered };
            let live = backend.push_back_columns_linear(linear, options, &call.rests, partials, gradients)?;
            if let Ok(totals) = &mut totals {
                totals.live = live;
            }
        } else {
            put_linear(linear, columns, &call.d_gathered, gradients)?;
        }
        Ok(totals?)
    }
}

/// What a call knows of its rows.
struct Call<'a, O> {
    loss: &'a ColumnLoss<'a, O>,
    batch: &'a Batch<'a>,
    /// The listed logits, and what the batch's map makes of them.
    gathered: Vec<f64>,
    mapped: Vec<f64>,
    /// NaN where there is none, which is no fault by itself.
    rests: Vec<RowSummary<f64>>,
    faults: Vec<Option<Error>>,
    d_rests: Vec<f64>,
    d_gathered: Vec<f64>,
}

impl<'a, O: ColumnObjective> Call<'a, O> {
    fn new(
        loss: &'a ColumnLoss<'a, O>,
        batch: &'a Batch<'a>,
        losses: &Option<&mut [f32]>,
    ) -> Result<Self, Error> {
        loss.check(batch)?;
        let (rows, entries) = (loss.columns.rows(), loss.columns.entries());
        if let Some(losses) = losses {
            check_length("losses", rows, losses.len())?;
        }
        Ok(Self {
            loss,
            batch,
            gathered: vec![0.0; entries],
            mapped: vec![],
            rests: vec![RowSummary::nan(); rows],
            faults: vec![None; rows],
            d_rests: vec![0.0; rows],
            d_gathered: vec![0.0; entries],
        })
    }

    /// All moves on logits that become their own gradient. With an error before there is any, they are as they were.
    fn in_place<B: Backend, E: Element>(
        &mut self,
        backend: &B,
        logits: &mut [E],
        losses: Option<&mut [f32]>,
    ) -> Result<Totals, B::Error> {
        let (batch, columns) = (self.batch, self.loss.columns);
        if self.loss.needs_rest() {
            take(batch, columns, logits, &mut self.gathered)?;
            let nan_rows = batch.with_non_finite(NonFinite::NanRow);
            if let Err(error) = backend.summarise(&nan_rows, logits, &mut self.rests) {
                put(batch, columns, logits, &self.gathered)?;
                return Err(error);
            }
            self.look_for_faults(0, logits);
        } else {
            gather(batch, columns, logits, &mut self.gathered)?;
        }
        let totals = self.finish(losses);
        if !self.is_judged(&totals) {
            put(batch, columns, logits, &self.gathered)?;
        } else {
            if self.loss.needs_rest() {
                self.fill_empty_rests();
                let of_rest = |&d_lse: &f64| RowPartials { d_lse, ..RowPartials::default() };
                let partials: Vec<_> = self.d_rests.iter().map(of_rest).collect();
                backend.push_back(batch, Logits::InPlace(logits), &self.rests, &partials)?;
            } else {
                let shape = batch.shape();
                for (row, dlogits) in logits.chunks_mut(shape.stride()).enumerate() {
                    let is_bad = self.d_rests[row].is_nan();
                    dlogits[..shape.vocab()].fill(E::from_f32(if is_bad { f32::NAN } else { 0.0 }));
                }
            }
            put(batch, columns, logits, &self.d_gathered)?;
        }
        Ok(totals?)
    }

    /// Whether derivatives are there, of all rows or of all but bad ones.
    fn is_judged(&self, totals: &Result<Totals, Error>) -> bool {
        matches!(totals, Ok(_) | Err(Error::NonFinite { .. } | Error::NoMass { .. } | Error::Support { .. }))
    }

    /// Masks and summarises copies of some rows at a time.
    fn rests_of_copies<B: Backend, E: Element>(&mut self, backend: &B, logits: &[E]) -> Result<(), B::Error> {
        /// Elements of a copy.
        const COPY: usize = 4 << 20;
        let shape = self.batch.shape();
        let (stride, rows) = (shape.stride(), (COPY / shape.stride()).clamp(1, shape.rows()));
        let mut copy = Vec::with_capacity(rows * stride);
        for (index, logits) in logits.chunks(rows * stride).enumerate() {
            let first = index * rows;
            copy.clear();
            copy.extend_from_slice(logits);
            let of_copy = self.batch.rows(first..first + logits.len() / stride);
            let of_copy = of_copy.with_non_finite(NonFinite::NanRow);
            for at in (0..of_copy.shape().rows()).filter(|&at| of_copy.target(at).is_some()) {
                for (column, _) in self.loss.columns.places(first + at) {
                    copy[at * stride + column] = E::from_f32(f32::NEG_INFINITY);
                }
            }
            let rests = &mut self.rests[first..first + of_copy.shape().rows()];
            backend.summarise(&of_copy, &copy, rests)?;
            self.look_for_faults(first, &copy);
        }
        Ok(())
    }

    /// Tells rows that hold a NaN or a +infinity from those that hold nothing but masks; of the rows from `first` on.
    fn look_for_faults<E: Element>(&mut self, first: usize, logits: &[E]) {
        let (stride, vocab) = (self.batch.shape().stride(), self.batch.shape().vocab());
        for (row, logits) in logits.chunks(stride).enumerate().map(|(at, logits)| (first + at, logits)) {
            if self.batch.target(row).is_some() && !self.rests[row].stats.is_valid() {
                // A scale may make a number infinite, too.
                let bad = |(column, z): (usize, &E)| {
                    let z = mapped(self.batch, row, column, f64::from(z.to_f32()));
                    z.is_nan() || z > f64::from(f32::MAX)
                };
                let column = logits[..vocab].iter().enumerate().position(bad);
                let fault = |column: usize| Error::NonFinite { row, column, value: logits[column].to_f32() };
                self.faults[row] = column.map(fault);
            }
        }
    }

    fn rests_of_parts(&mut self, parts: &[RowPart]) {
        for (row, part) in parts.iter().enumerate().filter(|(row, _)| self.batch.target(*row).is_some()) {
            if let Some((column, value)) = part.fault {
                self.faults[row] = Some(Error::NonFinite { row, column: column as usize, value });
            } else if part.stats.is_valid() {
                // A target that is listed is masked, and what it gets is its own.
                self.rests[row] = RowSummary::new(part.stats, part.target_logit.unwrap_or(f64::NEG_INFINITY));
            }
        }
    }

    /// Rows whose columns are all listed have nothing to push back: a summary that says so.
    fn fill_empty_rests(&mut self) {
        let nothing = RowStats::of(0.0, 0);
        for (row, rest) in self.rests.iter_mut().enumerate() {
            let is_bad = self.d_rests[row].is_nan();
            if !rest.stats.is_valid() && self.batch.target(row).is_some() && !is_bad {
                *rest = RowSummary::new(nothing, f64::NEG_INFINITY);
                self.d_rests[row] = 0.0;
            }
        }
    }

    /// Judges all rows, with what is wrong with the first bad one if the batch asks.
    fn finish(&mut self, losses: Option<&mut [f32]>) -> Result<Totals, Error> {
        let (batch, columns) = (self.batch, self.loss.columns);
        self.mapped.clone_from(&self.gathered);
        for row in 0..columns.rows() {
            for (column, place) in columns.places(row) {
                self.mapped[place] = mapped(batch, row, column, self.gathered[place]);
            }
        }
        let mut lse: Vec<_> = vec![f64::NEG_INFINITY; columns.rows()];
        for (row, lse) in lse.iter_mut().enumerate().filter(|(row, _)| batch.target(*row).is_some()) {
            let own = self.listed_fault(row);
            self.faults[row] = match (self.faults[row], own) {
                (Some(a), Some(b)) => Some(if column_of(&b) < column_of(&a) { b } else { a }),
                (a, b) => a.or(b),
            };
            let rest = &self.rests[row].stats;
            if self.faults[row].is_some() {
                *lse = f64::NAN;
            } else if rest.is_valid() {
                *lse = rest.lse();
            } else if self.mapped[columns.range(row)].iter().all(|&z| z == f64::NEG_INFINITY) {
                self.faults[row] = Some(Error::NoMass { row, vocab: batch.shape().vocab() });
                *lse = f64::NAN;
            }
        }
        let mut of_rows = vec![0.0; columns.rows()];
        let into =
            Judgement { losses: &mut of_rows, d_rests: &mut self.d_rests, d_gathered: &mut self.d_gathered };
        let totals = self.loss.judge(batch, &self.mapped, &lse, into);
        self.of_raw_logits();
        for (rest, _) in self.rests.iter_mut().zip(&self.d_rests).filter(|(_, d)| d.is_nan()) {
            *rest = RowSummary::nan();
        }
        if let Some(losses) = losses {
            losses.iter_mut().zip(&of_rows).for_each(|(into, loss)| *into = *loss as f32);
        }
        let fault = self.faults.iter().flatten().next().filter(|_| batch.non_finite() == NonFinite::Error);
        match (totals, fault) {
            (Err(own @ Error::Support { row, .. }), Some(_))
                if self.faults[..row].iter().all(Option::is_none) =>
            {
                Err(own)
            }
            (Ok(_) | Err(Error::Support { .. }), Some(&fault)) => Err(fault),
            (totals, _) => totals,
        }
    }

    /// Derivatives by mapped logits become those by the logits themselves.
    fn of_raw_logits(&mut self) {
        for row in 0..self.loss.columns.rows() {
            let Some(map) = self.batch.row_map(row) else { return };
            for (column, place) in self.loss.columns.places(row) {
                let derivative = if map.allows(column) { map.derivative(self.gathered[place]) } else { 0.0 };
                self.d_gathered[place] *= derivative;
            }
        }
    }

    /// The first listed column of a row with a NaN or a +infinity.
    fn listed_fault(&self, row: usize) -> Option<Error> {
        let faults = self.loss.columns.places(row).filter_map(|(column, place)| {
            let value = self.gathered[place];
            let is_bad = value.is_nan() || self.mapped[place] == f64::INFINITY;
            is_bad.then_some(Error::NonFinite { row, column, value: value as f32 })
        });
        faults.min_by_key(column_of)
    }
}

/// What the batch takes a logit for.
fn mapped(batch: &Batch<'_>, row: usize, column: usize, logit: f64) -> f64 {
    match (batch.row_map(row), batch.target(row)) {
        (Some(map), Some(target)) => map.of(logit, column, target),
        _ => logit,
    }
}

fn column_of(fault: &Error) -> usize {
    match fault {
        Error::NonFinite { column, .. } => *column,
        _ => usize::MAX,
    }
}
