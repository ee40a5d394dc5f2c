//! Rows guided by a teacher's, in parallel.

use crate::Cpu;
use crate::evaluate::{Pass, settle};
use crate::gradient::Row;
use crate::level::Level;
use crate::rows::each_row;
use crate::simd::{Kernel, Lanes, Simd};
use crate::widen::{apart, as_f32_mut, room, to_storage, wide};
use core::cell::RefCell;
use tokenloss_core::{
    AnyLogits, Batch, Element, Error, EvaluateGuided, Guidance, Judged, Logits, Outputs, Reduction,
    RowObjective, Teacher, Totals,
};

/// What a thread keeps from row to row, `[vocab]` each.
#[derive(Default)]
struct GuidedScratch {
    student: Vec<f32>,
    teacher: Vec<f32>,
    guided: Vec<f32>,
}

thread_local! {
    static GUIDED: RefCell<GuidedScratch> = RefCell::default();
}

/// `out = strength z + (1 - strength) u`, and -infinity where `z` is.
struct Guide<'a> {
    strength: f32,
    z: &'a [f32],
    u: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Guide<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { strength, z, u, out } = self;
        if strength == 1.0 {
            return out.copy_from_slice(z);
        }
        let by = [s.splat(strength), s.splat(1.0 - strength)];
        let whole = z.len() - z.len() % S::LANES;
        let vectors = z[..whole].chunks_exact(S::LANES).zip(u[..whole].chunks_exact(S::LANES));
        for ((z, u), out) in vectors.zip(out.chunks_exact_mut(S::LANES)) {
            s.store_f32(guided(s, by, s.load_f32(z), s.load_f32(u)), out);
        }
        if whole < z.len() {
            let (z, u) = (f32::load_part(s, &z[whole..], 0.0), f32::load_part(s, &u[whole..], 0.0));
            f32::store_part(s, guided(s, by, z, u), &mut out[whole..]);
        }
    }
}

#[inline(always)]
fn guided<S: Simd>(s: S, [of_z, of_u]: [S::V; 2], z: S::V, u: S::V) -> S::V {
    let least = s.splat(f32::MIN);
    let finite = s.max(z, least);
    let both = s.mul_add(of_z, finite, s.mul(of_u, u));
    // 0 for a number, -infinity for itself, NaN for NaN and +infinity; and 0 or NaN by the teacher's.
    let special = s.add(s.sub(z, finite), s.mul(s.max(least, u), s.splat(0.0)));
    s.add(s.keep_unless_lt(both, z, least), special)
}

/// The work of one call.
struct Guided<'a, O> {
    pass: Pass<'a, O>,
    guidance: Guidance<'a>,
}

