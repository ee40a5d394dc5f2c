//! Matrix products, by the crate `gemm`, one thread each.

/// A matrix in a slice, with strides in elements: rows and columns swap by swapping them.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> View<'a> {
    /// Rows one after the other, `stride` elements apart.
    pub(crate) fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, row_stride: stride, column_stride: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        span(rows, self.row_stride, columns, self.column_stride) <= self.data.len()
    }
}

/// Elements from the first to the last of a matrix that has at least one.
fn span(rows: usize, row_stride: usize, columns: usize, column_stride: usize) -> usize {
    (rows - 1) * row_stride + (columns - 1) * column_stride + 1
}

/// `into [rows, columns] = a [rows, depth] @ b [depth, columns]`, or `+=` where it accumulates. The rows of `into` are
/// `stride` elements apart.
///
/// The order of the additions depends on the shape alone, so that results repeat bit for bit.
pub(crate) fn product(
    into: &mut [f32],
    stride: usize,
    accumulate: bool,
    [rows, depth, columns]: [usize; 3],
    a: View<'_>,
    b: View<'_>,
) {
    if rows == 0 || depth == 0 || columns == 0 {
        return;
    }
    assert!(
        span(rows, stride, columns, 1) <= into.len()
            && columns <= stride.max(columns * usize::from(rows == 1))
    );
    assert!(a.holds(rows, depth) && b.holds(depth, columns));
    // SAFETY: the three matrices lie inside their slices, by the assertions above; `into` is borrowed mutably, so that
    // it overlaps neither of the others; its elements are distinct, since a row is not longer than the stride.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            into.as_mut_ptr(),
            1,
            stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_are_those_of_plain_loops(
            rows in 1usize..20, depth in 1usize..40, columns in 1usize..20, gap in 0usize..3, turn in 0..4, accumulate in any::<bool>()) {
            let numbers = |n: usize, seed: usize| (0..n).map(|i| ((i * 37 + seed) % 17) as f32 - 8.0).collect::<Vec<_>>();
            let view = |rows: usize, columns: usize, turned: bool, data: &'static [f32]| {
                if turned { View::rows(data, rows + gap).transposed() } else { View::rows(data, columns + gap) }
            };
            let (a, b) = (numbers(2000, 3).leak(), numbers(2000, 5).leak());
            let (a, b) = (view(rows, depth, turn % 2 == 1, a), view(depth, columns, turn / 2 == 1, b));
            let mut into = numbers(rows * (columns + gap), 7);
            let mut want = into.clone();
            for i in 0..rows {
                for j in 0..columns {
                    let at = |v: View<'_>, i: usize, j: usize| v.data[i * v.row_stride + j * v.column_stride];
                    let sum: f32 = (0..depth).map(|k| at(a, i, k) * at(b, k, j)).sum();
                    let into = &mut want[i * (columns + gap) + j];
                    *into = if accumulate { *into + sum } else { sum };
                }
            }
            product(&mut into, columns + gap, accumulate, [rows, depth, columns], a, b);
            // Small integers: every order of additions gives the same.
            prop_assert_eq!(into, want);
        }
    }
}
