//! What to record, and into whose buffers.

use crate::GpuError;
use crate::columns::ColumnParts;
use crate::job::{Part, RECORD_BYTES, TOTALS_BYTES, check_overlap};
use crate::map::{MapBindings, MapParts};
use std::ops::Range;
use tokenloss_core::{Dtype, LinearOptions, NonFinite, Reduction, check_columns, check_dim};
use tokenloss_shaders::ShaderObjective;
use wgpu::BufferBinding;

/// Hidden states, a head, and targets on the GPU. Bindings as for [`Data`](crate::Data); the rows of a matrix follow each
/// other without padding.
#[derive(Debug, Clone)]
pub struct LinearData<'a> {
    /// Rows.
    pub rows: usize,
    /// Elements of a hidden state.
    pub dim: usize,
    /// Classes.
    pub vocab: usize,
    /// The classes that the weight holds: `0..vocab`, or those of a shard.
    pub columns: Range<usize>,
    /// The storage type of hidden states, weight and bias.
    pub dtype: Dtype,
    /// `[rows, dim]`.
    pub hidden: BufferBinding<'a>,
    /// `[columns.len(), dim]`, in pieces of whole rows that follow each other: one, unless the head is larger than a buffer.
    /// A piece may be larger than a binding.
    pub weight: Vec<BufferBinding<'a>>,
    /// `[columns.len()]`.
    pub bias: Option<BufferBinding<'a>>,
    /// `[rows]`, i32, checked by the GPU as those of [`Data`](crate::Data) are.
    pub targets: BufferBinding<'a>,
    /// What logits are taken for, if not for themselves.
    pub map: Option<MapBindings<'a>>,
}

/// Where gradients go. None of them ([`Default`]) is forward only.
#[derive(Debug, Clone, Default)]
pub struct LinearBuffers<'a> {
    /// `[rows, dim]` of this type, overwritten. 0 for rows that are not live.
    pub dhidden: Option<(BufferBinding<'a>, Dtype)>,
    /// `[columns.len(), dim]`, f32, added to; in pieces as the weight is, though not necessarily the same.
    pub dweight: Option<Vec<BufferBinding<'a>>>,
    /// `[columns.len()]`, f32, added to.
    pub dbias: Option<BufferBinding<'a>>,
}

/// All three moves: [`Kernels::encode_linear`](crate::Kernels::encode_linear).
#[derive(Clone)]
pub struct LinearJob<'a> {
    /// Hidden states, head, targets: of the whole vocabulary.
    pub data: LinearData<'a>,
    /// What to compute.
    pub objective: &'a dyn ShaderObjective,
    /// What gradients are divided by.
    pub reduction: Reduction,
    /// `[rows]`, f32: multiplies each row's loss and gradient; at least 0.
    pub weights: Option<BufferBinding<'a>>,
    /// Which gradients are wanted.
    pub gradients: LinearBuffers<'a>,
    /// Where the rows' [records](crate::Record) go, 4 [`RECORD_WORDS`](crate::shaders::RECORD_WORDS) bytes a row.
    pub records: Option<BufferBinding<'a>>,
    /// Where the totals go.
    pub totals: Option<BufferBinding<'a>>,
    /// Budget, chunks, tolerances.
    pub options: LinearOptions,
    /// As an error, a bad row adds nothing to `dweight` and `dbias`; else it makes them NaN.
    pub non_finite: NonFinite,
}

/// What these columns know of each row: [`Kernels::encode_linear_parts`](crate::Kernels::encode_linear_parts).
#[derive(Debug, Clone)]
pub struct LinearPartsJob<'a> {
    /// Hidden states, head or shard, targets.
    pub data: LinearData<'a>,
    /// Where the parts go, as records that are not judged: statistics, argmax, the first bad column plus 1 as the
    /// status, the target's logit and whether it was seen; all statistics are taken. 4
    /// [`RECORD_WORDS`](crate::shaders::RECORD_WORDS) bytes a row.
    pub records: BufferBinding<'a>,
    /// Budget and chunks.
    pub options: LinearOptions,
}

/// Judged records to gradients: [`Kernels::encode_linear_push_back`](crate::Kernels::encode_linear_push_back).
#[derive(Debug, Clone)]
pub struct LinearPushBackJob<'a> {
    /// Hidden states, head or shard, targets.
    pub data: LinearData<'a>,
    /// Summaries and partials, which are used as they are. Whether a row is live is written to its last word.
    pub records: BufferBinding<'a>,
    /// Which gradients are wanted.
    pub gradients: LinearBuffers<'a>,
    /// Budget, chunks, tolerances.
    pub options: LinearOptions,
    /// As for [`LinearJob`].
    pub non_finite: NonFinite,
}

/// A piece of a matrix: these of its rows.
#[derive(Debug, Clone)]
pub(super) struct Piece<'a> {
    pub(super) part: Part<'a>,
    pub(super) rows: Range<usize>,
}