impl<O: RowObjective + Sync> Guided<'_, O> {
    fn read<L: Lanes, U: Element>(&self, row: usize, z: &[L], u: &[U]) -> Result<Judged, Error> {
        if self.pass.batch.target(row).is_none() {
            return Ok(Judged::ignored());
        }
        GUIDED.with_borrow_mut(|GuidedScratch { student, teacher, guided }| {
            let (z, u) = (wide(self.level(), z, student), wide(self.level(), u, teacher));
            let out = room(guided, z.len());
            self.guide(row, z, u, out);
            self.pass.read(row, out).map_err(|error| blame(error, z, u))
        })
    }

    fn write<L: Lanes, U: Element>(&self, row: usize, io: Row<'_, L>, u: &[U]) -> Result<Judged, Error> {
        if self.pass.batch.target(row).is_none() {
            self.pass.fill(io, 0.0);
            return Ok(Judged::ignored());
        }
        GUIDED.with_borrow_mut(|GuidedScratch { student, teacher, guided }| {
            let u = wide(self.level(), u, teacher);
            let (z, out) = apart(self.level(), io, student);
            let pass = Pass { scale: self.pass.scale * f64::from(self.guidance.of_row(row)), ..self.pass };
            // A row of f32s is guided where its gradient goes.
            let judged = match as_f32_mut(out) {
                Some(out) => {
                    self.guide(row, z, u, out);
                    pass.write(row, Row::InPlace(out))
                }
                None => {
                    let guided = room(guided, z.len());
                    self.guide(row, z, u, guided);
                    let judged = pass.write(row, Row::InPlace(guided));
                    to_storage(self.level(), guided, out);
                    judged
                }
            };
            judged.map_err(|error| blame(error, z, u))
        })
    }

    fn level(&self) -> Level {
        self.pass.level
    }

    fn guide(&self, row: usize, z: &[f32], u: &[f32], out: &mut [f32]) {
        self.level().run(Guide { strength: self.guidance.of_row(row), z, u, out });
    }

    /// All rows, in parallel; results in row order.
    fn run<L: Lanes, U: Element>(
        &self,
        logits: &mut Logits<'_, L>,
        teacher: Teacher<'_, U>,
    ) -> Vec<Result<Judged, Error>> {
        let (read, write) = (
            |row, z: &[L]| self.read(row, z, teacher.row(row)),
            |row, io: Row<'_, L>| self.write(row, io, teacher.row(row)),
        );
        each_row(self.pass.batch.shape(), logits, read, write)
    }

    fn evaluate<L: Lanes, U: Element>(
        mut self,
        reduction: Reduction,
        mut logits: Logits<'_, L>,
        teacher: Teacher<'_, U>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, Error> {
        let batch = self.pass.batch;
        if reduction.needs_kept() && logits.has_gradient() {
            // The rows that are kept are known only after all are judged: the gradient waits for a second sweep.
            let rows = self.run(&mut Logits::Read(logits.logits()), teacher);
            let bad = Judged::bad(self.pass.objective);
            let kept = rows.iter().filter(|row| row.as_ref().unwrap_or(&bad).kept).count();
            self.pass.scale = reduction.scale(batch.valid(), kept);
        }
        let rows = self.run(&mut logits, teacher);
        let (judged, fault) = settle(batch, rows, Judged::bad(self.pass.objective));
        let totals = Totals::of_rows(batch, reduction, judged.iter().map(Judged::verdict));
        outputs.write(&judged);
        fault.map(|()| totals)
    }
}

/// The row that a guided logit's fault comes from.
fn blame(error: Error, z: &[f32], u: &[f32]) -> Error {
    let Error::NonFinite { row, column, .. } = error else { return error };
    let is_bad = |x: f32| x.is_nan() || x == f32::INFINITY;
    match (z[column], u[column]) {
        (z, _) if is_bad(z) => Error::NonFinite { row, column, value: z },
        (_, u) if is_bad(u) => Error::TeacherNonFinite { row, column, value: u },
        _ => error,
    }
}

impl<O: RowObjective + Sync> EvaluateGuided<O> for Cpu {
    fn evaluate_guided<E: Element, U: Element>(
        &self,
        objective: &O,
        guidance: Guidance<'_>,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        teacher: Teacher<'_, U>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, Error> {
        reduction.check()?;
        guidance.check(batch.shape().rows())?;
        logits.check(batch.shape())?;
        teacher.check(batch.shape())?;
        outputs.check(batch.shape().rows())?;
        let pass = Pass {
            level: self.level(),
            batch,
            objective,
            scale: reduction.scale(batch.valid(), 0),
            detail: objective.detail().max(outputs.detail()),
            stream: false,
        };
        let guided = Guided { pass, guidance };
        match E::any(logits) {
            AnyLogits::F32(logits) => guided.evaluate(reduction, logits, teacher, outputs),
            AnyLogits::F16(logits) => guided.evaluate(reduction, logits, teacher, outputs),
            AnyLogits::Bf16(logits) => guided.evaluate(reduction, logits, teacher, outputs),
        }
    }
}
