//! Two rows of logits, neither of which is ever held as a whole.
//!
//! The tiles of both are cut alike. Where they hold whole rows, all is made of the same logits: both rows' normalisers, the
//! sums over classes, and the gradient, in the student's tile. Where they do not, each of these is a sweep over the vocabulary
//! that computes the logits anew.

use super::chunk::{fault_of, part_of, target_in};
use super::plan::{BLOCK, Costs, Side};
use super::teacher::TeacherTile;
use super::{Chunk, Live, Plan, clear, is_pushed_back, mark, valid_rows};
use crate::Cpu;
use crate::entries::Frame;
use crate::gradient::{Fill, Row};
use crate::level::Level;
use crate::pair::{Gradient, Summing, Terms, normaliser, stats, tempered};
use core::ops::Range;
use tokenloss_core::divergence::{Distillation, Divergence, EntrySums};
use tokenloss_core::{
    Detail, Element, Error, EvaluateLinearPair, Linear, LinearGradients, LinearOptions, NonFinite,
    PairOutputs, PairVerdict, Reduction, RowObjective, RowPart, RowStats, RowSummary, TeacherRows, Totals,
    check_unmapped, check_whole,
};

/// What a part of the vocabulary knows of a pair of rows.
#[derive(Clone, Copy)]
struct PairPart {
    student: RowPart,
    /// The student's statistics at the temperature, where that is not 1.
    tempered: RowStats<f64>,
    /// At the temperature.
    teacher: RowPart,
}

impl PairPart {
    fn empty() -> Self {
        Self { student: RowPart::empty(), tempered: RowStats::empty(), teacher: RowPart::empty() }
    }

    fn merge(self, other: Self) -> Self {
        Self {
            student: self.student.merge(other.student),
            tempered: self.tempered.merge(other.tempered),
            teacher: self.teacher.merge(other.teacher),
        }
    }
}

/// What a part of the vocabulary adds to a divergence.
#[derive(Clone, Copy, Default)]
struct SumPart {
    sums: EntrySums<f64>,
    /// `sum_j |pull_j|`, where a tolerance asks for it.
    absolute: f64,
    /// The first column where the divergence is infinite, and its logits.
    infinite: Option<(usize, f32, f32)>,
}

impl SumPart {
    /// With what lies behind it.
    fn merge(self, other: Self) -> Self {
        Self {
            sums: self.sums.merge(other.sums),
            absolute: self.absolute + other.absolute,
            infinite: self.infinite.or(other.infinite),
        }
    }
}

/// What is known of a row once its pair is judged, beside the verdict.
#[derive(Clone, Copy)]
struct Known {
    frame: Frame,
    absolute: f64,
}

impl Plan {
    fn of_pair<E: Element, U: Element>(
        linear: &Linear<'_, E>,
        teacher: &TeacherRows<'_, U>,
        options: &LinearOptions,
    ) -> Result<Self, Error> {
        let costs = Costs {
            sides: &[Side::of(linear), TeacherTile::side(teacher)],
            filter: options.block_tolerance > 0.0,
            of_row: size_of::<PairVerdict>()
                + size_of::<Option<Known>>()
                + size_of::<usize>()
                + size_of::<Live>(),
            of_chunk_row: size_of::<PairPart>() + size_of::<Summarised>() + size_of::<SumPart>(),
            of_part: size_of::<PairPart>() + size_of::<SumPart>(),
        };
        Self::of(&costs, linear.rows(), linear.columns().len(), options)
    }
}

