//! Listed columns of rows, and the greatest of them.

#[cfg(feature = "device")]
mod host;

use crate::beside::Beside;
use crate::dispatch::Bound;
use crate::job::{Data, Gradient, Part};
use crate::kernels::Parts;
use crate::plan::Cut;
use crate::{GpuError, Kernels};
use std::ops::Range;
use tokenloss_shaders::{Params, Program, binding, flag};
use wgpu::BufferBinding;

/// Listed columns of each row on the GPU. Bindings as for [`Data`]; what belongs to the columns lies in bindings `[entries]`, in
/// the order of the ids.
#[derive(Debug, Clone)]
pub struct ColumnBindings<'a> {
    /// `[rows + 1]`, u32: those of row `i` are the entries `offsets[i]..offsets[i + 1]`, at most [`entries`](Self::entries).
    pub offsets: BufferBinding<'a>,
    /// `[entries]`, i32. No row may list a column twice. What is not in `0..vocab` is padding: neither its logit nor its value
    /// is looked at.
    pub ids: BufferBinding<'a>,
    /// The entries of all rows together. Each binding of them must be one that the device allows.
    pub entries: usize,
}

/// Listed logits to where they are kept, and masks in their place: [`Kernels::encode_take`].
#[derive(Debug, Clone)]
pub struct TakeJob<'a> {
    /// The logits, which are written, and their targets. A map is not looked at.
    pub data: Data<'a>,
    /// The listed columns.
    pub columns: ColumnBindings<'a>,
    /// `[entries]`, f32, as they are: before any map. NaN for padding and for ignored rows.
    pub gathered: Option<BufferBinding<'a>>,
}

/// Values to the place of listed logits or of their gradient: [`Kernels::encode_put`].
#[derive(Debug, Clone)]
pub struct PutJob<'a> {
    /// The logits or the gradient that are written, and the targets. A map is not looked at.
    pub data: Data<'a>,
    /// The listed columns.
    pub columns: ColumnBindings<'a>,
    /// `[entries]`, f32. Rounded to the nearest of the storage type.
    pub values: BufferBinding<'a>,
}

/// Logits to the greatest of each row: [`Kernels::encode_top_k`].
#[derive(Debug, Clone)]
pub struct TopKJob<'a> {
    /// The logits, their targets, and what they are taken for.
    pub data: Data<'a>,
    /// Room for as many columns of each row as are wanted. The ids are written: -100 where fewer are not masked, and in
    /// ignored and bad rows.
    pub columns: ColumnBindings<'a>,
    /// `[entries]`, f32: what they are taken for. -infinity for padding, NaN in bad rows.
    pub top: BufferBinding<'a>,
    /// Where the rows' statuses go, the only word of a [`Record`](crate::Record) that is written; 4
    /// [`RECORD_WORDS`](crate::shaders::RECORD_WORDS) bytes a row.
    pub records: BufferBinding<'a>,
}

/// What a job does with listed columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Take,
    Put,
    Top,
}

/// The checked parts of listed columns.
pub(crate) struct ColumnParts<'a> {
    offsets: Part<'a>,
    ids: Part<'a>,
    values: Option<Part<'a>>,
    entries: usize,
    uses: Use,
}

impl<'a> ColumnParts<'a> {
    /// With the binding that belongs to the entries, by its name.
    pub(crate) fn new(
        cut: &Cut,
        columns: &ColumnBindings<'a>,
        rows: usize,
        uses: Use,
        values: Option<(&'static str, &BufferBinding<'a>)>,
    ) -> Result<Self, GpuError> {
        let bytes = 4 * columns.entries as u64;
        let of_entries = |what, binding| {
            let part = Part::new(what, binding, bytes)?;
            let needed = cut.align(part.offset).1 + bytes;
            if needed > cut.binding {
                let limit = "max_storage_buffer_binding_size";
                return Err(GpuError::MissingLimit { limit, needed, has: cut.binding });
            }
            Ok(part)
        };
        Ok(Self {
            offsets: Part::new("offsets", &columns.offsets, 4 * (rows as u64 + 1))?,
            ids: of_entries("ids", &columns.ids)?,
            values: values.map(|(what, binding)| of_entries(what, binding)).transpose()?,
            entries: columns.entries,
            uses,
        })
    }

    /// All that is written, and all that is read.
    pub(crate) fn parts(&self) -> (Vec<&Part<'a>>, Vec<&Part<'a>>) {
        let (mut written, mut read) = (vec![], vec![&self.offsets]);
        if self.uses == Use::Top { &mut written } else { &mut read }.push(&self.ids);
        if self.uses == Use::Put { &mut read } else { &mut written }.extend(&self.values);
        (written, read)
    }

    /// Whether listed logits are kept.
    pub(crate) fn flags(&self) -> u32 {
        if self.uses == Use::Take && self.values.is_some() { flag::GATHER } else { 0 }
    }

