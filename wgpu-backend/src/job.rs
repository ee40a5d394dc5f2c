//! What to record, and into whose buffers.

use crate::GpuError;
use crate::dispatch::Bound;
use crate::map::MapBindings;
use crate::plan::{Cut, Matrix};
use tokenloss_core::{Dtype, Reduction, Shape};
use tokenloss_shaders::{RECORD_WORDS, ShaderObjective, Store, TOTALS_WORDS};
use wgpu::BufferBinding;

/// Where a gradient goes.
#[derive(Debug, Clone)]
pub enum Gradient<'a> {
    /// Nowhere: forward only.
    None,
    /// Over the logits.
    InPlace,
    /// To another binding of the same shape, stride and type. Padding is left as it was.
    Into(BufferBinding<'a>),
}

impl Gradient<'_> {
    pub(crate) fn store(&self) -> Store {
        match self {
            Self::None => Store::None,
            Self::InPlace => Store::InPlace,
            Self::Into(_) => Store::OutOfPlace,
        }
    }
}

/// A batch on the GPU. Every binding needs a `size`, an `offset` that is a multiple of 4, and a buffer with
/// `STORAGE`; several may lie in one buffer as long as none that is written shares bytes with another.
#[derive(Debug, Clone)]
pub struct Data<'a> {
    /// The shape. For f16 and bf16 the stride must be even if there is more than one row: two rows must never
    /// share a 32-bit word.
    pub shape: Shape,
    /// The storage type of logits and gradient.
    pub dtype: Dtype,
    /// `[rows, stride]`.
    pub logits: BufferBinding<'a>,
    /// `[rows]`, i32: -100 for a row that takes no part. The GPU checks them: a row with any other target
    /// outside `0..vocab` is NaN, and its status says so.
    pub targets: BufferBinding<'a>,
    /// What logits are taken for, if not for themselves.
    pub map: Option<MapBindings<'a>>,
}

/// Summarise, judge and push back: [`Kernels::encode`](crate::Kernels::encode).
#[derive(Clone)]
pub struct Job<'a> {
    /// The logits and their targets.
    pub data: Data<'a>,
    /// What to compute.
    pub objective: &'a dyn ShaderObjective,
    /// What the gradient is divided by.
    pub reduction: Reduction,
    /// `[rows]`, f32: multiplies each row's loss and gradient; at least 0.
    pub weights: Option<BufferBinding<'a>>,
    /// Where the gradient goes.
    pub gradient: Gradient<'a>,
    /// Where the rows' [`Record`](tokenloss_shaders::Record)s go, 4 [`RECORD_WORDS`] bytes a row.
    pub records: Option<BufferBinding<'a>>,
    /// Where the totals go, [`TOTALS_WORDS`] words, which [`BatchRecord`](tokenloss_shaders::BatchRecord) reads.
    pub totals: Option<BufferBinding<'a>>,
}

/// Logits to records: [`Kernels::encode_summarise`](crate::Kernels::encode_summarise).
#[derive(Debug, Clone)]
pub struct SummariseJob<'a> {
    /// The logits and their targets.
    pub data: Data<'a>,
    /// Where the rows' [`Record`](tokenloss_shaders::Record)s go, 4 [`RECORD_WORDS`] bytes a row. Loss and partials are 0.
    pub records: BufferBinding<'a>,
}

/// Logits and records to the gradient: [`Kernels::encode_push_back`](crate::Kernels::encode_push_back).
#[derive(Debug, Clone)]
pub struct PushBackJob<'a> {
    /// The logits and their targets.
    pub data: Data<'a>,
    /// Summaries, as `encode_summarise` left them, and partials, which are used as they are: words 15 to 19 of
    /// each record, written by a shader of yours or from the host.
    pub records: BufferBinding<'a>,
    /// Where the gradient goes; [`Gradient::None`] does nothing.
    pub gradient: Gradient<'a>,
}

pub(crate) const TOTALS_BYTES: u64 = 4 * TOTALS_WORDS as u64;
pub(crate) const RECORD_BYTES: u64 = 4 * RECORD_WORDS as u64;

/// A checked part of a buffer.
#[derive(Debug, Clone)]
pub(crate) struct Part<'a> {
    pub(crate) what: &'static str,
    pub(crate) buffer: &'a wgpu::Buffer,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl<'a> Part<'a> {
    pub(crate) fn new(
        what: &'static str,
        binding: &BufferBinding<'a>,
        needed: u64,
    ) -> Result<Self, GpuError> {
        let BufferBinding { buffer, offset, size } = *binding;
        let size = size.ok_or(GpuError::NoSize { what })?.get();
        if !offset.is_multiple_of(4) {
            return Err(GpuError::Misaligned { what, offset, alignment: 4 });
        }
        let got = size.min(buffer.size().saturating_sub(offset));
        if got < needed {
            return Err(GpuError::BufferTooSmall { what, needed, got });
        }
        if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            return Err(GpuError::Usage { what, usage: "STORAGE" });
        }
        // What lies behind the bytes asked for is somebody else's.
        Ok(Self { what, buffer, offset, size: got })
    }

    /// Some bytes of it as a binding, and how far into that they start.
    pub(crate) fn bound(&self, cut: &Cut, binding: u32, at: u64, bytes: u64) -> (Bound<'a>, u64) {
        let (offset, into) = cut.align(self.offset + at);
        let size = (into + bytes).next_multiple_of(4);
        (Bound { binding, buffer: self.buffer, offset, size }, into)
    }

    pub(crate) fn whole(what: &'static str, buffer: &'a wgpu::Buffer) -> Self {
        Self { what, buffer, offset: 0, size: buffer.size() }
    }
}

/// No part that is written shares bytes with any other.
pub(crate) fn check_overlap(written: &[&Part<'_>], read: &[&Part<'_>]) -> Result<(), GpuError> {
    let share = |a: &Part<'_>, b: &Part<'_>| {
        a.buffer == b.buffer && a.offset < b.offset + b.size && b.offset < a.offset + a.size
    };
    for (i, a) in written.iter().enumerate() {
        for b in written[i + 1..].iter().chain(read) {
            if share(a, b) {
                return Err(GpuError::Overlap { a: a.what, b: b.what });
            }
        }
    }
    Ok(())
}

impl Data<'_> {
    pub(crate) fn row_bytes(&self) -> u64 {
        (self.shape.stride() * self.dtype.bytes()) as u64
    }

    /// Bytes of a matrix from its first element to its last, in whole words.
    pub(crate) fn matrix_bytes(&self) -> u64 {
        Matrix::new("logits", 0, self.shape, self.dtype).bytes(self.shape.rows())
    }

    pub(crate) fn check_stride(&self) -> Result<(), GpuError> {
        let per_word = 4 / self.dtype.bytes();
        let stride = self.shape.stride();
        if self.shape.rows() > 1 && !stride.is_multiple_of(per_word) {
            let (offset, alignment) = (stride as u64, per_word as u64);
            return Err(GpuError::Misaligned { what: "stride", offset, alignment });
        }
        Ok(())
    }
}
