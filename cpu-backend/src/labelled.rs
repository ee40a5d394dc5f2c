//! Rows with a label for each class, in parallel.

use crate::Cpu;
use crate::entries::{Combine, Factors, Kept};
use crate::evaluate::{STREAM_BYTES, fault, settle};
use crate::gradient::{Fill, Row, narrow};
use crate::level::Level;
use crate::pair::stats;
use crate::row::{BLOCK, RUN, carried};
use crate::rows::each_row;
use crate::simd::{Kernel, Lanes, MAX_LANES, Simd};
use crate::vector::Vector;
use crate::widen::{apart, room, wide};
use core::cell::RefCell;
use core::ops::Range;
use tokenloss_core::label::{Class, ClassLink, EntryEval, LabelObjective, LabelVisitor};
use tokenloss_core::{
    AnyLogits, Batch, Detail, Element, Error, EvaluateLabels, Labels, Logits, Number, Reduction, RowVerdict,
    Totals, check_length, check_unmapped,
};

/// What a thread keeps from row to row, `[vocab]` each.
#[derive(Default)]
struct LabelScratch {
    logits: Vec<f32>,
    labels: Vec<f32>,
    pulls: Vec<f32>,
    probabilities: Vec<f32>,
}

thread_local! {
    static LABELS: RefCell<LabelScratch> = RefCell::default();
}

/// `log p_j = (z_j - max) - ln_mass` over the softmax; not looked at over the sigmoid.
#[derive(Clone, Copy)]
struct Frame<N> {
    max: N,
    ln_mass: N,
}

impl<N: Number> Frame<N> {
    #[inline(always)]
    fn class(&self, link: ClassLink, z: N) -> Class<N> {
        match link {
            ClassLink::Softmax => Class::softmax((z - self.max) - self.ln_mass),
            ClassLink::Sigmoid => Class::sigmoid(z),
        }
    }
}

/// What the classes of a part amount to.
#[derive(Clone, Copy, Default)]
struct ClassSums {
    /// NaN where a logit or a label is no number.
    value: f64,
    pull: f64,
    /// By how much labels lie outside of their domain.
    outside: f64,
}

impl ClassSums {
    fn merge(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            pull: self.pull + other.pull,
            outside: self.outside + other.outside,
        }
    }
}

/// A part of a row.
#[derive(Clone, Copy)]
struct Part<'a> {
    z: &'a [f32],
    labels: &'a [f32],
    weights: Option<&'a [f32]>,
}

impl Part<'_> {
    fn of(&self, columns: Range<usize>) -> Self {
        Part {
            z: &self.z[columns.clone()],
            labels: &self.labels[columns.clone()],
            weights: self.weights.map(|weights| &weights[columns]),
        }
    }
}

/// The sums over the classes of a part, and, if a gradient is wanted, what that is made of.
struct Classes<'a, O> {
    objective: &'a O,
    frame: Frame<f32>,
    part: Part<'a>,
    kept: Option<Kept<'a>>,
}

impl<O: LabelObjective> Kernel for Classes<'_, O> {
    type Output = ClassSums;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> ClassSums {
        let Self { objective, frame, part, kept } = self;
        let [min, max] = objective.domain();
        let sweep = Sweep {
            s,
            objective,
            link: objective.link(),
            frame: Frame { max: Vector::splat(s, frame.max), ln_mass: Vector::splat(s, frame.ln_mass) },
            min: Vector::splat(s, min),
            max: Vector::splat(s, max),
        };
        match (kept, part.weights) {
            (None, None) => sweep.part::<false, false>(part, &mut [], &mut []),
            (None, Some(_)) => sweep.part::<false, true>(part, &mut [], &mut []),
            (Some(Kept { pulls, probabilities }), None) => {
                sweep.part::<true, false>(part, pulls, probabilities)
            }
            (Some(Kept { pulls, probabilities }), Some(_)) => {
                sweep.part::<true, true>(part, pulls, probabilities)
            }
        }
    }
}

struct Sweep<'a, S: Simd, O> {
    s: S,
    objective: &'a O,
    link: ClassLink,
    frame: Frame<Vector<S>>,
    min: Vector<S>,
    max: Vector<S>,
}

/// Sums of vectors, and what they have rounded away.
struct Sums<V> {
    value: [V; 2],
    pull: [V; 2],
    outside: [V; 2],
}

impl<V: Copy> Sums<V> {
    #[inline(always)]
    fn zero<S: Simd<V = V>>(s: S) -> Self {
        let zero = [s.splat(0.0); 2];
        Self { value: zero, pull: zero, outside: zero }
    }