pub(super) fn pieces<'a>(
    what: &'static str,
    bindings: &[BufferBinding<'a>],
    rows: usize,
    row_bytes: u64,
) -> Result<Vec<Piece<'a>>, GpuError> {
    let mut pieces = Vec::new();
    let mut next = 0;
    for binding in bindings {
        let part = Part::new(what, binding, row_bytes.min(4))?;
        let held = ((part.size / row_bytes) as usize).min(rows - next);
        pieces.push(Piece { part, rows: next..next + held });
        next += held;
    }
    if next < rows {
        let (needed, got) = (rows as u64 * row_bytes, next as u64 * row_bytes);
        return Err(GpuError::BufferTooSmall { what, needed, got });
    }
    Ok(pieces)
}

/// The checked parts of a job.
pub(super) struct Parts<'a> {
    pub(super) data: &'a LinearData<'a>,
    pub(super) hidden: Part<'a>,
    pub(super) weight: Vec<Piece<'a>>,
    pub(super) bias: Option<Part<'a>>,
    pub(super) targets: Part<'a>,
    pub(super) weights: Option<Part<'a>>,
    pub(super) records: Part<'a>,
    pub(super) totals: Part<'a>,
    pub(super) dhidden: Option<(Part<'a>, Dtype)>,
    pub(super) dweight: Option<Vec<Piece<'a>>>,
    pub(super) dbias: Option<Part<'a>>,
    pub(super) map: MapParts<'a>,
    pub(super) columns: Option<ColumnParts<'a>>,
}

/// A caller's binding, or scratch in its place.
pub(super) type Place<'a> = (Option<&'a BufferBinding<'a>>, Option<&'a wgpu::Buffer>);

impl<'a> Parts<'a> {
    pub(super) fn new(
        data: &'a LinearData<'a>,
        gradients: &'a LinearBuffers<'a>,
        weights: Option<&BufferBinding<'a>>,
        records: Place<'a>,
        totals: Place<'a>,
        columns: Option<ColumnParts<'a>>,
    ) -> Result<Self, GpuError> {
        let LinearData { rows, dim, vocab, columns: ref of_weight, dtype, .. } = *data;
        tokenloss_core::Shape::new(rows, vocab)?;
        check_dim(dim)?;
        check_columns(of_weight, vocab)?;
        let bytes = |elements: usize, dtype: Dtype| ((elements * dtype.bytes()) as u64).next_multiple_of(4);
        let row_bytes = (dim * dtype.bytes()) as u64;
        let count = of_weight.len();
        let place = |what, (binding, scratch): Place<'a>, needed| match (binding, scratch) {
            (Some(binding), _) => Part::new(what, binding, needed),
            (None, Some(buffer)) => Ok(Part::whole(what, buffer)),
            (None, None) => Err(GpuError::NoSize { what }),
        };
        let parts = Self {
            data,
            hidden: Part::new("hidden", &data.hidden, bytes(rows * dim, dtype))?,
            weight: pieces("weight", &data.weight, count, row_bytes)?,
            bias: data.bias.as_ref().map(|bias| Part::new("bias", bias, bytes(count, dtype))).transpose()?,
            targets: Part::new("targets", &data.targets, bytes(rows, Dtype::F32))?,
            weights: weights
                .map(|weights| Part::new("weights", weights, bytes(rows, Dtype::F32)))
                .transpose()?,
            records: place("records", records, rows as u64 * RECORD_BYTES)?,
            totals: place("totals", totals, TOTALS_BYTES)?,
            dhidden: match &gradients.dhidden {
                Some((binding, dtype)) => {
                    Some((Part::new("dhidden", binding, bytes(rows * dim, *dtype))?, *dtype))
                }
                None => None,
            },
            dweight: match &gradients.dweight {
                Some(bindings) => Some(pieces("dweight", bindings, count, 4 * dim as u64)?),
                None => None,
            },
            dbias: match &gradients.dbias {
                Some(binding) => Some(Part::new("dbias", binding, bytes(count, Dtype::F32))?),
                None => None,
            },
            map: MapParts::new(data.map.as_ref(), rows, vocab)?,
            columns,
        };
        let (written, read) = parts.bindings();
        check_overlap(&written, &read)?;
        Ok(parts)
    }

    /// All that is written, and all that is read.
    pub(super) fn bindings(&self) -> (Vec<&Part<'a>>, Vec<&Part<'a>>) {
        let mut written = vec![&self.records, &self.totals];
        written.extend(self.dhidden.iter().map(|(part, _)| part));
        written.extend(self.dweight.iter().flatten().map(|piece| &piece.part));
        written.extend(&self.dbias);
        let mut read = vec![&self.hidden, &self.targets];
        read.extend(self.weight.iter().map(|piece| &piece.part));
        read.extend(self.bias.iter().chain(&self.weights).chain(self.map.parts()));
        if let Some(columns) = &self.columns {
            let (more_written, more_read) = columns.parts();
            written.extend(more_written);
            read.extend(more_read);
        }
        (written, read)
    }

    pub(super) fn has_gradient(&self) -> bool {
        self.dhidden.is_some() || self.dweight.is_some() || self.dbias.is_some()
    }
}

impl std::fmt::Debug for LinearJob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = ShaderObjective::name(self.objective);
        f.debug_struct("LinearJob")
            .field("data", &self.data)
            .field("objective", &name)
            .finish_non_exhaustive()
    }
}
