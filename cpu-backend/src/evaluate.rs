//! The rows of a batch, in parallel.

use crate::gradient::{Fill, PushBack, Row};
use crate::level::Level;
use crate::link::Mapped;
use crate::row::{SCRATCH, Scratch, Summarise, Wanted};
use crate::rows::each_row;
use crate::simd::Lanes;
use tokenloss_core::{
    AnyLogits, Backend, Batch, Detail, Element, Error, Evaluate, Judged, Logits, NonFinite, Outputs,
    Reduction, RowObjective, RowPartials, RowSummary, Totals, Unjudged, check_length,
};

/// From this many bytes on, an out-of-place gradient is written round the caches: it would not stay in them
/// until somebody reads it.
pub const STREAM_BYTES: usize = 8 << 20;

/// Whether a gradient is written round the caches.
fn streams<L>(batch: &Batch<'_>, logits: &Logits<'_, L>) -> bool {
    let bytes = batch.shape().elements() * size_of::<L>();
    matches!(logits, Logits::OutOfPlace { .. }) && bytes >= STREAM_BYTES
}

/// The backend: rows in parallel on the current rayon pool, SIMD inside a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    level: Level,
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Cpu {
    /// With the best level that this machine has.
    pub fn new() -> Self {
        Self { level: Level::best() }
    }

    /// With a level of the caller's choice.
    pub fn with_level(level: Level) -> Self {
        Self { level }
    }

    /// The level in use.
    pub fn level(&self) -> Level {
        self.level
    }
}

/// The work of one call, in the storage type's own terms.
pub(crate) struct Pass<'a, O> {
    pub(crate) level: Level,
    pub(crate) batch: &'a Batch<'a>,
    pub(crate) objective: &'a O,
    /// What a row's weight is multiplied by.
    pub(crate) scale: f64,
    pub(crate) detail: Detail,
    pub(crate) stream: bool,
}

impl<O: RowObjective + Sync> Pass<'_, O> {
    /// Forward only.
    pub(crate) fn read<L: Lanes>(&self, row: usize, logits: &[L]) -> Result<Judged, Error> {
        let Some(target) = self.batch.target(row) else { return Ok(Judged::ignored()) };
        SCRATCH.with_borrow_mut(|scratch| {
            let wanted = Wanted { detail: self.detail, shares: false };
            Ok(self.judge(row, self.summary(row, logits, target, scratch, wanted)?))
        })
    }

    /// Forward and backward.
    pub(crate) fn write<L: Lanes>(&self, row: usize, io: Row<'_, L>) -> Result<Judged, Error> {
        let Some(target) = self.batch.target(row) else {
            self.fill(io, 0.0);
            return Ok(Judged::ignored());
        };
        SCRATCH.with_borrow_mut(|scratch| {
            let wanted = Wanted { detail: self.detail, shares: true };
            let summary = match self.summary(row, io.logits(), target, scratch, wanted) {
                Ok(summary) => summary,
                Err(error) => {
                    self.fill(io, f32::NAN);
                    return Err(error);
                }
            };
            let judged = self.judge(row, summary);
            let partials = judged.partials.scaled(self.scale);
            if partials.is_live() {
                self.level.run(PushBack {
                    row: io,
                    target: Some(target),
                    summary: &summary,
                    partials,
                    map: self.mapped(row, target),
                    kept: Some(&scratch.kept),
                    stream: self.stream,
                });
            } else {
                self.fill(io, 0.0);
            }
            Ok(judged)
        })
    }

    pub(crate) fn fill<L: Lanes>(&self, row: Row<'_, L>, value: f32) {
        self.level.run(Fill { row, value, stream: self.stream });
    }

    fn summary<L: Lanes>(
        &self,
        row: usize,
        logits: &[L],
        target: usize,
        scratch: &mut Scratch,
        wanted: Wanted,
    ) -> Result<RowSummary<f64>, Error> {
        let map = self.mapped(row, target);
        let stats = self.level.run(Summarise { logits, scratch, wanted, map });
        if stats.is_valid() {
            let logit = if map.is_some() { scratch.mapped_target } else { logits[target].to_f32() };
            return Ok(RowSummary::new(stats, f64::from(logit)));
        }
        // A scale may make a number infinite, too.
        let taken = |column: usize, z: f32| map.map_or(z, |map| map.map.of(z, column, target));
        Err(fault(row, logits, taken))
    }

    fn mapped(&self, row: usize, target: usize) -> Option<Mapped<'_>> {
        Mapped::new(self.batch, row, 0, Some(target))
    }

    fn judge(&self, row: usize, summary: RowSummary<f64>) -> Judged {
        Judged::of(self.objective, self.batch.weight(row), summary)
    }

    /// All rows, in parallel; results in row order.
    fn run<L: Lanes>(&self, logits: &mut Logits<'_, L>) -> Vec<Result<Judged, Error>> {
        each_row(self.batch.shape(), logits, |row, z| self.read(row, z), |row, io| self.write(row, io))
    }
}

/// What is wrong with a row that has no valid statistics, its logits `taken` for what they are or for something else.
pub(crate) fn fault<L: Lanes>(row: usize, logits: &[L], taken: impl Fn(usize, f32) -> f32) -> Error {
    let bad = |(column, z): (usize, &L)| {
        let z = taken(column, z.to_f32());
        z.is_nan() || z == f32::INFINITY
    };
    match logits.iter().enumerate().position(bad) {
        Some(column) => Error::NonFinite { row, column, value: logits[column].to_f32() },
        None => Error::NoMass { row, vocab: logits.len() },
    }
}

