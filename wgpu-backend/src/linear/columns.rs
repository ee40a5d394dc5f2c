//! Rows with listed columns in the linear form: masked as soon as a tile of logits is computed, written as soon as it has
//! become its own gradient.

use super::encode::{Call, Scratch, request_of};
use super::job::{LinearBuffers, LinearData, Parts};
use crate::columns::{ColumnBindings, ColumnParts, Use};
use crate::dispatch::Dispatch;
use crate::{GpuError, Kernels};
use std::ops::Range;
use tokenloss_core::{Dtype, LinearOptions, NonFinite, Reduction};
use tokenloss_shaders::{NoObjective, Params, Program, Width, flag};
use wgpu::BufferBinding;

/// What all columns but each row's listed ones know of it: [`Kernels::encode_linear_rests`].
#[derive(Debug, Clone)]
pub struct LinearRestsJob<'a> {
    /// Hidden states, head or shard, targets.
    pub data: LinearData<'a>,
    /// The listed columns.
    pub columns: ColumnBindings<'a>,
    /// `[entries]`, f32: the listed logits, before any map. NaN for padding and for ignored rows; those of another shard are
    /// left.
    pub gathered: Option<BufferBinding<'a>>,
    /// Where the parts go, as those of a [`LinearPartsJob`](crate::LinearPartsJob). A listed target's logit is -infinity.
    pub records: BufferBinding<'a>,
    /// Budget and chunks.
    pub options: LinearOptions,
}

/// Derivatives by the rest and by the listed columns to gradients: [`Kernels::encode_linear_push_back_columns`].
#[derive(Debug, Clone)]
pub struct LinearPushBackColumnsJob<'a> {
    /// Hidden states, head or shard, targets.
    pub data: LinearData<'a>,
    /// The listed columns.
    pub columns: ColumnBindings<'a>,
    /// `[entries]`, f32, by the listed logits, used as they are.
    pub d_gathered: BufferBinding<'a>,
    /// Summaries of the rests, and of the partials `d_lse` alone, by the rest, used as it is. Whether a row is live is written
    /// to its last word.
    pub records: BufferBinding<'a>,
    /// Which gradients are wanted.
    pub gradients: LinearBuffers<'a>,
    /// Budget, chunks, tolerances. The norm of a row's gradient is the sum of the absolute derivatives.
    pub options: LinearOptions,
    /// As for [`LinearJob`](crate::LinearJob).
    pub non_finite: NonFinite,
}

/// The greatest logits of each row, never held: [`Kernels::encode_linear_top_k`].
#[derive(Debug, Clone)]
pub struct LinearTopKJob<'a> {
    /// Hidden states, head or shard, targets.
    pub data: LinearData<'a>,
    /// Room for the columns, of the whole vocabulary, as in a [`TopKJob`](crate::TopKJob).
    pub columns: ColumnBindings<'a>,
    /// `[entries]`, f32, as there.
    pub top: BufferBinding<'a>,
    /// Where the rows' statuses go, as there.
    pub records: BufferBinding<'a>,
    /// Budget and chunks.
    pub options: LinearOptions,
}

/// What the three have in common.
struct Job<'j, 'a> {
    data: &'j LinearData<'a>,
    columns: ColumnParts<'a>,
    records: &'j BufferBinding<'a>,
    gradients: &'j LinearBuffers<'a>,
    options: LinearOptions,
    non_finite: NonFinite,
    /// The text of the statistics that are taken.
    sums: bool,
}

impl Kernels {
    /// Records what all columns but the listed ones know of each row, and the listed logits.
    ///
    /// # Errors
    /// Those of [`encode_linear_parts`](Self::encode_linear_parts); [`GpuError::MissingLimit`] for more entries than a binding
    /// of the device holds.
    pub fn encode_linear_rests(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &LinearRestsJob<'_>,
    ) -> Result<(), GpuError> {
        let values = job.gathered.as_ref().map(|gathered| ("gathered", gathered));
        let job = Job {
            data: &job.data,
            columns: ColumnParts::new(&self.cut, &job.columns, job.data.rows, Use::Take, values)?,
            records: &job.records,
            gradients: &LinearBuffers::default(),
            options: job.options,
            non_finite: NonFinite::Error,
            sums: true,
        };
        self.encode_linear_columns(encoder, job, |call, chunk, into| call.summarise(chunk, into))
    }

