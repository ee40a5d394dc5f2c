//! Pairs of rows on host slices.

use super::PairJob;
use crate::gpu::{Host, Results, Rows, SlicePart, partials_of, records, row_bytes, whole};
use crate::second::TeacherData;
use crate::{Gpu, GpuError, Gradient, ShaderDivergence, ShaderObjective, words};
use tokenloss_core::divergence::{Distillation, Divergence};
use tokenloss_core::{
    Batch, Element, Error, EvaluatePair, Logits, PairOutputs, Reduction, RowObjective, Shape, Teacher,
    Totals, check_unmapped,
};
use tokenloss_shaders::{
    STATUS_BAD_TARGET, STATUS_INFINITE, STATUS_NO_MASS, STATUS_TEACHER, STATUS_TEACHER_NO_MASS,
};

/// The fault that a record's status names.
fn fault<E: Element, U: Element>(
    rows: &Rows<'_, E>,
    teacher: &Teacher<'_, U>,
    row: usize,
    status: u32,
) -> Option<Error> {
    let of_teacher = |column: usize| teacher.row(row).get(column).map_or(f32::NAN, |u| u.to_f32());
    match status {
        STATUS_NO_MASS | STATUS_BAD_TARGET => rows.fault(row, status),
        STATUS_TEACHER_NO_MASS => Some(Error::TeacherNoMass { row, vocab: rows.batch.shape().vocab() }),
        status if status > STATUS_INFINITE => {
            let column = (status - STATUS_INFINITE) as usize - 1;
            let student = rows.row(row).get(column).map_or(f32::NAN, |z| z.to_f32());
            Some(Error::Support { row, column, student, teacher: of_teacher(column) })
        }
        status if status > STATUS_TEACHER => {
            let column = (status - STATUS_TEACHER) as usize - 1;
            Some(Error::TeacherNonFinite { row, column, value: of_teacher(column) })
        }
        status => rows.fault(row, status),
    }
}

impl<O, D> EvaluatePair<O, D> for Gpu
where
    O: ShaderObjective + RowObjective,
    D: ShaderDivergence + Divergence,
{
    fn evaluate_pair<E: Element, U: Element>(
        &self,
        objective: &O,
        distillation: &Distillation<D>,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        teacher: Teacher<'_, U>,
        outputs: PairOutputs<'_>,
    ) -> Result<Totals, GpuError> {
        let shape = batch.shape();
        reduction.check()?;
        check_unmapped(batch)?;
        logits.check(shape)?;
        teacher.check(shape)?;
        outputs.check(shape.rows())?;
        let divergence: &dyn ShaderDivergence = distillation.divergence();
        let distillation = distillation.with_divergence(divergence);
        let PairOutputs { outputs, mut divergences } = outputs;
        let stride = words::padded_stride(shape.vocab(), E::DTYPE);
        let teacher_stride = words::padded_stride(shape.vocab(), U::DTYPE);
        let teacher_row = row_bytes(teacher_stride, U::DTYPE);
        let matrices = [("logits", row_bytes(stride, E::DTYPE)), ("teacher", teacher_row)];
        let slices = self.slices(shape.rows(), &matrices)?;
        let mut logits = Host::of(logits);
        let has_gradient = logits.has_gradient;
        Results::new(batch, outputs).of(reduction, &slices, has_gradient, |results, part| {
            let SlicePart { first, rows: count, scale, gradient } = part;
            let rows = Rows { batch, logits: logits.read(), first, rows: count, stride };
            let downloaded = self.guarded(rows.bytes() + count as u64 * teacher_row, || {
                let slice = rows.upload(self, None)?;
                let of_teacher = (first..first + count).map(|row| teacher.row(row));
                let teacher = self.upload(&words::of_rows(of_teacher, teacher_stride))?;
                let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
                let divergences = self.buffer(4 * count as u64, usage);
                let mut encoder = self.encoder();
                let job = PairJob {
                    data: slice.data(E::DTYPE),
                    teacher: TeacherData {
                        shape: Shape::new(count, shape.vocab())?.with_stride(teacher_stride)?,
                        dtype: U::DTYPE,
                        logits: whole(&teacher),
                    },
                    objective,
                    distillation,
                    reduction: Reduction::Sum,
                    weights: slice.weights.as_ref().map(whole),
                    gradient: if gradient { Gradient::InPlace } else { Gradient::None },
                    records: Some(whole(&slice.records)),
                    divergences: Some(whole(&divergences)),
                    totals: None,
                };
                self.kernels().encode_pair_scaled(&mut encoder, &job, scale)?;
                let all = [&slice.records, &divergences, &slice.logits];
                self.download(encoder, if gradient { &all } else { &all[..2] })
            })?;
            for ((row, record), value) in (first..).zip(records(&downloaded[0])).zip(&downloaded[1]) {
                if let Some(divergences) = &mut divergences {
                    divergences[row] = f32::from_bits(*value);
                }
                let partials = partials_of(&record).scaled(batch.weight(row).into());
                let fault = fault(&rows, &teacher, row, record.status);
                results.take(row, &record, &partials, record.live, fault);
            }
            if let Some(words) = downloaded.get(2) {
                logits.write(shape, first, stride, words);
            }
            Ok(())
        })
    }
}
