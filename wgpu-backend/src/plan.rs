//! How a batch is cut into dispatches, computed before anything runs.

use crate::second::Second;
use crate::{GpuError, Variant};
use tokenloss_core::{Dtype, Reduction, Shape};

/// The most logits that one dispatch covers, unless a single row has more. Desktop systems reset a GPU that is
/// busy for about 2 s; at 1e9 logits a second, which a small integrated one does, this is 0.13 s.
pub const LOGITS_PER_DISPATCH: u64 = 1 << 27;

/// Rows of one dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) row: usize,
    pub(crate) rows: usize,
}

/// Rows in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matrix {
    pub(crate) what: &'static str,
    /// Where the first row starts.
    pub(crate) offset: u64,
    /// From one row to the next.
    pub(crate) row_bytes: u64,
    /// Of a row without its padding.
    pub(crate) last_bytes: u64,
}

impl Matrix {
    pub(crate) fn new(what: &'static str, offset: u64, shape: Shape, dtype: Dtype) -> Self {
        let row_bytes = (shape.stride() * dtype.bytes()) as u64;
        Self { what, offset, row_bytes, last_bytes: (shape.vocab() * dtype.bytes()) as u64 }
    }

    /// Bytes from the first element of some rows to their last, in whole words.
    pub(crate) fn bytes(&self, rows: usize) -> u64 {
        ((rows as u64 - 1) * self.row_bytes + self.last_bytes).next_multiple_of(4)
    }
}

/// The device's limits that decide how work is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) alignment: u64,
    pub(crate) binding: u64,
    pub(crate) groups: u64,
}

impl Cut {
    pub(crate) fn new(limits: &wgpu::Limits) -> Self {
        Self {
            // A load of four words must not straddle the start of a binding.
            alignment: u64::from(limits.min_storage_buffer_offset_alignment).max(16),
            // Element indices are u32; a binding that ends within a group of four words would hide the rest.
            binding: limits.max_storage_buffer_binding_size.min(1 << 31) / 16 * 16,
            groups: u64::from(limits.max_compute_workgroups_per_dimension),
        }
    }

    /// Where a binding that contains this offset starts, and how far into it the offset lies.
    pub(crate) fn align(&self, offset: u64) -> (u64, u64) {
        let into = offset % self.alignment;
        (offset - into, into)
    }

    /// Rows that fit if each takes this many bytes and the first starts anywhere.
    pub(crate) fn rows_of(&self, bytes: u64) -> u64 {
        (self.binding.saturating_sub(self.alignment) / bytes).max(1)
    }

    /// Cuts rows so that no binding of the matrices is too large.
    pub(crate) fn rows(
        &self,
        shape: Shape,
        matrices: &[Matrix],
        record_bytes: u64,
    ) -> Result<Vec<Slice>, GpuError> {
        let most = (self.groups * self.groups)
            .min((LOGITS_PER_DISPATCH / shape.vocab() as u64).max(1))
            .min(self.rows_of(record_bytes));
        let mut slices = Vec::new();
        let mut row = 0;
        while row < shape.rows() {
            let mut rows = most.min((shape.rows() - row) as u64);
            for matrix in matrices {
                let into = self.align(matrix.offset + row as u64 * matrix.row_bytes).1;
                let bytes = (into + matrix.last_bytes).next_multiple_of(4);
                let room = self.binding.checked_sub(bytes).ok_or(GpuError::RowTooLarge {
                    what: matrix.what,
                    bytes,
                    limit: self.binding,
                })?;
                rows = rows.min(1 + room / matrix.row_bytes);
            }
            slices.push(Slice { row, rows: rows as usize });
            row += rows as usize;
        }
        Ok(slices)
    }

    /// Cuts rows for the totals, which read only records, targets and weights.
    pub(crate) fn totals(&self, rows: usize, record_bytes: u64) -> Vec<Slice> {
        let most = self.rows_of(record_bytes).min(u64::from(u32::MAX)) as usize;
        (0..rows).step_by(most).map(|row| Slice { row, rows: most.min(rows - row) }).collect()
    }

    /// Folds groups into two dimensions, nearly square, which wastes the fewest.
    pub(crate) fn fold(&self, groups: u64) -> (u32, u32) {
        if groups <= self.groups {
            return (groups as u32, 1);
        }
        let lines = groups.div_ceil(self.groups);
        (groups.div_ceil(lines) as u32, lines as u32)
    }
}

/// What is to be computed, as far as its cost depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    /// The shape.
    pub shape: Shape,
    /// The storage type.
    pub dtype: Dtype,
    /// The reduction.
    pub reduction: Reduction,
    /// Whether a gradient is wanted.
    pub gradient: bool,
    /// Whether the rows' records have a binding of the caller's.
    pub records: bool,
    /// Whether the totals have one, and so are wanted.
    pub totals: bool,
    /// What lies beside the logits.
    pub beside: Second,
}

