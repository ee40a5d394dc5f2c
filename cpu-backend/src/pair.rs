//! Pairs of rows, in parallel.

mod gradient;
mod sums;

use crate::Cpu;
use crate::entries::{Frame, Shares};
use crate::evaluate::{STREAM_BYTES, fault, settle};
use crate::gradient::{Fill, Row};
use crate::level::Level;
use crate::row::{Kept, Scratch, Summarise, Wanted};
use crate::rows::each_row;
use crate::simd::Lanes;
use crate::widen::{as_f32, room, wide, widen};
use core::cell::RefCell;
pub(crate) use gradient::{Gradient, Terms};
pub(crate) use sums::{Summing, normaliser, stats, tempered};
use tokenloss_core::divergence::{Distillation, Divergence, EntrySums};
use tokenloss_core::{
    AnyLogits, Batch, Detail, Element, Error, EvaluatePair, Logits, PairOutputs, PairVerdict, Reduction,
    RowObjective, RowStats, RowSummary, Teacher, Totals, check_unmapped,
};

/// What a thread keeps from pair to pair.
#[derive(Default)]
struct PairScratch {
    /// `[vocab]`, both rows as `f32`s.
    student: Vec<f32>,
    teacher: Vec<f32>,
    /// `[vocab]`, the objective's gradient.
    base: Vec<f32>,
    left: Left,
}

/// What the summaries leave.
#[derive(Default)]
struct Left {
    student: Scratch,
    teacher: Scratch,
    /// At a temperature that is not 1.
    tempered: Kept,
}

impl Left {
    /// Of both rows at the temperature.
    fn shares(&mut self, temperature: f32, vocab: usize) -> [Shares<'_>; 2] {
        let student = if temperature == 1.0 { &mut self.student.kept } else { &mut self.tempered };
        [student.of_row(vocab), self.teacher.kept.of_row(vocab)]
    }
}

thread_local! {
    static PAIR: RefCell<PairScratch> = RefCell::default();
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
        PAIR.with_borrow_mut(|PairScratch { student, teacher, left, .. }| {
            let (z, u) = (wide(self.level, z, student), wide(self.level, u, teacher));
            let (summary, frame) = self.summaries(row, target, z, u, false, left)?;
            Ok(self.verdict(row, summary, self.sums(row, &frame, z, u, false, left)?))
        })
    }

    /// Forward and backward.
    fn write<L: Lanes, U: Element>(&self, row: usize, io: Row<'_, L>, u: &[U]) -> Result<PairVerdict, Error> {
        let Some(target) = self.batch.target(row) else {
            self.level.run(Fill { row: io, value: 0.0, stream: self.stream });
            return Ok(PairVerdict::ignored());
        };
        PAIR.with_borrow_mut(|PairScratch { student, teacher, base, left }| {
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
            let verdict = self.push_back(row, target, &mut student, u, base, left);
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
        left: &mut Left,
    ) -> Result<PairVerdict, Error> {
        let (level, vocab) = (self.level, u.len());
        let (summary, frame) = self.summaries(row, target, student.z(), u, true, left)?;
        // What a gradient is made of does not depend on the sums.
        let before = self.verdict(row, summary, EntrySums::default());
        let (partials, factor) = (before.judged.partials.scaled(self.scale), before.factor * self.scale);
        let gradient = Gradient::new(level, self.distillation, &frame, &summary, partials, factor);
        let z = student.z();
        let base = gradient.base(z, Some(target), Some(&left.student.kept), || room(base, vocab));
        let sums = self.sums(row, &frame, z, u, true, left)?;
        let at_target = gradient.at_target(self.distillation.divergence(), &sums, z[target], u[target]);
        let [probabilities, pulls] =
            left.shares(self.distillation.temperature(), vocab).map(|kept| &*kept.shares);
        gradient.write(&sums, Terms { pulls, probabilities, base }, student.out, self.stream);
        if let Some(at_target) = at_target {
            student.out[target] = L::from_f32(at_target);
        }
        Ok(self.verdict(row, summary, sums))
    }

    /// Both rows, summarised. For a gradient the student's shares at temperature 1 are left, too.
    fn summaries(
        &self,
        row: usize,
        target: usize,
        z: &[f32],
        u: &[f32],
        has_gradient: bool,
        left: &mut Left,
    ) -> Result<(RowSummary<f64>, Frame), Error> {
        let (level, temperature) = (self.level, self.distillation.temperature());
        let plain = temperature == 1.0;
        let valid = |logits: &[f32], stats: RowStats<f64>| {
            if stats.is_valid() { Ok(stats) } else { Err(fault(row, logits, |_, z| z)) }
        };
        let wanted = Wanted { detail: self.detail, shares: plain || has_gradient };
        let summarise = |logits, wanted, scratch| level.run(Summarise { logits, scratch, wanted, map: None });
        let known = valid(z, summarise(z, wanted, &mut left.student))?;
        let teacher = if plain {
            summarise(u, Wanted { detail: Detail::Target, shares: true }, &mut left.teacher)
        } else {
            tempered(level, u, temperature, Some(&mut left.teacher.kept))
        };
        let teacher = valid(u, teacher).map_err(Error::of_teacher)?;
        let student =
            if plain { known } else { valid(z, tempered(level, z, temperature, Some(&mut left.tempered)))? };
        let [student, teacher] = [student, teacher].map(|stats| normaliser(&stats, temperature));
        Ok((RowSummary::new(known, f64::from(z[target])), Frame::new(temperature, student, teacher)))
    }

    /// The divergence's sums, and where they are infinite an error. Of the shares that are left, probabilities and pulls are made
    /// if these are to be kept.
    fn sums(
        &self,
        row: usize,
        frame: &Frame,
        z: &[f32],
        u: &[f32],
        keep: bool,
        left: &mut Left,
    ) -> Result<EntrySums<f64>, Error> {
        let shares = left.shares(self.distillation.temperature(), z.len());
        let sums =
            self.distillation.divergence().visit(Summing { level: self.level, frame, z, u, shares, keep });
        sums.map_err(|column| Error::Support { row, column, student: z[column], teacher: u[column] })
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
        let (read, write) = (
            |row, z: &[L]| self.read(row, z, teacher.row(row)),
            |row, io: Row<'_, L>| self.write(row, io, teacher.row(row)),
        );
        each_row(self.batch.shape(), logits, read, write)
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
