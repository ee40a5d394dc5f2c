//! Rows with listed columns in the linear form: masked as soon as a tile of logits is computed, written as soon as it has
//! become its own gradient.

use super::encode::{Call, Scratch, request_of};
use super::job::{LinearBuffers, LinearData, Parts};
use crate::columns::{ColumnBindings, ColumnParts, Use};
use crate::dispatch::Dispatch;
use crate::{GpuError, Kernels};
use std::ops::Range;
use tokenloss_core::{Dtype, LinearOptions, NonFinite, Reduction};
use tokenloss_shaders::{Live, NoObjective, Params, Program, Width, flag};
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
        let call = Call {
            kernels: self,
            plan,
            parts,
            scratch,
            judge: "",
            sums: &sums,
            compare: "",
            map,
            base,
            non_finite,
            live: Live::Columns,
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::RECORD_BYTES;
    use crate::plan::slot_bytes;
    use std::sync::atomic::Ordering::Relaxed;
    use tokenloss_core::Budget;

    const ROWS: usize = 300;
    const DIM: usize = 65;
    const VOCAB: usize = 5_001;
    const ENTRIES: usize = 900;

    /// What a call creates is what the request without listed columns takes, and uniforms of a dispatch more a tile.
    #[test]
    fn a_call_creates_what_the_requirements_say() {
        let (device, _queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let kernels = Kernels::new(&device).unwrap();
        let usage = wgpu::BufferUsages::STORAGE;
        let buffer = |bytes: usize| {
            let size = bytes.next_multiple_of(4) as u64;
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let whole = |buffer| {
            let size = wgpu::BufferSize::new(wgpu::Buffer::size(buffer));
            BufferBinding { buffer, offset: 0, size }
        };
        let inputs = [2 * ROWS * DIM, 2 * VOCAB * DIM, 4 * ROWS].map(buffer);
        let listed = [4 * (ROWS + 1), 4 * ENTRIES, 4 * ENTRIES].map(buffer);
        let outputs = [4 * ROWS * DIM, 4 * VOCAB * DIM, 4 * VOCAB, RECORD_BYTES as usize * ROWS].map(buffer);
        let data = LinearData {
            rows: ROWS,
            dim: DIM,
            vocab: VOCAB,
            columns: 0..VOCAB,
            dtype: Dtype::F16,
            hidden: whole(&inputs[0]),
            weight: vec![whole(&inputs[1])],
            bias: None,
            targets: whole(&inputs[2]),
            map: None,
        };
        let columns = ColumnBindings { offsets: whole(&listed[0]), ids: whole(&listed[1]), entries: ENTRIES };
        let (values, records) = (whole(&listed[2]), whole(&outputs[3]));
        let created = |record: &dyn Fn(&mut wgpu::CommandEncoder) -> Result<(), GpuError>| {
            let before = kernels.allocated.load(Relaxed);
            record(&mut device.create_command_encoder(&Default::default())).unwrap();
            kernels.allocated.load(Relaxed) - before
        };
        for budget in [40_000, 1 << 20, 16 << 20] {
            let options = LinearOptions { budget: Budget(budget), ..LinearOptions::default() };
            for wanted in 0..8 {
                let [dhidden, dweight, dbias] = [1, 2, 4].map(|bit| wanted & bit != 0);
                let gradients = LinearBuffers {
                    dhidden: dhidden.then(|| (whole(&outputs[0]), Dtype::F32)),
                    dweight: dweight.then(|| vec![whole(&outputs[1])]),
                    dbias: dbias.then(|| whole(&outputs[2])),
                };
                let request = request_of(&data, &gradients, [true, false], Reduction::Sum, options);
                let needs = kernels.linear_requirements(&request).unwrap();
                assert!(needs.scratch_bytes <= budget as u64);
                let (chunks, tiles) = (ROWS.div_ceil(needs.chunk_rows), VOCAB.div_ceil(needs.chunk_vocab));
                let check = |bytes: u64, dispatches: usize| {
                    let uniforms = dispatches as u64 * slot_bytes(&kernels.limits);
                    assert_eq!(bytes, needs.scratch_bytes + uniforms, "{budget} {wanted}");
                };
                let job = LinearPushBackColumnsJob {
                    data: data.clone(),
                    columns: columns.clone(),
                    d_gathered: values.clone(),
                    records: records.clone(),
                    gradients,
                    options,
                    non_finite: NonFinite::Error,
                };
                let products = [dhidden, dweight, dbias].into_iter().filter(|wanted| *wanted).count();
                let bytes = created(&|encoder| kernels.encode_linear_push_back_columns(encoder, &job));
                // The list; logits, gradient, listed columns and products; dhidden.
                check(bytes, chunks * (1 + tiles * (3 + products) + usize::from(dhidden)));
                if wanted > 0 {
                    continue;
                }
                for gathered in [None, Some(values.clone())] {
                    let job = LinearRestsJob {
                        data: data.clone(),
                        columns: columns.clone(),
                        gathered,
                        records: records.clone(),
                        options,
                    };
                    let bytes = created(&|encoder| kernels.encode_linear_rests(encoder, &job));
                    // The list; logits, masks and what is then known.
                    check(bytes, chunks * (1 + tiles * 3));
                }
                let job = LinearTopKJob {
                    data: data.clone(),
                    columns: columns.clone(),
                    top: values.clone(),
                    records: records.clone(),
                    options,
                };
                let bytes = created(&|encoder| kernels.encode_linear_top_k(encoder, &job));
                check(bytes, chunks * (1 + tiles * 2));
            }
        }
    }
}