/// The rows' results with `bad` for bad rows, and the first bad row's error if the batch asks for it.
pub(crate) fn settle<R: Copy>(
    batch: &Batch<'_>,
    rows: Vec<Result<R, Error>>,
    bad: R,
) -> (Vec<R>, Result<(), Error>) {
    let mut fault = Ok(());
    let settled = rows
        .into_iter()
        .map(|row| {
            row.unwrap_or_else(|error| {
                if fault.is_ok() && batch.non_finite() == NonFinite::Error {
                    fault = Err(error);
                }
                bad
            })
        })
        .collect();
    (settled, fault)
}

/// The gradients of all rows from their summaries.
fn push_back<L: Lanes>(
    level: Level,
    batch: &Batch<'_>,
    mut logits: Logits<'_, L>,
    summaries: &[RowSummary<f64>],
    partials: &[RowPartials<f64>],
) {
    let stream = streams(batch, &logits);
    let push = |row: usize, io: Row<'_, L>| {
        let (summary, partials) = (&summaries[row], partials[row]);
        match batch.target(row) {
            Some(_) if !summary.stats.is_valid() => level.run(Fill { row: io, value: f32::NAN, stream }),
            Some(target) if partials.is_live() => {
                let map = Mapped::new(batch, row, 0, Some(target));
                let target = Some(target);
                level.run(PushBack { row: io, target, summary, partials, map, kept: None, stream });
            }
            _ => level.run(Fill { row: io, value: 0.0, stream }),
        }
    };
    each_row(batch.shape(), &mut logits, |_, _| {}, push);
}

impl Backend for Cpu {
    type Error = Error;

    fn summarise<E: Element>(
        &self,
        batch: &Batch<'_>,
        logits: &[E],
        summaries: &mut [RowSummary<f64>],
    ) -> Result<(), Error> {
        let rows = batch.shape().rows();
        let logits = Logits::Read(logits);
        logits.check(batch.shape())?;
        check_length("summaries", rows, summaries.len())?;
        let pass = Pass {
            level: self.level,
            batch,
            objective: &Unjudged,
            scale: 0.0,
            detail: Detail::Moments,
            stream: false,
        };
        let rows = match E::any(logits) {
            AnyLogits::F32(mut logits) => pass.run(&mut logits),
            AnyLogits::F16(mut logits) => pass.run(&mut logits),
            AnyLogits::Bf16(mut logits) => pass.run(&mut logits),
        };
        let (judged, fault) = settle(batch, rows, Judged::bad(&Unjudged));
        for (summary, judged) in summaries.iter_mut().zip(judged) {
            *summary = judged.summary;
        }
        fault
    }

    fn push_back<E: Element>(
        &self,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        summaries: &[RowSummary<f64>],
        partials: &[RowPartials<f64>],
    ) -> Result<(), Error> {
        let rows = batch.shape().rows();
        logits.check(batch.shape())?;
        check_length("summaries", rows, summaries.len())?;
        check_length("partials", rows, partials.len())?;
        match E::any(logits) {
            AnyLogits::F32(logits) => push_back(self.level, batch, logits, summaries, partials),
            AnyLogits::F16(logits) => push_back(self.level, batch, logits, summaries, partials),
            AnyLogits::Bf16(logits) => push_back(self.level, batch, logits, summaries, partials),
        }
        Ok(())
    }
}

impl<O: RowObjective + Sync> Evaluate<O> for Cpu {
    fn evaluate<E: Element>(
        &self,
        objective: &O,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, Error> {
        reduction.check()?;
        logits.check(batch.shape())?;
        outputs.check(batch.shape().rows())?;
        match E::any(logits) {
            AnyLogits::F32(logits) => self.evaluate_lanes(objective, reduction, batch, logits, outputs),
            AnyLogits::F16(logits) => self.evaluate_lanes(objective, reduction, batch, logits, outputs),
            AnyLogits::Bf16(logits) => self.evaluate_lanes(objective, reduction, batch, logits, outputs),
        }
    }
}

impl Cpu {
    fn evaluate_lanes<O: RowObjective + Sync, L: Lanes>(
        &self,
        objective: &O,
        reduction: Reduction,
        batch: &Batch<'_>,
        mut logits: Logits<'_, L>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, Error> {
        let pass = Pass {
            level: self.level,
            batch,
            objective,
            scale: reduction.scale(batch.valid(), 0),
            detail: objective.detail().max(outputs.detail()),
            stream: streams(batch, &logits),
        };
        // The rows that are kept are known only after all are judged: the gradient waits for a second sweep.
        let deferred = reduction.needs_kept() && logits.has_gradient();
        let rows =
            if deferred { pass.run(&mut Logits::Read(logits.logits())) } else { pass.run(&mut logits) };
        let (judged, fault) = settle(batch, rows, Judged::bad(objective));
        let totals = Totals::of_rows(batch, reduction, judged.iter().map(Judged::verdict));
        if deferred {
            let scale = reduction.scale(totals.valid, totals.kept);
            let summaries: Vec<_> = judged.iter().map(|judged| judged.summary).collect();
            let partials: Vec<_> = judged.iter().map(|judged| judged.partials.scaled(scale)).collect();
            push_back(self.level, batch, logits, &summaries, &partials);
        }
        outputs.write(&judged);
        fault.map(|()| totals)
    }
}