    /// The bindings of some rows; entries are counted over all of them.
    pub(crate) fn bind<'b>(
        &'b self,
        cut: &Cut,
        nothing: &'b wgpu::Buffer,
        rows: &Range<usize>,
        params: &mut Params,
        bound: &mut Vec<Bound<'b>>,
    ) {
        let mut bind = |binding, part: &Part<'b>, at: usize, words: usize| {
            let (offset, into) = cut.align(part.offset + 4 * at as u64);
            // A binding holds at least a word.
            let size = into + 4 * words.max(1) as u64;
            bound.push(Bound { binding, buffer: part.buffer, offset, size });
            (into / 4) as u32
        };
        params.rows_first = bind(binding::OFFSETS, &self.offsets, rows.start, rows.len() + 1);
        params.lists_first = bind(binding::IDS, &self.ids, 0, self.entries);
        match &self.values {
            Some(values) => params.side_first = bind(binding::VALUES, values, 0, self.entries),
            None => {
                let size = nothing.size();
                bound.push(Bound { binding: binding::VALUES, buffer: nothing, offset: 0, size });
            }
        }
    }
}

impl Kernels {
    /// Records that listed logits are taken out of their rows. What [`encode_summarise`](Self::encode_summarise) then knows of
    /// a row is known of its other columns alone, and [`encode_push_back`](Self::encode_push_back) with a `d_lse` by their
    /// log-sum-exp pushes these; see [`columns`](tokenloss_core::columns). Its target, if listed, has no probability then.
    ///
    /// Where all columns with mass are listed, the record's status says that the row has no mass: unless it is bad by what was
    /// gathered, too, set the status to 0 and the partials to 0 before such a row is pushed back.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode) for bindings and shape; [`GpuError::MissingLimit`] for more entries than a binding of
    /// the device holds. Nothing is recorded then.
    pub fn encode_take(&self, encoder: &mut wgpu::CommandEncoder, job: &TakeJob<'_>) -> Result<(), GpuError> {
        let values = job.gathered.as_ref().map(|gathered| ("gathered", gathered));
        let columns = ColumnParts::new(&self.cut, &job.columns, job.data.shape.rows(), Use::Take, values)?;
        let program = Program::Take { dtype: job.data.dtype };
        self.encode_columns(encoder, &job.data, columns, program)
    }

    /// Records that values take the place of listed logits, or of their gradient: their derivatives after the rest is
    /// pushed back, or the logits that were taken. Ignored rows are left as they are.
    ///
    /// # Errors
    /// Those of [`encode_take`](Self::encode_take).
    pub fn encode_put(&self, encoder: &mut wgpu::CommandEncoder, job: &PutJob<'_>) -> Result<(), GpuError> {
        let values = Some(("values", &job.values));
        let columns = ColumnParts::new(&self.cut, &job.columns, job.data.shape.rows(), Use::Put, values)?;
        let program = Program::Put { dtype: job.data.dtype };
        self.encode_columns(encoder, &job.data, columns, program)
    }

    /// In place.
    fn encode_columns(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        data: &Data<'_>,
        columns: ColumnParts<'_>,
        program: Program,
    ) -> Result<(), GpuError> {
        let params = Params { flags: columns.flags(), ..Params::default() };
        let none = (None, None);
        let parts = Parts::new(data, &Gradient::InPlace, None, none, none, Beside::Columns(columns))?;
        let mut dispatches = Vec::new();
        self.plan_rows(&parts, &|_| program, "", params, &mut dispatches)?;
        self.record(encoder, &dispatches)
    }

    /// Records the greatest logits of each row and their columns, greatest first, the first of equals first, as many as its
    /// list has room for. Bit by bit those of the logits, unless a map has a softcap or StableMax, whose values are the GPU's.
    ///
    /// A row is read once, and then, for each of its greatest, once more by one of its 64 or 256 lanes, its share of it:
    /// `k` is meant to be small beside the vocabulary.
    ///
    /// # Errors
    /// Those of [`encode_take`](Self::encode_take).
    pub fn encode_top_k(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &TopKJob<'_>,
    ) -> Result<(), GpuError> {
        let values = Some(("top", &job.top));
        let columns = ColumnParts::new(&self.cut, &job.columns, job.data.shape.rows(), Use::Top, values)?;
        let records = (Some(&job.records), None);
        let beside = Beside::Columns(columns);
        let parts = Parts::new(&job.data, &Gradient::None, None, records, (None, None), beside)?;
        let (dtype, map) = (job.data.dtype, parts.map.program()?);
        let params = Params { flags: flag::FIRST, ..Params::default() };
        let mut dispatches = Vec::new();
        self.plan_rows(&parts, &|width| Program::TopK { dtype, width, map }, "", params, &mut dispatches)?;
        self.record(encoder, &dispatches)
    }

    /// Lanes of a row's workgroup: what looks at listed columns alone has few.
    pub(crate) fn lanes_of(&self, program: Program) -> u32 {
        if matches!(program, Program::Take { .. } | Program::Put { .. }) { 64 } else { self.lanes }
    }
}