impl<O: RowObjective + Sync, D: Divergence + Sync> EvaluateLinearPair<O, D> for Cpu {
    fn evaluate_linear_pair<E: Element, U: Element, G: Element>(
        &self,
        objective: &O,
        distillation: &Distillation<D>,
        reduction: Reduction,
        linear: &Linear<'_, E>,
        teacher: &TeacherRows<'_, U>,
        options: &LinearOptions,
        mut gradients: LinearGradients<'_, G>,
        outputs: PairOutputs<'_>,
    ) -> Result<Totals, Error> {
        let batch = linear.batch();
        check_whole(linear)?;
        reduction.check()?;
        check_unmapped(batch)?;
        teacher.check(batch.shape())?;
        gradients.check(linear)?;
        outputs.check(linear.rows())?;
        let plan = Plan::of_pair(linear, teacher, options)?;
        let rows = valid_rows(batch);
        let mut call = Call {
            level: self.level(),
            objective,
            distillation,
            linear,
            options,
            plan,
            detail: objective.detail().max(outputs.outputs.detail()),
            student: Chunk::new(self.level(), linear, plan, options.block_tolerance),
            teacher: TeacherTile::new(self.level(), teacher, plan),
            parts: vec![],
            sums: vec![],
            verdicts: vec![PairVerdict::ignored(); linear.rows()],
            known: vec![None; linear.rows()],
            fault: Ok(()),
            scale: reduction.scale(batch.valid(), 0),
            live: 0,
        };
        clear(&mut gradients);

        let fused = gradients.any() && plan.holds_rows(linear) && !reduction.needs_kept();
        for rows in rows.chunks(plan.rows) {
            call.judge(rows);
            if fused {
                let live = call.live(rows);
                call.student.keep(&live, gradients.dhidden.is_some());
                call.push_back(&live, &linear.columns(), &mut gradients);
                call.store(&live, &mut gradients);
            }
        }
        let mut totals = Totals::of_rows(batch, reduction, call.verdicts.iter().map(PairVerdict::verdict));
        if gradients.any() {
            if !fused {
                call.scale = reduction.scale(totals.valid, totals.kept);
                let mut live = call.live(&rows);
                for live in live.chunks_mut(plan.rows) {
                    call.push_back_anew(live, &mut gradients);
                }
            }
            totals.live = call.live;
            mark(&mut gradients, linear.dim(), |row| {
                batch.target(row).is_some() && call.known[row].is_none()
            });
        }
        outputs.write(&call.verdicts);
        call.fault.map(|()| totals)
    }
}

/// Both rows' summaries, as far as what follows needs them.
type Summarised = Result<(RowSummary<f64>, Frame), Error>;

/// The work of one call.
struct Call<'a, O, D, E, U> {
    level: Level,
    objective: &'a O,
    distillation: &'a Distillation<D>,
    linear: &'a Linear<'a, E>,
    options: &'a LinearOptions,
    plan: Plan,
    detail: Detail,
    student: Chunk<'a, E>,
    teacher: TeacherTile<'a, U>,
    /// Of each block, what it knows of each row of a chunk.
    parts: Vec<PairPart>,
    /// The same of the divergence.
    sums: Vec<SumPart>,
    verdicts: Vec<PairVerdict>,
    /// Nothing of ignored and of bad rows.
    known: Vec<Option<Known>>,
    fault: Result<(), Error>,
    /// What a row's weight is multiplied by.
    scale: f64,
    live: usize,
}

