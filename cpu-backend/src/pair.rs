//! Pairs of rows, in parallel.

use crate::Cpu;
use crate::entries::{Combine, Entries, Factors, Frame, Greatest, Kept, Normaliser, TemperedTail};
use crate::evaluate::{STREAM_BYTES, TASK, fault, settle};
use crate::level::Level;
use crate::row::{BLOCK, PushBack, Row, SCRATCH, Summarise, Wanted, narrow};
use crate::simd::Lanes;
use crate::widen::{as_f32, widen};
use core::cell::RefCell;
use rayon::prelude::*;
use tokenloss_core::divergence::{Distillation, Divergence, EntrySums, Visitor};
use tokenloss_core::{
    AnyLogits, Batch, Detail, Element, Error, EvaluatePair, Logits, PairOutputs, PairVerdict, Reduction,
    RowObjective, RowStats, RowSummary, Teacher, Totals, check_unmapped,
};

/// What a thread keeps from pair to pair, `[vocab]` each.
#[derive(Default)]
struct PairScratch {
    student: Vec<f32>,
    teacher: Vec<f32>,
    base: Vec<f32>,
    pulls: Vec<f32>,
    probabilities: Vec<f32>,
}

thread_local! {
    static PAIR: RefCell<PairScratch> = RefCell::default();
}

/// The statistics of a row, or what is wrong with it.
fn summary(level: Level, row: usize, logits: &[f32], detail: Detail) -> Result<RowStats<f64>, Error> {
    let wanted = Wanted { detail, shares: false };
    let stats =
        SCRATCH.with_borrow_mut(|scratch| level.run(Summarise { logits, scratch, wanted, map: None }));
    if stats.is_valid() { Ok(stats) } else { Err(fault(row, logits, |_, z| z)) }
}

fn normaliser(stats: &RowStats<f64>) -> Normaliser {
    Normaliser { max: stats.max, ln_mass: stats.tail.ln_1p() }
}

/// The normaliser of a row at a temperature.
fn tempered(level: Level, row: usize, logits: &[f32], temperature: f32) -> Result<Normaliser, Error> {
    if temperature == 1.0 {
        return summary(level, row, logits, Detail::Target).map(|stats| normaliser(&stats));
    }
    let max = level.run(Greatest(logits));
    let tail = level.run(TemperedTail { logits, max, temperature });
    if tail >= 0.0 {
        Ok(Normaliser { max: f64::from(max), ln_mass: tail.ln_1p() })
    } else {
        Err(fault(row, logits, |_, z| z))
    }
}

/// Room for a row.
fn room(scratch: &mut Vec<f32>, vocab: usize) -> &mut [f32] {
    if scratch.len() < vocab {
        scratch.resize(vocab, 0.0);
    }
    &mut scratch[..vocab]
}

/// A row as `f32`: itself, or a copy in the scratch row.
fn wide<'a, E: Element>(level: Level, row: &'a [E], scratch: &'a mut Vec<f32>) -> &'a [f32] {
    as_f32(row).unwrap_or_else(|| {
        let scratch = room(scratch, row.len());
        widen(level, row, scratch);
        scratch
    })
}

/// The work of one call.
struct Pass<'a, O, D> {
    level: Level,
    batch: &'a Batch<'a>,
    objective: &'a O,
    distillation: &'a Distillation<D>,
    /// What a row's weight is multiplied by.
    scale: f64,
    detail: Detail,
    stream: bool,
}

