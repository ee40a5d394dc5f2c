//! Pairs of rows: a student's logits beside a teacher's.

#[cfg(feature = "device")]
mod host;

use crate::beside::Beside;
use crate::dispatch::Bound;
use crate::fused::Fused;
use crate::job::{Data, Gradient, Part, RECORD_BYTES, TOTALS_BYTES};
use crate::kernels::{Parts, Scale};
use crate::plan::Cut;
use crate::second::{SecondPart, TeacherData};
use crate::{GpuError, Kernels, ShaderDivergence, ShaderObjective};
use std::ops::Range;
use tokenloss_core::divergence::Distillation;
use tokenloss_core::{Error, Reduction, Shape};
use tokenloss_shaders::{Params, Program, binding, divergence_parameters, flag, parameters};
use wgpu::BufferBinding;

/// Summarise two rows, judge and compare them, push the student's back: [`Kernels::encode_pair`].
#[derive(Clone)]
pub struct PairJob<'a> {
    /// The student's logits and their targets, without a map.
    pub data: Data<'a>,
    /// The teacher's logits.
    pub teacher: TeacherData<'a>,
    /// What to compute of the student's row; [`Unjudged`](tokenloss_core::Unjudged) for the divergence alone.
    pub objective: &'a dyn ShaderObjective,
    /// The divergence, and how it enters the loss.
    pub distillation: Distillation<&'a dyn ShaderDivergence>,
    /// What the gradient is divided by.
    pub reduction: Reduction,
    /// `[rows]`, f32: multiplies each row's loss and gradient; at least 0.
    pub weights: Option<BufferBinding<'a>>,
    /// Where the student's gradient goes.
    pub gradient: Gradient<'a>,
    /// Where the rows' [`Record`](tokenloss_shaders::Record)s go, as for a [`Job`](crate::Job). The loss is all of it, objective and
    /// divergence; the rest is of the student's row at temperature 1, and the partials are the objective's times its weight.
    pub records: Option<BufferBinding<'a>>,
    /// Where the divergences go, `[rows]`, f32, before factor, weight and reduction: 0 for an ignored row, NaN for a bad one.
    pub divergences: Option<BufferBinding<'a>>,
    /// Where the totals go, as for a [`Job`](crate::Job).
    pub totals: Option<BufferBinding<'a>>,
}

/// The checked parts of a pair that a single row does not have.
pub(crate) struct PairParts<'a> {
    pub(crate) teacher: SecondPart<'a>,
    pub(crate) divergences: Part<'a>,
}

impl<'a> PairParts<'a> {
    fn new(
        student: Shape,
        teacher: &TeacherData<'a>,
        divergences: Option<&BufferBinding<'a>>,
        scratch: Option<&'a wgpu::Buffer>,
    ) -> Result<Self, GpuError> {
        let teacher = SecondPart::of_teacher(student, teacher)?;
        let what = "divergences";
        let divergences = match (divergences, scratch) {
            (Some(binding), _) => Part::new(what, binding, 4 * student.rows() as u64)?,
            (None, Some(buffer)) => Part::whole(what, buffer),
            (None, None) => return Err(GpuError::NoSize { what }),
        };
        Ok(Self { teacher, divergences })
    }

    /// The bindings of some rows.
    pub(crate) fn bind(
        &self,
        cut: &Cut,
        rows: &Range<usize>,
        params: &mut Params,
        bound: &mut Vec<Bound<'a>>,
    ) {
        self.teacher.bind(cut, rows, params, bound);
        let (first, bytes) = (4 * rows.start as u64, 4 * rows.len() as u64);
        let (part, into) = self.divergences.bound(cut, binding::DIVERGENCES, first, bytes);
        bound.push(part);
        params.side_first = (into / 4) as u32;
    }
}

impl Kernels {
    /// Records losses, records, divergences, totals and gradient of a batch of pairs.
    ///
    /// With `p = softmax(z / T)` and `q = softmax(u / T)` of the student's and the teacher's logits,
    /// `loss = objective_weight * objective(z) + lambda T^2 D(p, q)`; see [`Distillation`]. Both rows are read three times, twice
    /// without a gradient; with [`Denominator::Kept`](tokenloss_core::Denominator::Kept) and a gradient, five times.
    ///
    /// A row is NaN throughout, and its record's status says why, if it or the teacher's is bad, and if its divergence is
    /// infinite.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode), also for the teacher's logits and the divergences; [`GpuError::Core`] for a teacher
    /// of other rows or another vocabulary, and for a map. Nothing is recorded then.
    pub fn encode_pair(&self, encoder: &mut wgpu::CommandEncoder, job: &PairJob<'_>) -> Result<(), GpuError> {
        job.reduction.check()?;
        self.encode_pair_scaled(encoder, job, Scale::of(job.reduction))
    }

    pub(crate) fn encode_pair_scaled(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &PairJob<'_>,
        scale: Scale,
    ) -> Result<(), GpuError> {
        let Data { shape, dtype, ref map, .. } = job.data;
        if map.is_some() {
            return Err(Error::Map.into());
        }
        let objective = parameters(job.objective)?;
        let rows = shape.rows() as u64;
        let scratch_records = self.scratch(job.records.is_none(), rows * RECORD_BYTES);
        let scratch_totals = self.scratch(job.totals.is_none(), TOTALS_BYTES);
        let scratch_divergences = self.scratch(job.divergences.is_none(), 4 * rows);
        let pair =
            PairParts::new(shape, &job.teacher, job.divergences.as_ref(), scratch_divergences.as_ref())?;
        let parts = Parts::new(
            &job.data,
            &job.gradient,
            job.weights.as_ref(),
            (job.records.as_ref(), scratch_records.as_ref()),
            (job.totals.as_ref(), scratch_totals.as_ref()),
            Beside::Pair(pair),
        )?;

        let (teacher, distillation) = (job.teacher.dtype, &job.distillation);
        let divergence = *distillation.divergence();
        let (store, reduce) = (job.gradient.store(), self.variant.reduce());
        let temperature = distillation.temperature() != 1.0;
        let program = |store, width| Program::Pair { dtype, teacher, width, store, reduce, temperature };
        let judge = Program::judge_pair(job.objective, divergence);
        let base = Params {
            objective,
            divergence: divergence_parameters(divergence),
            temperature: distillation.temperature(),
            divergence_factor: distillation.factor() as f32,
            pull_factor: distillation.gradient_factor() as f32,
            objective_weight: distillation.objective_weight(),
            ..Params::default()
        };
        let fused = Fused {
            program: &program,
            judge: &judge,
            second: (&|width| program(store, width), &judge),
            base,
            judged: flag::JUDGED | flag::LIVE,
            weights: job.weights.is_some(),
            store,
            scale,
            totals: job.totals.is_some(),
        };
        let mut dispatches = Vec::new();
        self.plan_fused(&parts, &fused, &mut dispatches)?;
        self.record(encoder, &dispatches)
    }
}

impl std::fmt::Debug for PairJob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (objective, divergence) = (self.objective.name(), self.distillation.divergence().name());
        f.debug_struct("PairJob")
            .field("data", &self.data)
            .field("teacher", &self.teacher)
            .field("objective", &objective)
            .field("divergence", &divergence)
            .finish_non_exhaustive()
    }
}
