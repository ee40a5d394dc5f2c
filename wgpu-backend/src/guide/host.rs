//! Rows guided by a teacher's on host slices.

use super::GuidanceBindings;
use crate::gpu::{Rows, row_bytes, whole};
use crate::second::TeacherData;
use crate::{Gpu, GpuError, ShaderObjective, words};
use std::ops::Range;
use tokenloss_core::{
    Batch, Element, Error, EvaluateGuided, Guidance, Logits, Outputs, Reduction, RowObjective, Shape,
    Teacher, Totals,
};
use tokenloss_shaders::{STATUS_BAD_TARGET, STATUS_NO_MASS, STATUS_TEACHER};

/// What guides the rows of a call.
#[derive(Clone, Copy)]
pub(crate) struct Guide<'a, U> {
    guidance: Guidance<'a>,
    teacher: Teacher<'a, U>,
}

/// The same of some rows, uploaded.
pub(crate) struct UploadedGuide {
    data: (Shape, tokenloss_core::Dtype),
    teacher: wgpu::Buffer,
    strength: f32,
    strengths: Option<wgpu::Buffer>,
}

impl<U: Element> Guide<'_, U> {
    pub(crate) fn check(&self, shape: Shape) -> Result<(), Error> {
        self.guidance.check(shape.rows())?;
        self.teacher.check(shape)
    }

    /// Bytes of a row on the device.
    pub(crate) fn row_bytes(&self, vocab: usize) -> u64 {
        row_bytes(words::padded_stride(vocab, U::DTYPE), U::DTYPE)
    }

    pub(crate) fn upload(
        &self,
        gpu: &Gpu,
        vocab: usize,
        rows: Range<usize>,
    ) -> Result<UploadedGuide, GpuError> {
        let stride = words::padded_stride(vocab, U::DTYPE);
        let shape = Shape::new(rows.len(), vocab)?.with_stride(stride)?;
        let (strength, strengths) = match self.guidance {
            Guidance::All(strength) => (strength, None),
            Guidance::Each(strengths) => (1.0, Some(&strengths[rows.clone()])),
        };
        Ok(UploadedGuide {
            data: (shape, U::DTYPE),
            teacher: gpu.upload(&words::of_rows(rows.map(|row| self.teacher.row(row)), stride))?,
            strength,
            strengths: strengths.map(|each| gpu.upload(bytemuck::cast_slice(each))).transpose()?,
        })
    }

    /// The fault that a record's status names.
    pub(crate) fn fault<E: Element>(&self, rows: &Rows<'_, E>, row: usize, status: u32) -> Option<Error> {
        let is_bad = |x: f32| x.is_nan() || x == f32::INFINITY;
        match status {
            0 | STATUS_NO_MASS | STATUS_BAD_TARGET => rows.fault(row, status),
            status if status > STATUS_TEACHER => {
                let column = (status - STATUS_TEACHER) as usize - 1;
                let value = self.teacher.row(row).get(column).map_or(f32::NAN, |u| u.to_f32());
                Some(Error::TeacherNonFinite { row, column, value })
            }
            status => match rows.fault(row, status)? {
                // Of two numbers that are fine: the guided one is not.
                Error::NonFinite { row, column, value } if !is_bad(value) => {
                    let strength = self.guidance.of_row(row);
                    let of_teacher = self.teacher.row(row)[column].to_f32();
                    let value = if strength == 1.0 {
                        value
                    } else {
                        strength.mul_add(value, (1.0 - strength) * of_teacher)
                    };
                    Some(Error::NonFinite { row, column, value })
                }
                other => Some(other),
            },
        }
    }
}

impl UploadedGuide {
    pub(crate) fn bindings(&self) -> GuidanceBindings<'_> {
        let (shape, dtype) = self.data;
        GuidanceBindings {
            teacher: TeacherData { shape, dtype, logits: whole(&self.teacher) },
            strength: self.strength,
            rows: self.strengths.as_ref().map(whole),
        }
    }
}

impl<O: ShaderObjective + RowObjective> EvaluateGuided<O> for Gpu {
    fn evaluate_guided<E: Element, U: Element>(
        &self,
        objective: &O,
        guidance: Guidance<'_>,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        teacher: Teacher<'_, U>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, GpuError> {
        let guide = Some(Guide { guidance, teacher });
        self.evaluate_rows(objective, guide, reduction, batch, logits, outputs)
    }
}