impl<O: RowObjective + Sync, D: Divergence + Sync> Pass<'_, O, D> {
    /// Forward only.
    fn read<L: Lanes, U: Element>(&self, row: usize, z: &[L], u: &[U]) -> Result<PairVerdict, Error> {
        let Some(target) = self.batch.target(row) else { return Ok(PairVerdict::ignored()) };
        PAIR.with_borrow_mut(|PairScratch { student, teacher, .. }| {
            let (z, u) = (wide(self.level, z, student), wide(self.level, u, teacher));
            let (summary, frame) = self.summaries(row, target, z, u)?;
            let sum = Reading { level: self.level, row, z, u, frame: &frame };
            Ok(self.verdict(row, summary, self.distillation.divergence().visit(sum)?))
        })
    }

    /// Forward and backward.
    fn write<L: Lanes, U: Element>(&self, row: usize, io: Row<'_, L>, u: &[U]) -> Result<PairVerdict, Error> {
        let Some(target) = self.batch.target(row) else {
            io.fill(L::from_f32(0.0));
            return Ok(PairVerdict::ignored());
        };
        PAIR.with_borrow_mut(|PairScratch { student, teacher, base, pulls, probabilities }| {
            let u = wide(self.level, u, teacher);
            let (z, out) = match io {
                Row::Into(z, out) => (Some(wide(self.level, z, student)), out),
                Row::InPlace(out) if as_f32(out).is_some() => (None, out),
                Row::InPlace(out) => {
                    let z = room(student, out.len());
                    widen(self.level, out, z);
                    (Some(&*z), out)
                }
            };
            let mut student = Student { z, out };
            let verdict = self.push_back(row, target, &mut student, u, base, [pulls, probabilities]);
            if verdict.is_err() {
                student.out.fill(L::from_f32(f32::NAN));
            }
            verdict
        })
    }

    fn push_back<L: Lanes>(
        &self,
        row: usize,
        target: usize,
        student: &mut Student<'_, L>,
        u: &[f32],
        base: &mut Vec<f32>,
        kept: [&mut Vec<f32>; 2],
    ) -> Result<PairVerdict, Error> {
        let (summary, frame) = self.summaries(row, target, student.z(), u)?;
        // Neither the objective's partials nor the factor depend on the sums.
        let before = self.verdict(row, summary, EntrySums::default());
        let partials = before.judged.partials.scaled(self.scale);
        let in_one = self.distillation.temperature() == 1.0 && partials.is_plain();
        let base = if in_one {
            None
        } else {
            let base = room(base, u.len());
            base.copy_from_slice(student.z());
            let row = Row::InPlace(&mut *base);
            self.level.run(PushBack { row, target: Some(target), summary: &summary, partials, map: None });
            Some(&*base)
        };
        let work = Writing {
            level: self.level,
            row,
            student,
            u,
            frame: &frame,
            factors: Factors {
                pull: before.factor * self.scale,
                probability: if in_one { partials.d_lse } else { 0.0 },
            },
            base,
            target: in_one.then(|| (target, partials.target_gradient(&summary))),
            kept,
            stream: self.stream,
        };
        Ok(self.verdict(row, summary, self.distillation.divergence().visit(work)?))
    }

    /// Both rows, summarised.
    fn summaries(
        &self,
        row: usize,
        target: usize,
        z: &[f32],
        u: &[f32],
    ) -> Result<(RowSummary<f64>, Frame<f32>), Error> {
        let (level, temperature) = (self.level, self.distillation.temperature());
        let stats = summary(level, row, z, self.detail)?;
        let teacher = tempered(level, row, u, temperature).map_err(Error::of_teacher)?;
        let student =
            if temperature == 1.0 { normaliser(&stats) } else { tempered(level, row, z, temperature)? };
        Ok((RowSummary::new(stats, f64::from(z[target])), Frame::new(temperature, student, teacher)))
    }

    fn verdict(&self, row: usize, summary: RowSummary<f64>, sums: EntrySums<f64>) -> PairVerdict {
        PairVerdict::of(self.objective, self.distillation, self.batch.weight(row), summary, sums)
    }

    /// All rows, in parallel; results in row order.
    fn run<L: Lanes, U: Element>(
        &self,
        logits: &mut Logits<'_, L>,
        teacher: Teacher<'_, U>,
    ) -> Vec<Result<PairVerdict, Error>> {
        let shape = self.batch.shape();
        let (stride, vocab) = (shape.stride(), shape.vocab());
        let least = (TASK / vocab).max(1);
        match logits {
            Logits::Read(logits) => (logits.par_chunks(stride).enumerate().with_min_len(least))
                .map(|(row, z)| self.read(row, &z[..vocab], teacher.row(row)))
                .collect(),
            Logits::OutOfPlace { logits, dlogits } => (dlogits.par_chunks_mut(stride).enumerate())
                .with_min_len(least)
                .map(|(row, out)| {
                    let z = &logits[row * stride..row * stride + vocab];
                    self.write(row, Row::Into(z, &mut out[..vocab]), teacher.row(row))
                })
                .collect(),
            Logits::InPlace(logits) => (logits.par_chunks_mut(stride).enumerate().with_min_len(least))
                .map(|(row, z)| self.write(row, Row::InPlace(&mut z[..vocab]), teacher.row(row)))
                .collect(),
        }
    }
}