    #[inline(always)]
    fn add<S: Simd<V = V>>(&mut self, s: S, run: &Run<Vector<S>>) {
        let sums = [&mut self.value, &mut self.pull, &mut self.outside];
        for ([sum, carry], more) in sums.into_iter().zip([run.value, run.pull, run.outside]) {
            carried(s, sum, carry, more.v);
        }
    }

    #[inline(always)]
    fn whole<S: Simd<V = V>>(&self, s: S) -> ClassSums {
        let [value, pull, outside] = [self.value, self.pull, self.outside]
            .map(|[sum, carry]| f64::from(s.horizontal_sum(sum)) + f64::from(s.horizontal_sum(carry)));
        ClassSums { value, pull, outside }
    }
}

struct Run<N> {
    value: N,
    pull: N,
    outside: N,
}

impl<S: Simd, O: LabelObjective> Sweep<'_, S, O> {
    #[inline(always)]
    fn part<const KEEP: bool, const WEIGHTED: bool>(
        &self,
        part: Part<'_>,
        pulls: &mut [f32],
        probabilities: &mut [f32],
    ) -> ClassSums {
        let s = self.s;
        let len = part.z.len();
        let whole = len - len % S::LANES;
        let weights = part.weights.unwrap_or_default();
        let mut total = ClassSums::default();
        for block in (0..whole).step_by(BLOCK) {
            let end = (block + BLOCK).min(whole);
            let mut sums = Sums::zero(s);
            for first in (block..end).step_by(RUN * S::LANES) {
                let run = first..(first + RUN * S::LANES).min(end);
                let kept = if KEEP { run.clone() } else { 0..0 };
                let weighted = if WEIGHTED { run.clone() } else { 0..0 };
                let (pulls, probabilities) = (&mut pulls[kept.clone()], &mut probabilities[kept]);
                let (z, labels, weights) = (&part.z[run.clone()], &part.labels[run], &weights[weighted]);
                sums.add(s, &self.run::<KEEP, WEIGHTED>([z, labels, weights], pulls, probabilities));
            }
            total = total.merge(sums.whole(s));
        }
        if whole < len {
            // Masked and without a label, the lanes beyond the end add nothing.
            let rest = len - whole;
            let (mut z, mut labels) = ([f32::NEG_INFINITY; MAX_LANES], [0.0; MAX_LANES]);
            let (mut weights_rest, mut w, mut p) = ([0.0; MAX_LANES], [0.0; MAX_LANES], [0.0; MAX_LANES]);
            z[..rest].copy_from_slice(&part.z[whole..]);
            labels[..rest].copy_from_slice(&part.labels[whole..]);
            if WEIGHTED {
                weights_rest[..rest].copy_from_slice(&weights[whole..]);
            }
            let lanes = ..S::LANES;
            let io = [&z[lanes], &labels[lanes], &weights_rest[lanes]];
            let mut sums = Sums::zero(s);
            sums.add(s, &self.run::<true, WEIGHTED>(io, &mut w[lanes], &mut p[lanes]));
            total = total.merge(sums.whole(s));
            if KEEP {
                pulls[whole..].copy_from_slice(&w[..rest]);
                probabilities[whole..].copy_from_slice(&p[..rest]);
            }
        }
        total
    }

    /// A few whole vectors of logits, labels and weights.
    #[inline(always)]
    fn run<const KEEP: bool, const WEIGHTED: bool>(
        &self,
        [z, labels, weights]: [&[f32]; 3],
        pulls: &mut [f32],
        probabilities: &mut [f32],
    ) -> Run<Vector<S>> {
        let s = self.s;
        let zero = Vector::splat(s, 0.0);
        let mut run = Run { value: zero, pull: zero, outside: zero };
        let mut weights = weights.chunks_exact(S::LANES);
        let mut pulls = pulls.chunks_exact_mut(S::LANES);
        let mut probabilities = probabilities.chunks_exact_mut(S::LANES);
        for (z, label) in z.chunks_exact(S::LANES).zip(labels.chunks_exact(S::LANES)) {
            let (z, label) = (Vector { s, v: s.load_f32(z) }, Vector { s, v: s.load_f32(label) });
            let class = self.frame.class(self.link, z);
            let EntryEval { mut value, mut pull } = self.objective.of_class(&class, label);
            if WEIGHTED && let Some(weight) = weights.next() {
                let weight = Vector { s, v: s.load_f32(weight) };
                (value, pull) = (weight * value, weight * pull);
            }
            // 0, but NaN of a NaN or +infinity, and of any label that is not finite.
            let no_number = zero.like(f32::MIN).larger(z) * zero + label * zero;
            let outside = (self.min - label).larger(label - self.max);
            run = Run {
                value: run.value + (value + no_number),
                pull: run.pull + pull,
                outside: run.outside + outside.gate(outside),
            };
            if KEEP && let (Some(into), Some(p)) = (pulls.next(), probabilities.next()) {
                s.store_f32(pull.v, into);
                s.store_f32(class.p.v, p);
            }
        }
        run
    }
}

