//! A label for every class of every row.

#[cfg(feature = "device")]
mod host;

use crate::beside::Beside;
use crate::dispatch::Bound;
use crate::fused::Fused;
use crate::job::{Data, Gradient, Part, RECORD_BYTES, TOTALS_BYTES};
use crate::kernels::{Parts, Scale};
use crate::plan::Cut;
use crate::second::{Second, SecondPart};
use crate::{GpuError, Kernels, ShaderLabel};
use std::ops::Range;
use tokenloss_core::{Dtype, Error, Reduction, Shape};
use tokenloss_shaders::{Params, Program, binding, flag, label_parameters};
use wgpu::BufferBinding;

/// Labels on the GPU. They are read only.
#[derive(Debug, Clone)]
pub struct LabelData<'a> {
    /// The rows and the vocabulary of the logits, and any stride.
    pub shape: Shape,
    /// The storage type, which may differ from that of the logits.
    pub dtype: Dtype,
    /// `[rows, stride]`.
    pub labels: BufferBinding<'a>,
    /// `[vocab]`, f32: what each class counts, in every row; at least 0.
    pub class_weights: Option<BufferBinding<'a>>,
}

/// Judge the classes of each row by their labels and push it back: [`Kernels::encode_labels`].
#[derive(Clone)]
pub struct LabelJob<'a> {
    /// The logits, without a map, and the targets, which say which rows take part and nothing else: all but -100 do.
    pub data: Data<'a>,
    /// The labels.
    pub labels: LabelData<'a>,
    /// What to compute.
    pub objective: &'a dyn ShaderLabel,
    /// What the gradient is divided by. Every row that takes part is kept.
    pub reduction: Reduction,
    /// `[rows]`, f32: multiplies each row's loss and gradient; at least 0.
    pub weights: Option<BufferBinding<'a>>,
    /// Where the gradient goes.
    pub gradient: Gradient<'a>,
    /// Where the rows' [`Record`](tokenloss_shaders::Record)s go, as for a [`Job`](crate::Job): loss, status, whether the row was kept,
    /// and whether its weight is not 0. There is no summary: the other numbers are NaN, and the partials 0.
    pub records: Option<BufferBinding<'a>>,
    /// Where the totals go, as for a [`Job`](crate::Job).
    pub totals: Option<BufferBinding<'a>>,
}

/// The checked parts of labels.
pub(crate) struct LabelParts<'a> {
    pub(crate) labels: SecondPart<'a>,
    pub(crate) class_weights: Option<Part<'a>>,
    vocab: usize,
}

impl<'a> LabelParts<'a> {
    fn new(logits: Shape, labels: &LabelData<'a>) -> Result<Self, GpuError> {
        let LabelData { shape, dtype, ref labels, ref class_weights } = *labels;
        Second::Labels { shape, dtype }.check(logits)?;
        let vocab = shape.vocab();
        let weights = |part| Part::new("class_weights", part, 4 * vocab as u64);
        Ok(Self {
            labels: SecondPart::new("labels", shape, dtype, labels)?,
            class_weights: class_weights.as_ref().map(weights).transpose()?,
            vocab,
        })
    }

    /// The bindings of some rows.
    pub(crate) fn bind<'b>(
        &'b self,
        cut: &Cut,
        nothing: &'b wgpu::Buffer,
        rows: &Range<usize>,
        params: &mut Params,
        bound: &mut Vec<Bound<'b>>,
    ) {
        self.labels.bind(cut, rows, params, bound);
        let binding = binding::CLASS_WEIGHTS;
        let (part, into) = match &self.class_weights {
            Some(part) => part.bound(cut, binding, 0, 4 * self.vocab as u64),
            None => (Bound { binding, buffer: nothing, offset: 0, size: nothing.size() }, 0),
        };
        bound.push(part);
        params.side_first = (into / 4) as u32;
    }
}

impl Kernels {
    /// Records losses, records, totals and gradient of a batch whose classes have labels.
    ///
    /// `loss = sum_j c_j value(class_j, label_j)`, over the softmax or the sigmoid as the objective is; see
    /// [`label`](tokenloss_core::label). Logits are read twice over the sigmoid and three times over the softmax, once less without
    /// a gradient; labels twice, or once.
    ///
    /// A row is NaN throughout, and its record's status says why, if a logit is NaN or +infinity, if a label is outside of the
    /// objective's domain or makes a masked class infinite ([`STATUS_LABEL`](tokenloss_shaders::STATUS_LABEL)), and, over the softmax,
    /// if no class has probability.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode), also for labels and class weights; [`GpuError::Core`] for labels of other rows or
    /// another vocabulary, and for a map. Nothing is recorded then.
    pub fn encode_labels(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &LabelJob<'_>,
    ) -> Result<(), GpuError> {
        job.reduction.check()?;
        self.encode_labels_scaled(encoder, job, Scale::of(job.reduction))
    }

    pub(crate) fn encode_labels_scaled(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &LabelJob<'_>,
        scale: Scale,
    ) -> Result<(), GpuError> {
        let Data { shape, dtype, ref map, .. } = job.data;
        if map.is_some() {
            return Err(Error::Map.into());
        }
        let scratch_records = self.scratch(job.records.is_none(), shape.rows() as u64 * RECORD_BYTES);
        let scratch_totals = self.scratch(job.totals.is_none(), TOTALS_BYTES);
        let parts = Parts::new(
            &job.data,
            &job.gradient,
            job.weights.as_ref(),
            (job.records.as_ref(), scratch_records.as_ref()),
            (job.totals.as_ref(), scratch_totals.as_ref()),
            Beside::Labels(LabelParts::new(shape, &job.labels)?),
        )?;
        let labels = job.labels.dtype;
        let (store, reduce) = (job.gradient.store(), self.variant.reduce());
        let program = |store, width| Program::Labels { dtype, labels, width, store, reduce };
        let judge = Program::judge_labels(job.objective);
        let has_weights = job.labels.class_weights.is_some();
        let fused = Fused {
            program: &program,
            judge: &judge,
            second: (&|width| program(store, width), &judge),
            base: Params {
                divergence: label_parameters(job.objective),
                flags: if has_weights { flag::CLASS_WEIGHTS } else { 0 },
                ..Params::default()
            },
            judged: flag::JUDGED | flag::LIVE,
            weights: job.weights.is_some(),
            store,
            // Every row that takes part is kept.
            scale: if scale == Scale::Kept { Scale::Valid } else { scale },
            totals: job.totals.is_some(),
        };
        let mut dispatches = Vec::new();
        self.plan_fused(&parts, &fused, &mut dispatches)?;
        self.record(encoder, &dispatches)
    }
}

impl std::fmt::Debug for LabelJob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LabelJob")
            .field("data", &self.data)
            .field("labels", &self.labels)
            .field("objective", &self.objective.name())
            .finish_non_exhaustive()
    }
}