/// A student's row and where its gradient goes.
struct Student<'a, L> {
    /// The logits, unless `out` holds them as `f32`s.
    z: Option<&'a [f32]>,
    out: &'a mut [L],
}

impl<L: Lanes> Student<'_, L> {
    fn z(&self) -> &[f32] {
        self.z.or_else(|| as_f32(self.out)).unwrap_or_default()
    }
}

/// A divergence's sums, or where they are infinite.
fn checked<D: Divergence>(
    divergence: &D,
    sums: EntrySums<f64>,
    row: usize,
    frame: &Frame<f32>,
    z: &[f32],
    u: &[f32],
) -> Result<EntrySums<f64>, Error> {
    if sums.value.is_finite() {
        return Ok(sums);
    }
    let infinite = |(z, u): (&f32, &f32)| !divergence.of_entry(&frame.entry(*z, *u)).value.is_finite();
    let column = z.iter().zip(u).position(infinite).unwrap_or(0);
    Err(Error::Support { row, column, student: z[column], teacher: u[column] })
}

/// The sums of a pair whose normalisers are known.
struct Reading<'a> {
    level: Level,
    row: usize,
    z: &'a [f32],
    u: &'a [f32],
    frame: &'a Frame<f32>,
}

impl Visitor for Reading<'_> {
    type Output = Result<EntrySums<f64>, Error>;

    fn visit<D: Divergence>(self, divergence: &D) -> Self::Output {
        let Self { level, row, z, u, frame } = self;
        let sums = level.run(Entries { divergence, frame, z, u, kept: None });
        checked(divergence, sums, row, frame, z, u)
    }
}

/// The same, and the gradient.
struct Writing<'a, 's, L> {
    level: Level,
    row: usize,
    student: &'a mut Student<'s, L>,
    u: &'a [f32],
    frame: &'a Frame<f32>,
    /// Of the pulls, and of the objective.
    factors: Factors,
    base: Option<&'a [f32]>,
    /// The target and its gradient by the objective, where that is not in the base.
    target: Option<(usize, f64)>,
    /// Room for pulls and probabilities.
    kept: [&'a mut Vec<f32>; 2],
    stream: bool,
}

impl<L: Lanes> Visitor for Writing<'_, '_, L> {
    type Output = Result<EntrySums<f64>, Error>;

