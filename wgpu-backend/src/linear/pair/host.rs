//! Pairs of rows without the student's logits, on host slices.

use super::{LinearPairJob, LinearTeacher};
use crate::gpu::{partials_of, records, report, summary_of, whole};
use crate::kernels::Scale;
use crate::linear::host::{Uploaded, fault, logit, product};
use crate::{Gpu, GpuError, ShaderDivergence, ShaderObjective, TeacherData, words};
use tokenloss_core::divergence::{Distillation, Divergence};
use tokenloss_core::{
    Denominator, Element, Error, EvaluateLinearPair, Judged, Linear, LinearGradients, LinearOptions,
    PairOutputs, Reduction, RowObjective, RowVerdict, Shape, TeacherRows, Totals, check_unmapped,
    check_whole,
};
use tokenloss_shaders::{
    STATUS_BAD_TARGET, STATUS_INFINITE, STATUS_NO_MASS, STATUS_TEACHER, STATUS_TEACHER_NO_MASS,
};

/// A teacher on the device.
enum UploadedTeacher {
    Logits(wgpu::Buffer, Shape),
    Head(Box<Uploaded>, usize),
}

impl UploadedTeacher {
    fn new<U: Element>(gpu: &Gpu, student: Shape, teacher: &TeacherRows<'_, U>) -> Result<Self, GpuError> {
        Ok(match teacher {
            TeacherRows::Logits(teacher) => {
                let stride = words::padded_stride(student.vocab(), U::DTYPE);
                let rows = (0..student.rows()).map(|row| teacher.row(row));
                let shape = Shape::new(student.rows(), student.vocab())?.with_stride(stride)?;
                Self::Logits(gpu.upload(&words::of_rows(rows, stride))?, shape)
            }
            TeacherRows::Linear(linear) => {
                Self::Head(Box::new(gpu.upload_linear(linear, None)?), linear.dim())
            }
        })
    }

    fn bindings<U: Element>(&self) -> LinearTeacher<'_> {
        match self {
            Self::Head(uploaded, dim) => LinearTeacher::Head(uploaded.head(*dim, U::DTYPE)),
            Self::Logits(buffer, shape) => {
                LinearTeacher::Logits(TeacherData { shape: *shape, dtype: U::DTYPE, logits: whole(buffer) })
            }
        }
    }
}

/// The fault that a record's status names.
fn fault_of<E: Element, U: Element>(
    linear: &Linear<'_, E>,
    teacher: &TeacherRows<'_, U>,
    row: usize,
    status: u32,
) -> Option<Error> {
    let given = |column: usize| match teacher {
        TeacherRows::Logits(teacher) => teacher.row(row).get(column).map(|u| u.to_f32()),
        TeacherRows::Linear(_) => None,
    };
    match status {
        STATUS_NO_MASS | STATUS_BAD_TARGET => fault(linear, row, status),
        STATUS_TEACHER_NO_MASS => Some(Error::TeacherNoMass { row, vocab: linear.batch().shape().vocab() }),
        status if status > STATUS_INFINITE => {
            let column = (status - STATUS_INFINITE) as usize - 1;
            let of_teacher = match teacher {
                TeacherRows::Linear(teacher) => product(teacher, row, column),
                TeacherRows::Logits(_) => given(column).unwrap_or(f32::NAN),
            };
            let student = product(linear, row, column);
            Some(Error::Support { row, column, student, teacher: of_teacher })
        }
        status if status > STATUS_TEACHER => {
            let column = (status - STATUS_TEACHER) as usize - 1;
            let value = match teacher {
                TeacherRows::Linear(teacher) => logit(teacher, row, column),
                TeacherRows::Logits(_) => given(column).unwrap_or(f32::NAN),
            };
            Some(Error::TeacherNonFinite { row, column, value })
        }
        status => fault(linear, row, status),
    }
}

impl<O, D> EvaluateLinearPair<O, D> for Gpu
where
    O: ShaderObjective + RowObjective,
    D: ShaderDivergence + Divergence,
{
    fn evaluate_linear_pair<E: Element, U: Element, G: Element>(
        &self,
        objective: &O,
        distillation: &Distillation<D>,
        reduction: Reduction,
        linear: &Linear<'_, E>,
        teacher: &TeacherRows<'_, U>,
        options: &LinearOptions,
        mut gradients: LinearGradients<'_, G>,
        outputs: PairOutputs<'_>,
    ) -> Result<Totals, GpuError> {
        let batch = linear.batch();
        check_whole(linear)?;
        reduction.check()?;
        check_unmapped(batch)?;
        teacher.check(batch.shape())?;
        gradients.check(linear)?;
        outputs.check(linear.rows())?;
        let divergence: &dyn ShaderDivergence = distillation.divergence();
        let scale = match reduction {
            Reduction::Mean(Denominator::Valid) => Scale::count(batch.valid() as f64),
            other => Scale::of(other),
        };
        let PairOutputs { outputs, divergences: mut values } = outputs;
        let (words, divergences) = self.guarded(0, || {
            let uploaded = self.upload_linear(linear, None)?;
            let of_teacher = UploadedTeacher::new(self, batch.shape(), teacher)?;
            let buffers = self.upload_gradients(linear.dim(), &gradients)?;
            let divergences = self.result(4 * linear.rows() as u64)?;
            let mut encoder = self.encoder();
            let job = LinearPairJob {
                data: uploaded.data(linear),
                teacher: of_teacher.bindings::<U>(),
                objective,
                distillation: distillation.with_divergence(divergence),
                reduction,
                weights: uploaded.weights.as_ref().map(whole),
                gradients: buffers.buffers::<G>(),
                records: Some(whole(&uploaded.records)),
                divergences: Some(whole(&divergences)),
                totals: None,
                options: *options,
                non_finite: batch.non_finite(),
            };
            self.kernels().encode_linear_pair_scaled(&mut encoder, &job, scale)?;
            let words = self.finish_linear(encoder, &uploaded.records, &buffers, &mut gradients)?;
            let divergences = self.download(self.encoder(), &[&divergences])?.pop().unwrap_or_default();
            Ok((words, divergences))
        })?;
        let (mut bad, mut judged) = (None, Vec::with_capacity(linear.rows()));
        let mut verdicts = Vec::with_capacity(linear.rows());
        for (row, record) in records(&words).enumerate() {
            let (loss, kept) = (record.loss.into(), record.kept);
            let partials = partials_of(&record).scaled(batch.weight(row).into());
            judged.push(Judged { summary: summary_of(&record), partials, loss, kept });
            verdicts.push(RowVerdict { loss, kept, live: record.live });
            bad = bad.or(fault_of(linear, teacher, row, record.status));
        }
        outputs.write(&judged);
        if let Some(values) = &mut values {
            values.iter_mut().zip(&divergences).for_each(|(into, word)| *into = f32::from_bits(*word));
        }
        report(batch, bad)?;
        Ok(Totals::of_rows(batch, reduction, verdicts))
    }
}