/// What a request takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Requirements {
    /// Features to create the device with.
    pub features: wgpu::Features,
    /// Limits to create the device with: wgpu's defaults, raised where one row of logits, or of what lies beside them, needs a
    /// larger binding or the whole of them a larger buffer.
    pub limits: wgpu::Limits,
    /// Bytes of the buffers that the call creates: uniforms, what is gathered of guided rows, and records, totals and divergences
    /// that have no binding.
    pub scratch_bytes: u64,
    /// Dispatches that the call records.
    pub dispatches: usize,
}

/// What a request takes on a device with these limits.
///
/// Bindings are taken to start at aligned offsets; others may add a dispatch.
///
/// # Errors
/// [`GpuError::RowTooLarge`] if a row does not fit in a binding; [`GpuError::Core`] for the denominator and for a second shape of
/// other rows or another vocabulary.
pub fn requirements(
    request: &Request,
    variant: Variant,
    limits: &wgpu::Limits,
) -> Result<Requirements, GpuError> {
    let Request { shape, dtype, reduction, gradient, records, totals, beside } = *request;
    reduction.check()?;
    let cut = Cut::new(limits);
    let all: Vec<_> = [("logits", shape, dtype)].into_iter().chain(beside.matrix()).collect();
    beside.check(shape)?;
    let matrices: Vec<_> =
        all.iter().map(|(what, shape, dtype)| Matrix::new(what, 0, *shape, *dtype)).collect();
    let sweeps = cut.rows(shape, &matrices, crate::job::RECORD_BYTES)?.len();
    let counts = cut.totals(shape.rows(), crate::job::RECORD_BYTES).len();
    // Every row with labels that takes part is kept.
    let two_moves = gradient && reduction.needs_kept() && !matches!(beside, Second::Labels { .. });
    let count_first = gradient && !two_moves;
    let sum_after = totals || two_moves;
    let dispatches = sweeps * (1 + usize::from(two_moves))
        + counts * usize::from(count_first)
        + counts * usize::from(sum_after)
        + counts * usize::from(matches!(beside, Second::Guide { .. }));
    let slot = slot_bytes(limits);
    let mut scratch_bytes = dispatches as u64 * slot + shape.rows() as u64 * beside.row_bytes();
    if !records {
        scratch_bytes += shape.rows() as u64 * crate::job::RECORD_BYTES;
    }
    if !totals {
        scratch_bytes += crate::job::TOTALS_BYTES;
    }
    let default = wgpu::Limits::default();
    let most = |bytes: fn(&Shape, &Dtype) -> usize| {
        all.iter()
            .map(|(_, shape, dtype)| (bytes(shape, dtype) as u64).next_multiple_of(16))
            .fold(0, u64::max)
    };
    let row = most(|shape, dtype| shape.vocab() * dtype.bytes());
    let matrix = most(|shape, dtype| shape.elements() * dtype.bytes());
    Ok(Requirements {
        features: variant.features(),
        limits: wgpu::Limits {
            max_storage_buffer_binding_size: default.max_storage_buffer_binding_size.max(row),
            max_buffer_size: default.max_buffer_size.max(matrix),
            ..default
        },
        scratch_bytes,
        dispatches,
    })
}

/// Bytes from one uniform to the next.
pub(crate) fn slot_bytes(limits: &wgpu::Limits) -> u64 {
    (tokenloss_shaders::Params::BYTES as u64)
        .next_multiple_of(u64::from(limits.min_uniform_buffer_offset_alignment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut() -> Cut {
        Cut { alignment: 256, binding: 1 << 20, groups: 64 }
    }

    #[test]
    fn slices_follow_each_other_and_fit() {
        let shape = Shape::new(1000, 1001).unwrap();
        for offset in [0, 4, 252, 256, 1000] {
            let logits = Matrix::new("logits", offset, shape, Dtype::F32);
            let slices = cut().rows(shape, &[logits], 64).unwrap();
            let mut next = 0;
            for slice in &slices {
                assert_eq!(slice.row, next);
                next += slice.rows;
                let (_, into) = cut().align(offset + slice.row as u64 * 4004);
                assert!(into + slice.rows as u64 * 4004 <= 1 << 20);
            }
            assert_eq!(next, 1000);
            assert_eq!(slices.len(), 4);
        }
    }

    #[test]
    fn a_fold_covers_all_groups_within_the_limit() {
        for groups in [1, 63, 64, 65, 100, 4095, 4096] {
            let (x, y) = cut().fold(groups);
            assert!(u64::from(x) * u64::from(y) >= groups && x <= 64 && y <= 64, "{groups}: {x} x {y}");
            assert!(u64::from(x) * u64::from(y) - groups < u64::from(y), "{groups} waste a line");
        }
    }

    #[test]
    fn a_row_larger_than_a_binding_is_an_error_with_both_numbers() {
        let shape = Shape::new(2, 300_000).unwrap();
        let logits = Matrix::new("logits", 0, shape, Dtype::F32);
        let error = cut().rows(shape, &[logits], 64).unwrap_err();
        assert_eq!(
            error.to_string(),
            "logits: a row needs a binding of 1200000 bytes, the device allows 1048576"
        );
    }
}