impl<O: RowObjective + Sync, D: Divergence + Sync, E: Element, U: Element> Call<'_, O, D, E, U> {
    fn load(&mut self, rows: impl Iterator<Item = usize> + Clone) {
        self.student.load(rows.clone());
        self.teacher.load(rows);
    }

    fn logits(&mut self, columns: &Range<usize>) {
        self.student.logits(columns);
        self.teacher.logits(columns);
    }

    /// Judges the rows of a chunk. Where the tiles hold whole rows, their logits are there afterwards.
    fn judge(&mut self, rows: &[usize]) {
        self.load(rows.iter().copied());
        let mut parts = vec![PairPart::empty(); rows.len()];
        for columns in self.student.tiles() {
            self.logits(&columns);
            self.summarise(rows, &columns, &mut parts);
        }
        let summarised: Vec<_> =
            rows.iter().zip(&parts).map(|(&row, part)| self.summarised(row, part)).collect();
        let mut sums = vec![SumPart::default(); rows.len()];
        for columns in self.student.tiles() {
            if !self.plan.holds_rows(self.linear) {
                self.logits(&columns);
            }
            self.sum(&summarised, &columns, &mut sums);
        }
        for ((&row, summarised), of_row) in rows.iter().zip(&summarised).zip(&sums) {
            let settled = match (summarised, of_row.infinite) {
                (Ok(_), Some((column, student, teacher))) => {
                    Err(Error::Support { row, column, student, teacher })
                }
                (settled, _) => *settled,
            };
            match settled {
                Ok((summary, frame)) => {
                    let weight = self.linear.batch().weight(row);
                    self.verdicts[row] =
                        PairVerdict::of(self.objective, self.distillation, weight, summary, of_row.sums);
                    self.known[row] = Some(Known { frame, absolute: of_row.absolute });
                }
                Err(error) => {
                    self.verdicts[row] = PairVerdict::bad(self.objective);
                    if self.linear.batch().non_finite() == NonFinite::Error {
                        self.fault = self.fault.and(Err(error));
                    }
                }
            }
        }
    }

    /// What the tiles' columns know of both rows, merged into `parts [rows]`.
    fn summarise(&mut self, rows: &[usize], columns: &Range<usize>, parts: &mut [PairPart]) {
        let Self { level, linear, plan, detail, .. } = *self;
        let temperature = self.distillation.temperature();
        let blocks = columns.len().div_ceil(plan.block);
        self.parts.resize(plan.rows * plan.columns.div_ceil(plan.block), PairPart::empty());
        let teachers = self.teacher.tile(columns).chunks(rows.len() * plan.block);
        let beside = teachers.zip(self.parts.chunks_mut(rows.len()));
        self.student.for_each_block(columns, beside, |block, student, (teacher, parts)| {
            let width = block.len();
            let both = student.chunks_exact(width).zip(teacher.chunks_exact(width));
            for ((part, (z, u)), &row) in parts.iter_mut().zip(both).zip(rows) {
                let of_teacher = if temperature == 1.0 {
                    stats(level, u, Detail::Target)
                } else {
                    tempered(level, u, temperature, None)
                };
                let fault = fault_of(&of_teacher, u, block.start);
                *part = PairPart {
                    student: part_of(level, linear, row, &block, z, detail),
                    tempered: if temperature == 1.0 {
                        RowStats::empty()
                    } else {
                        tempered(level, z, temperature, None)
                    },
                    teacher: RowPart { stats: of_teacher, target_logit: None, fault },
                };
            }
        });
        for block in self.parts.chunks(rows.len()).take(blocks) {
            parts.iter_mut().zip(block).for_each(|(part, more)| *part = part.merge(*more));
        }
    }

    fn summarised(&self, row: usize, part: &PairPart) -> Summarised {
        let (vocab, temperature) = (self.linear.columns().len(), self.distillation.temperature());
        let summary = part.student.summary(row, vocab)?;
        let teacher = part.teacher.checked_stats(row, vocab).map_err(Error::of_teacher)?;
        let student = if temperature == 1.0 { summary.stats } else { part.tempered };
        let [student, teacher] = [student, teacher].map(|stats| normaliser(&stats, temperature));
        Ok((summary, Frame::new(temperature, student, teacher)))
    }

    /// What the tiles' columns add to the divergence, merged into `sums [rows]`.
    fn sum(&mut self, rows: &[Summarised], columns: &Range<usize>, sums: &mut [SumPart]) {
        let Self { level, plan, distillation, .. } = *self;
        let with_absolute = self.options.row_tolerance > 0.0;
        let blocks = columns.len().div_ceil(plan.block);
        self.sums.resize(plan.rows * plan.columns.div_ceil(plan.block), SumPart::default());
        let teachers = self.teacher.tile(columns).chunks(rows.len() * plan.block);
        let beside = teachers.zip(self.sums.chunks_mut(rows.len()));
        self.student.for_each_block(columns, beside, |block, student, (teacher, sums)| {
            let width = block.len();
            let both = student.chunks_exact(width).zip(teacher.chunks_exact(width));
            let [mut of_student, mut of_teacher] = [[0.0; BLOCK]; 2];
            for ((sum, (z, u)), row) in sums.iter_mut().zip(both).zip(rows) {
                *sum = SumPart::default();
                let Ok((_, frame)) = row else { continue };
                let rooms = [&mut of_student[..width], &mut of_teacher[..width]];
                let shares = frame.shares(level, [z, u], rooms);
                let keep = with_absolute;
                match distillation.divergence().visit(Summing { level, frame, z, u, shares, keep }) {
                    Ok(sums) => sum.sums = sums,
                    Err(column) => sum.infinite = Some((block.start + column, z[column], u[column])),
                }
                if with_absolute {
                    sum.absolute = of_teacher[..width].iter().map(|pull| f64::from(pull.abs())).sum();
                }
            }
        });
        for block in self.sums.chunks(rows.len()).take(blocks) {
            sums.iter_mut().zip(block).for_each(|(sum, more)| *sum = sum.merge(*more));
        }
    }

    /// The rows, of these, that are pushed back.
    fn live(&mut self, rows: &[usize]) -> Vec<Live> {
        let scale = self.scale;
        let non_finite = self.linear.batch().non_finite();
        let mut live = Vec::with_capacity(rows.len());
        for (position, &row) in rows.iter().enumerate() {
            let (verdict, known) = (&self.verdicts[row], &self.known[row]);
            let summary = verdict.judged.summary;
            let norm = verdict.norm_bound(scale, known.map_or(f64::NAN, |known| known.absolute));
            if is_pushed_back(self.options, non_finite, &summary, verdict.is_live(), norm) {
                live.push(Live { position, row, summary, partials: verdict.judged.partials.scaled(scale) });
            }
        }
        self.live += live.len();
        live
    }

    /// The gradients of live rows, from logits that are computed anew.
    fn push_back_anew<G: Element>(&mut self, live: &mut [Live], gradients: &mut LinearGradients<'_, G>) {
        live.iter_mut().enumerate().for_each(|(position, live)| live.position = position);
        self.load(live.iter().map(|live| live.row));
        self.student.keep(live, gradients.dhidden.is_some());
        for columns in self.student.tiles() {
            self.logits(&columns);
            self.push_back(live, &columns, gradients);
        }
        self.store(live, gradients);
    }

    /// Turns the student's tile of live rows into its gradient and multiplies it into the gradients that are wanted.
    fn push_back<G: Element>(
        &mut self,
        live: &[Live],
        columns: &Range<usize>,
        gradients: &mut LinearGradients<'_, G>,
    ) {
        let Self { level, linear, distillation, scale, .. } = *self;
        let (verdicts, known) = (&self.verdicts, &self.known);
        let divergence = distillation.divergence();
        let teacher = self.teacher.tile(columns);
        let rows = teacher.len() / columns.len();
        self.student.push_back_by(live, columns, gradients, |live, block, row| {
            let Some(Known { frame, .. }) = &known[live.row] else {
                return level.run(Fill { row, value: f32::NAN, stream: false });
            };
            let (verdict, width) = (&verdicts[live.row], block.len());
            // All blocks before this one are as wide as a block can be.
            let u = &teacher[(block.start - columns.start) * rows + live.position * width..][..width];
            let z = row.logits();
            let target = target_in(linear, live.row, block);
            let factor = verdict.factor * scale;
            let gradient = Gradient::new(level, distillation, frame, &live.summary, live.partials, factor);
            let [mut of_student, mut of_teacher, mut room] = [[0.0; BLOCK]; 3];
            let (probabilities, pulls) = (&mut of_student[..width], &mut of_teacher[..width]);
            let base = gradient.base(z, target, None, || &mut room[..width]);
            let shares = frame.shares(level, [z, u], [&mut *probabilities, &mut *pulls]);
            // The sums of a part are not needed: those of the row are known.
            let _ = divergence.visit(Summing { level, frame, z, u, shares, keep: true });
            let at_target = target.and_then(|target| {
                let d = gradient.at_target(divergence, &verdict.sums, z[target], u[target])?;
                Some((target, d))
            });
            let (Row::Into(_, out) | Row::InPlace(out)) = row;
            gradient.write(&verdict.sums, Terms { pulls, probabilities, base }, out, false);
            if let Some((target, d)) = at_target {
                out[target] = d;
            }
        });
    }

    fn store<G: Element>(&self, live: &[Live], gradients: &mut LinearGradients<'_, G>) {
        if let Some(dhidden) = &mut gradients.dhidden {
            self.student.store(live, dhidden);
        }
    }
}
