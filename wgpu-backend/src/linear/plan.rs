//! From a budget of bytes to chunks, before anything runs.

use crate::job::{RECORD_BYTES, TOTALS_BYTES};
use crate::kernels::COUNT_BYTES;
use crate::plan::{Cut, LOGITS_PER_DISPATCH, slot_bytes};
use crate::{GpuError, Variant};
use std::ops::Range;
use tokenloss_core::{Dtype, Error, LinearOptions, Reduction};
use tokenloss_shaders::Product;

/// Whole rows of logits are held where this many of them fit: with fewer, reading the weight three times for each few
/// rows costs more than computing logits twice.
const LEAST_ROWS: usize = 16;

/// Rows at a time where the tile is narrower than the vocabulary.
const MOST_ROWS: usize = Product::SIDE;

/// The fewest columns that are worth a tile.
const STEP: usize = 16;

/// The most multiplications of one dispatch: 0.05 s on a small integrated GPU of 1e12 a second, and far from the 2 s
/// after which desktop systems reset a GPU on any that is less than twenty times slower.
const PRODUCTS_PER_DISPATCH: u64 = 1 << 36;

/// What is to be computed, as far as its cost depends on it.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearRequest {
    /// Rows.
    pub rows: usize,
    /// Elements of a hidden state.
    pub dim: usize,
    /// Rows of the weight: the vocabulary, or a shard of it.
    pub columns: usize,
    /// The storage type of hidden states, weight and bias.
    pub dtype: Dtype,
    /// The reduction.
    pub reduction: Reduction,
    /// Whether `dhidden` is wanted.
    pub dhidden: bool,
    /// Whether `dweight` is wanted.
    pub dweight: bool,
    /// Whether `dbias` is wanted.
    pub dbias: bool,
    /// Whether the rows' records have a binding of the caller's.
    pub records: bool,
    /// Whether the totals have one, and so are wanted.
    pub totals: bool,
    /// Budget and chunks.
    pub options: LinearOptions,
}

/// What a request takes.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearRequirements {
    /// Features to create the device with.
    pub features: wgpu::Features,
    /// Limits to create the device with: wgpu's defaults, raised where one row of the weight needs a larger binding, or
    /// the largest matrix a larger buffer. A weight in pieces needs less.
    pub limits: wgpu::Limits,
    /// Bytes of the buffers that `encode_linear` creates, but for the uniforms. Never more than the budget.
    pub scratch_bytes: u64,
    /// Bytes of the uniforms, which come on top: 256 or fewer a dispatch. They exceed a tenth of the budget only where it
    /// is so small that the tile is cut thousands of times.
    pub uniform_bytes: u64,
    /// Dispatches that `encode_linear` records, if every matrix is one binding at an aligned offset. Pieces may add some.
    pub dispatches: usize,
    /// Rows of a chunk.
    pub chunk_rows: usize,
    /// Columns of logits that are held at a time.
    pub chunk_vocab: usize,
}

/// How a call is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Elements from one row of the tile to the next: groups of four words.
    pub(super) stride: usize,
}

/// What a teacher's row takes beside a student's. The default is no teacher.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TeacherCost {
    /// Bytes of all that is known of a row until the end.
    pub(super) fixed: u64,
    /// Elements of a hidden state, and bytes of each, where the logits are not given: they have a tile of their own.
    pub(super) hidden: Option<(usize, usize)>,
    /// Bytes from one row of given logits to the next.
    pub(super) given: u64,
}

impl Plan {
    pub(super) fn new(request: &LinearRequest, teacher: &TeacherCost, cut: &Cut) -> Result<Self, GpuError> {
        let LinearRequest { rows, dim, columns, dtype, ref options, .. } = *request;
        options.check()?;
        if options.block_tolerance > 0.0 {
            return Err(GpuError::Unsupported { what: "block_tolerance" });
        }
        let widest = (dim * if request.dweight { 4 } else { dtype.bytes() }) as u64;
        let (of_teacher, element) = teacher.hidden.unwrap_or_default();
        let room = cut.binding.saturating_sub(cut.alignment);
        let rows_of_bindings = [
            ("weight", widest),
            ("teacher weight", (of_teacher * element) as u64),
            ("teacher", teacher.given),
        ];
        for (what, bytes) in rows_of_bindings {
            if bytes > room {
                return Err(GpuError::RowTooLarge { what, bytes: bytes + cut.alignment, limit: cut.binding });
            }
        }
        let stride = |columns: usize| columns.next_multiple_of(4);
        let tiles = 1 + usize::from(teacher.hidden.is_some());
        let row_bytes =
            |columns: usize| request.row_bytes(stride(columns)) as usize + 4 * (tiles - 1) * stride(columns);
        let budget = options.budget.0;
        let fixed = request.fixed_bytes() as usize + rows * teacher.fixed as usize;
        let most_columns = options.chunk_vocab.unwrap_or(usize::MAX).min(columns);
        let least = most_columns.min(STEP);
        let needed = fixed + row_bytes(least) + 4;
        if budget < needed {
            return Err(Error::Budget { needed, budget }.into());
        }
        // What a dispatch and a binding allow, whatever the budget.
        let rows_bound = |columns: usize| {
            let in_tile = room / (4 * stride(columns) as u64);
            let others = room / RECORD_BYTES.max(4 * dim.max(of_teacher) as u64).max(teacher.given);
            let logits = LOGITS_PER_DISPATCH / columns as u64;
            let groups = cut.groups * cut.groups;
            usize::try_from(in_tile.min(others).min(logits).min(groups)).unwrap_or(usize::MAX)
        };
        let most_rows = options.chunk_rows.unwrap_or(usize::MAX).min(rows);
        let fitting = |columns: usize| {
            ((budget - fixed - 4) / row_bytes(columns)).min(rows_bound(columns)).min(most_rows)
        };
        let (chunk, columns) = if fitting(most_columns) >= most_rows.min(LEAST_ROWS) {
            (fitting(most_columns), most_columns)
        } else {
            let chunk = fitting(least.max(most_columns.min(1024))).clamp(1, MOST_ROWS);
            let share = (budget - fixed - 4) / chunk;
            let columns = (share.saturating_sub(row_bytes(0)) / (16 * tiles) * 4).clamp(least, most_columns);
            let bound = usize::try_from(room / (4 * chunk as u64)).unwrap_or(usize::MAX) / 4 * 4;
            (chunk, columns.min(bound.max(4)))
        };
        let chunk = rows.div_ceil(rows.div_ceil(chunk));
        Ok(Self { rows: chunk, columns, stride: stride(columns) })
    }