/// The sums over a part, by what the objective is.
struct Summing<'a> {
    level: Level,
    frame: Frame<f32>,
    part: Part<'a>,
    kept: Option<Kept<'a>>,
}

impl LabelVisitor for Summing<'_> {
    type Output = ClassSums;

    fn visit<O: LabelObjective>(self, objective: &O) -> ClassSums {
        let Self { level, frame, part, kept } = self;
        level.run(Classes { objective, frame, part, kept })
    }
}

/// A row whose classes are summed up.
struct Summed {
    value: f64,
    pull: f64,
    top: Option<Top>,
}

/// The likeliest class of a softmax, kept apart, in `f64`: `pull - p (pull + others)` by what is left of p, so that a confident
/// row keeps its gradient.
#[derive(Clone, Copy)]
struct Top {
    column: usize,
    gradient: f64,
}

/// The work of one call.
struct Pass<'a, O> {
    level: Level,
    batch: &'a Batch<'a>,
    objective: &'a O,
    /// What a row's weight is multiplied by.
    scale: f64,
    stream: bool,
}

impl<O: LabelObjective + Sync> Pass<'_, O> {
    /// The sums over a row, with its pulls and probabilities if they are kept.
    fn sums(&self, row: usize, whole: Part<'_>, mut kept: Option<Kept<'_>>) -> Result<Summed, Error> {
        let (objective, level) = (self.objective, self.level);
        let mut frame = Frame { max: 0.0, ln_mass: 0.0 };
        let mut apart = None;
        if objective.link() == ClassLink::Softmax {
            let stats = stats(level, whole.z, Detail::Target);
            if !stats.is_valid() {
                return Err(fault(row, whole.z, |_, z| z));
            }
            let ln_mass = stats.tail.ln_1p();
            frame = Frame { max: stats.max as f32, ln_mass: ln_mass as f32 };
            apart = Some((stats.argmax as usize, Class::softmax(-ln_mass)));
        }
        let mut sum = |columns: Range<usize>| {
            let kept = kept.as_mut().map(|Kept { pulls, probabilities }| Kept {
                pulls: &mut pulls[columns.clone()],
                probabilities: &mut probabilities[columns.clone()],
            });
            objective.visit(Summing { level, frame, part: whole.of(columns), kept })
        };
        let vocab = whole.z.len();
        let (sums, top) = match apart {
            None => (sum(0..vocab), None),
            Some((column, class)) => {
                let others = sum(0..column).merge(sum(column + 1..vocab));
                let own = self.one(&class, whole, column);
                let gradient = own.pull * class.rest - class.p * others.pull;
                (others.merge(own), Some(Top { column, gradient }))
            }
        };
        if !sums.value.is_finite() || sums.outside > 0.0 {
            self.check(row, whole, frame)?;
        }
        Ok(Summed { value: sums.value, pull: sums.pull, top })
    }

    /// One class, for itself.
    fn one(&self, class: &Class<f64>, part: Part<'_>, column: usize) -> ClassSums {
        let label = f64::from(part.labels[column]);
        let weight = part.weights.map_or(1.0, |weights| f64::from(weights[column]));
        let [min, max] = self.objective.domain().map(f64::from);
        let EntryEval { value, pull } = self.objective.of_class(class, label);
        ClassSums {
            value: weight * value + 0.0 * label,
            pull: weight * pull,
            outside: (min - label).max(label - max).max(0.0),
        }
    }

    /// What is wrong with a row, if it is a logit or a label. A sum of finite numbers may be infinite, too.
    fn check(&self, row: usize, part: Part<'_>, frame: Frame<f32>) -> Result<(), Error> {
        if part.z.iter().any(|z| z.is_nan() || *z == f32::INFINITY) {
            return Err(fault(row, part.z, |_, z| z));
        }
        let (link, [min, max]) = (self.objective.link(), self.objective.domain());
        for (column, (&z, &label)) in part.z.iter().zip(part.labels).enumerate() {
            if !(label >= min && label <= max) {
                return Err(Error::Label { row, column, label, min, max });
            }
            if z == f32::NEG_INFINITY
                && !self.objective.of_class(&frame.class(link, z), label).value.is_finite()
            {
                return Err(Error::Label { row, column, label, min: 0.0, max: 0.0 });
            }
        }
        Ok(())
    }

    fn verdict(&self, row: usize, loss: f64) -> RowVerdict {
        RowVerdict { loss, kept: true, live: self.batch.weight(row) != 0.0 }
    }

    /// Forward only.
    fn read<L: Lanes, U: Element>(
        &self,
        row: usize,
        z: &[L],
        labels: Labels<'_, U>,
    ) -> Result<RowVerdict, Error> {
        if self.batch.target(row).is_none() {
            return Ok(IGNORED);
        }
        LABELS.with_borrow_mut(|scratch| {
            let z = wide(self.level, z, &mut scratch.logits);
            let of_row = wide(self.level, labels.row(row), &mut scratch.labels);
            let part = Part { z, labels: of_row, weights: labels.class_weights() };
            Ok(self.verdict(row, self.sums(row, part, None)?.value))
        })
    }

    /// Forward and backward.
    fn write<L: Lanes, U: Element>(
        &self,
        row: usize,
        io: Row<'_, L>,
        labels: Labels<'_, U>,
    ) -> Result<RowVerdict, Error> {
        if self.batch.target(row).is_none() {
            self.level.run(Fill { row: io, value: 0.0, stream: self.stream });
            return Ok(IGNORED);
        }
        LABELS.with_borrow_mut(|LabelScratch { logits, labels: of_labels, pulls, probabilities }| {
            let (z, out) = apart(self.level, io, logits);
            let vocab = z.len();
            let (pulls, probabilities) = (room(pulls, vocab), room(probabilities, vocab));
            let kept = Some(Kept { pulls: &mut *pulls, probabilities: &mut *probabilities });
            let of_row = wide(self.level, labels.row(row), of_labels);
            let part = Part { z, labels: of_row, weights: labels.class_weights() };
            let summed = match self.sums(row, part, kept) {
                Ok(summed) => summed,
                Err(error) => {
                    out.fill(L::from_f32(f32::NAN));
                    return Err(error);
                }
            };
            let factor = f64::from(self.batch.weight(row)) * self.scale;
            let of_probability = if summed.top.is_some() { -factor * summed.pull } else { 0.0 };
            if let Some(Top { column, .. }) = summed.top {
                (pulls[column], probabilities[column]) = (0.0, 0.0);
            }
            let factors = Factors { pull: factor, probability: of_probability };
            let stream = self.stream;
            self.level.run(Combine { factors, pulls, probabilities, base: None, out: &mut *out, stream });
            if let Some(Top { column, gradient }) = summed.top {
                out[column] = L::from_f32(narrow(factor * gradient));
            }
            Ok(self.verdict(row, summed.value))
        })
    }

    /// All rows, in parallel; results in row order.
    fn run<L: Lanes, U: Element>(
        &self,
        mut logits: Logits<'_, L>,
        labels: Labels<'_, U>,
    ) -> Vec<Result<RowVerdict, Error>> {
        let (read, write) =
            (|row, z: &[L]| self.read(row, z, labels), |row, io: Row<'_, L>| self.write(row, io, labels));
        each_row(self.batch.shape(), &mut logits, read, write)
    }
}