    /// Records the gradients of rows whose rests are summarised and that are judged: a column that is not listed gets its
    /// row's derivative by the rest times its share of it, a listed one its own. A bad row's derivatives must be NaN.
    ///
    /// # Errors
    /// Those of [`encode_linear_push_back`](Self::encode_linear_push_back); [`GpuError::MissingLimit`] for more entries than a
    /// binding of the device holds.
    pub fn encode_linear_push_back_columns(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &LinearPushBackColumnsJob<'_>,
    ) -> Result<(), GpuError> {
        let values = Some(("d_gathered", &job.d_gathered));
        let job = Job {
            data: &job.data,
            columns: ColumnParts::new(&self.cut, &job.columns, job.data.rows, Use::Put, values)?,
            records: &job.records,
            gradients: &job.gradients,
            options: job.options,
            non_finite: job.non_finite,
            sums: false,
        };
        self.encode_linear_columns(encoder, job, |call, chunk, into| call.push_back(chunk, 0, false, into))
    }

    /// Records the greatest logits of each row and their columns; of a shard, its own.
    ///
    /// # Errors
    /// Those of [`encode_linear_parts`](Self::encode_linear_parts); [`GpuError::MissingLimit`] for more entries than a binding
    /// of the device holds.
    pub fn encode_linear_top_k(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &LinearTopKJob<'_>,
    ) -> Result<(), GpuError> {
        let values = Some(("top", &job.top));
        let job = Job {
            data: &job.data,
            columns: ColumnParts::new(&self.cut, &job.columns, job.data.rows, Use::Top, values)?,
            records: &job.records,
            gradients: &LinearBuffers::default(),
            options: job.options,
            non_finite: NonFinite::Error,
            sums: false,
        };
        self.encode_linear_columns(encoder, job, |call, chunk, into| call.top_k(chunk, into))
    }

    /// Chunk by chunk.
    fn encode_linear_columns(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: Job<'_, '_>,
        of_chunk: impl for<'c> Fn(&Call<'c>, &Range<usize>, &mut Vec<Dispatch<'c>>),
    ) -> Result<(), GpuError> {
        let Job { data, columns, records, gradients, options, non_finite, sums } = job;
        let request = request_of(data, gradients, [true, false], Reduction::Sum, options);
        let plan = self.linear_plan(&request)?;
        let scratch = Scratch::new(self, &request, &plan);
        let params = Params {
            classes: data.vocab as u32,
            flags: columns.flags(),
            row_tolerance: options.row_tolerance,
            ..Params::default()
        };
        let (records, totals) = ((Some(records), None), (None, scratch.totals.as_ref()));
        let parts = Parts::new(data, gradients, None, records, totals, Some(columns))?;
        let map = parts.map.program()?;
        let sums = if sums { self.part(map).judge(&NoObjective) } else { String::new() };
        let base = parts.map.params(params);
        let (parts, scratch) = (&parts, &scratch);
        let call =
            Call { kernels: self, plan, parts, scratch, judge: "", sums: &sums, map, base, non_finite };
        let mut dispatches = Vec::new();
        for chunk in plan.chunks(data.rows) {
            of_chunk(&call, &chunk, &mut dispatches);
        }
        self.record(encoder, &dispatches)
    }
}

impl<'a> Call<'a> {
    /// Listed logits of a tile make way for masks, where there are any.
    pub(super) fn take(&self, chunk: &Range<usize>, columns: &Range<usize>, into: &mut Vec<Dispatch<'a>>) {
        if self.parts.columns.is_some() {
            self.over_tile(Program::Take { dtype: Dtype::F32 }, chunk, columns, 0, into);
        }
    }

    /// Their derivatives take their place in its gradient.
    pub(super) fn put(&self, chunk: &Range<usize>, columns: &Range<usize>, into: &mut Vec<Dispatch<'a>>) {
        if self.parts.columns.is_some() {
            self.over_tile(Program::Put { dtype: Dtype::F32 }, chunk, columns, 0, into);
        }
    }

    /// The greatest of each row of a chunk, tile after tile.
    fn top_k(&self, chunk: &Range<usize>, into: &mut Vec<Dispatch<'a>>) {
        self.list(chunk, 0, into);
        let top_k = Program::TopK { dtype: Dtype::F32, width: Width::Vec4, map: self.map };
        for columns in self.plan.tiles(self.parts.data.columns.len()) {
            self.logits(chunk, &columns, into);
            let first = if columns.start == 0 { flag::FIRST } else { 0 };
            self.over_tile(top_k, chunk, &columns, first, into);
        }
    }
}