    pub(super) fn tile_bytes(&self) -> u64 {
        4 * (self.rows * self.stride) as u64
    }

    pub(super) fn list_bytes(&self) -> u64 {
        4 * (1 + self.rows as u64)
    }

    pub(super) fn sums_bytes(&self, dim: usize) -> u64 {
        4 * (self.rows * dim) as u64
    }

    pub(super) fn chunks(&self, rows: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let step = self.rows;
        (0..rows).step_by(step).map(move |row| row..rows.min(row + step))
    }

    pub(super) fn tiles(&self, columns: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let step = self.columns;
        (0..columns).step_by(step).map(move |first| first..columns.min(first + step))
    }

    /// Columns that one dispatch of a product may cover, and whose rows of so many bytes lie in one binding.
    pub(super) fn most_columns(&self, cut: &Cut, dim: usize, row_bytes: usize) -> usize {
        let side = Product::SIDE as u64;
        let columns = (PRODUCTS_PER_DISPATCH / (self.rows * dim) as u64 / side * side).max(side);
        let bound = cut.binding.saturating_sub(cut.alignment) / row_bytes as u64;
        usize::try_from(columns.min(bound).max(1)).unwrap_or(usize::MAX)
    }

    /// Whether logits are computed once: they stay in the tile until they are pushed back.
    pub(super) fn is_fused(&self, request: &LinearRequest) -> bool {
        request.has_gradient() && self.columns == request.columns && !request.reduction.needs_kept()
    }

    fn dispatches(&self, request: &LinearRequest, cut: &Cut) -> usize {
        let LinearRequest { rows, dim, columns, dtype, dhidden, dweight, dbias, .. } = *request;
        let slices = |bytes: usize| -> usize {
            let most = self.most_columns(cut, dim, dim * bytes);
            self.tiles(columns).map(|tile| tile.len().div_ceil(most)).sum()
        };
        let tiles = columns.div_ceil(self.columns);
        let logits = slices(dtype.bytes());
        // The list, the logits, what they know, and the verdict.
        let mut chunk = 1 + logits + tiles + 1;
        if request.has_gradient() {
            let products = usize::from(dhidden) + usize::from(dweight);
            chunk += 1 + tiles * (1 + usize::from(dbias)) + usize::from(dhidden);
            chunk += products * slices(if dweight { 4 } else { dtype.bytes() });
            chunk += if self.is_fused(request) { 0 } else { logits };
        }
        let counts = usize::from(request.has_gradient()) + usize::from(request.totals);
        rows.div_ceil(self.rows) * chunk + counts * cut.totals(rows, RECORD_BYTES).len()
    }
}

impl LinearRequest {
    fn has_gradient(&self) -> bool {
        self.dhidden || self.dweight || self.dbias
    }

    /// A row of a chunk: its logits, its sums and its place in the list.
    fn row_bytes(&self, stride: usize) -> u64 {
        let sums = if self.dhidden { self.dim } else { 0 };
        4 * (stride + sums + 1) as u64
    }

    pub(super) fn fixed_bytes(&self) -> u64 {
        let records = if self.records { 0 } else { self.rows as u64 * RECORD_BYTES };
        let totals = if self.totals { 0 } else { TOTALS_BYTES };
        records + totals + COUNT_BYTES
    }
}

/// What a request takes on a device with these limits.
///
/// # Errors
/// [`GpuError::Core`] for options, budget and denominator; [`GpuError::RowTooLarge`] if a row of the weight does not fit
/// in a binding; [`GpuError::Unsupported`] for a block tolerance.
pub fn linear_requirements(
    request: &LinearRequest,
    variant: Variant,
    limits: &wgpu::Limits,
) -> Result<LinearRequirements, GpuError> {
    request.reduction.check()?;
    let cut = Cut::new(limits);
    let plan = Plan::new(request, &TeacherCost::default(), &cut)?;
    let dispatches = plan.dispatches(request, &cut);
    let sums = if request.dhidden { plan.sums_bytes(request.dim) } else { 0 };
    let default = wgpu::Limits::default();
    let bytes = if request.dweight { 4 } else { request.dtype.bytes() };
    let largest = (request.dim * bytes) as u64 * request.columns.max(request.rows) as u64;
    let row = (request.dim * bytes) as u64 + slot_bytes(limits);
    Ok(LinearRequirements {
        features: variant.features(),
        limits: wgpu::Limits {
            max_storage_buffer_binding_size: default
                .max_storage_buffer_binding_size
                .max(row.next_multiple_of(16)),
            max_buffer_size: default.max_buffer_size.max(largest.next_multiple_of(16)),
            ..default
        },
        scratch_bytes: request.fixed_bytes() + plan.tile_bytes() + plan.list_bytes() + sums,
        uniform_bytes: dispatches as u64 * slot_bytes(limits),
        dispatches,
        chunk_rows: plan.rows,
        chunk_vocab: plan.columns,
    })
}
