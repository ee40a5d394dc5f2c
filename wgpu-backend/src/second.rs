//! A second row beside each row: a teacher's logits, or labels.

use crate::GpuError;
use crate::dispatch::Bound;
use crate::job::Part;
use crate::plan::{Cut, Matrix};
use std::ops::Range;
use tokenloss_core::{Dtype, Shape, check_length};
use tokenloss_shaders::{Params, binding};
use wgpu::BufferBinding;

/// The teacher's logits on the GPU. They are read only.
#[derive(Debug, Clone)]
pub struct TeacherData<'a> {
    /// The student's rows and vocabulary, and any stride.
    pub shape: Shape,
    /// The storage type, which may differ from the student's.
    pub dtype: Dtype,
    /// `[rows, stride]`.
    pub logits: BufferBinding<'a>,
}

/// The checked part of such rows.
pub(crate) struct SecondPart<'a> {
    pub(crate) part: Part<'a>,
    pub(crate) dtype: Dtype,
    shape: Shape,
}

impl<'a> SecondPart<'a> {
    pub(crate) fn of_teacher(student: Shape, teacher: &TeacherData<'a>) -> Result<Self, GpuError> {
        let TeacherData { shape, dtype, ref logits } = *teacher;
        check_length("teacher rows", student.rows(), shape.rows())?;
        check_length("teacher vocab", student.vocab(), shape.vocab())?;
        Self::new("teacher", shape, dtype, logits)
    }

    pub(crate) fn new(
        what: &'static str,
        shape: Shape,
        dtype: Dtype,
        rows: &BufferBinding<'a>,
    ) -> Result<Self, GpuError> {
        let bytes = Matrix::new(what, 0, shape, dtype).bytes(shape.rows());
        Ok(Self { part: Part::new(what, rows, bytes)?, dtype, shape })
    }

    /// What they take.
    pub(crate) fn matrix(&self) -> Matrix {
        Matrix::new(self.part.what, self.part.offset, self.shape, self.dtype)
    }

    /// The bindings of some rows.
    pub(crate) fn bind(
        &self,
        cut: &Cut,
        rows: &Range<usize>,
        params: &mut Params,
        bound: &mut Vec<Bound<'a>>,
    ) {
        let matrix = self.matrix();
        let (first, bytes) = (rows.start as u64 * matrix.row_bytes, matrix.bytes(rows.len()));
        let (part, into) = self.part.bound(cut, binding::TEACHER, first, bytes);
        bound.push(part);
        params.teacher_first = (into / self.dtype.bytes() as u64) as u32;
        params.teacher_stride = self.shape.stride() as u32;
    }
}