    fn visit<D: Divergence>(self, divergence: &D) -> Self::Output {
        let Self { level, row, student, u, frame, factors, base, target, kept, stream } = self;
        // Where the sum of the pulls is known, what is kept of a block is used while it is in the first-level cache.
        let step = if divergence.is_centred() { BLOCK.min(u.len()) } else { u.len() };
        let [pulls, probabilities] = kept.map(|kept| room(kept, step));
        let target = target.map(|(target, of_objective)| (target, student.z()[target], of_objective));
        let mut sums = EntrySums::default();
        for first in (0..u.len()).step_by(step) {
            let part = first..u.len().min(first + step);
            let (z, u) = (&student.z()[part.clone()], &u[part.clone()]);
            let (pulls, probabilities) = (&mut pulls[..part.len()], &mut probabilities[..part.len()]);
            let kept = Some(Kept { pulls: &mut *pulls, probabilities: &mut *probabilities });
            let more = level.run(Entries { divergence, frame, z, u, kept });
            sums = sums.merge(checked(divergence, more, row, frame, z, u).map_err(|e| e.behind(first))?);
            let others = if divergence.is_centred() { 0.0 } else { sums.pull };
            let factors = Factors { probability: factors.probability - factors.pull * others, ..factors };
            let base = base.map(|base| &base[part.clone()]);
            level.run(Combine { factors, pulls, probabilities, base, out: &mut student.out[part], stream });
        }
        if let Some((target, z, of_objective)) = target {
            let entry = frame.entry(z, u[target]);
            let (pull, p) = (f64::from(divergence.of_entry(&entry).pull), f64::from(entry.p()));
            let others = if divergence.is_centred() { 0.0 } else { sums.pull };
            student.out[target] = L::from_f32(narrow(factors.pull * (pull - p * others) + of_objective));
        }
        Ok(sums)
    }
}

impl<O: RowObjective + Sync, D: Divergence + Sync> EvaluatePair<O, D> for Cpu {
    fn evaluate_pair<E: Element, U: Element>(
        &self,
        objective: &O,
        distillation: &Distillation<D>,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        teacher: Teacher<'_, U>,
        outputs: PairOutputs<'_>,
    ) -> Result<Totals, Error> {
        reduction.check()?;
        check_unmapped(batch)?;
        logits.check(batch.shape())?;
        teacher.check(batch.shape())?;
        outputs.check(batch.shape().rows())?;
        let bytes = batch.shape().elements() * E::DTYPE.bytes();
        let pass = Pass {
            level: self.level(),
            batch,
            objective,
            distillation,
            scale: reduction.scale(batch.valid(), 0),
            detail: objective.detail().max(outputs.outputs.detail()),
            stream: matches!(logits, Logits::OutOfPlace { .. }) && bytes >= STREAM_BYTES,
        };
        match E::any(logits) {
            AnyLogits::F32(logits) => pass.evaluate(reduction, logits, teacher, outputs),
            AnyLogits::F16(logits) => pass.evaluate(reduction, logits, teacher, outputs),
            AnyLogits::Bf16(logits) => pass.evaluate(reduction, logits, teacher, outputs),
        }
    }
}

impl<O: RowObjective + Sync, D: Divergence + Sync> Pass<'_, O, D> {
    fn evaluate<L: Lanes, U: Element>(
        mut self,
        reduction: Reduction,
        mut logits: Logits<'_, L>,
        teacher: Teacher<'_, U>,
        outputs: PairOutputs<'_>,
    ) -> Result<Totals, Error> {
        if reduction.needs_kept() && logits.has_gradient() {
            // The rows that are kept are known only after all are judged: the gradient waits for a second sweep.
            let rows = self.run(&mut Logits::Read(logits.logits()), teacher);
            let kept = |row: &Result<PairVerdict, Error>| match row {
                Ok(verdict) => verdict.judged.kept,
                Err(_) => PairVerdict::bad(self.objective).judged.kept,
            };
            let kept = rows.iter().filter(|row| kept(row)).count();
            self.scale = reduction.scale(self.batch.valid(), kept);
        }
        let rows = self.run(&mut logits, teacher);
        let (verdicts, fault) = settle(self.batch, rows, PairVerdict::bad(self.objective));
        let totals = Totals::of_rows(self.batch, reduction, verdicts.iter().map(PairVerdict::verdict));
        outputs.write(&verdicts);
        fault.map(|()| totals)
    }
}