const IGNORED: RowVerdict = RowVerdict { loss: 0.0, kept: false, live: false };
const BAD: RowVerdict = RowVerdict { loss: f64::NAN, kept: true, live: true };

impl<O: LabelObjective + Sync> EvaluateLabels<O> for Cpu {
    fn evaluate_labels<E: Element, U: Element>(
        &self,
        objective: &O,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        labels: Labels<'_, U>,
        losses: Option<&mut [f32]>,
    ) -> Result<Totals, Error> {
        reduction.check()?;
        check_unmapped(batch)?;
        logits.check(batch.shape())?;
        labels.check(batch.shape())?;
        if let Some(losses) = &losses {
            check_length("losses", batch.shape().rows(), losses.len())?;
        }
        let bytes = batch.shape().elements() * E::DTYPE.bytes();
        let pass = Pass {
            level: self.level(),
            batch,
            objective,
            // Every row that is not ignored is kept.
            scale: reduction.scale(batch.valid(), batch.valid()),
            stream: matches!(logits, Logits::OutOfPlace { .. }) && bytes >= STREAM_BYTES,
        };
        let rows = match E::any(logits) {
            AnyLogits::F32(logits) => pass.run(logits, labels),
            AnyLogits::F16(logits) => pass.run(logits, labels),
            AnyLogits::Bf16(logits) => pass.run(logits, labels),
        };
        let (verdicts, fault) = settle(batch, rows, BAD);
        if let Some(losses) = losses {
            losses.iter_mut().zip(&verdicts).for_each(|(loss, verdict)| *loss = verdict.loss as f32);
        }
        let totals = Totals::of_rows(batch, reduction, verdicts);
        fault.map(|()| totals)
    }
}
