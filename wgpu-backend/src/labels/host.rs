//! Rows with labels on host slices.

use super::{LabelData, LabelJob};
use crate::gpu::{Host, Results, Rows, SlicePart, records, row_bytes, whole};
use crate::{Gpu, GpuError, Gradient, ShaderLabel, words};
use tokenloss_core::label::LabelObjective;
use tokenloss_core::{
    Batch, Denominator, Element, Error, EvaluateLabels, Labels, Logits, Outputs, Reduction, RowPartials,
    Shape, Totals, check_unmapped,
};
use tokenloss_shaders::{STATUS_LABEL, STATUS_NO_MASS};

impl<O: ShaderLabel + LabelObjective> EvaluateLabels<O> for Gpu {
    fn evaluate_labels<E: Element, U: Element>(
        &self,
        objective: &O,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        labels: Labels<'_, U>,
        losses: Option<&mut [f32]>,
    ) -> Result<Totals, GpuError> {
        let shape = batch.shape();
        reduction.check()?;
        check_unmapped(batch)?;
        logits.check(shape)?;
        labels.check(shape)?;
        let outputs = Outputs { losses, ..Outputs::default() };
        outputs.check(shape.rows())?;
        // Every row that takes part is kept.
        let reduction = if reduction.needs_kept() { Reduction::Mean(Denominator::Valid) } else { reduction };
        let stride = words::padded_stride(shape.vocab(), E::DTYPE);
        let label_stride = words::padded_stride(shape.vocab(), U::DTYPE);
        let label_row = row_bytes(label_stride, U::DTYPE);
        let matrices = [("logits", row_bytes(stride, E::DTYPE)), ("labels", label_row)];
        let slices = self.slices(shape.rows(), &matrices)?;
        let mut logits = Host::of(logits);
        let has_gradient = logits.has_gradient;
        Results::new(batch, outputs).of(reduction, &slices, has_gradient, |results, part| {
            let SlicePart { first, rows: count, scale, gradient } = part;
            let rows = Rows { batch, logits: logits.read(), first, rows: count, stride };
            let downloaded = self.guarded(rows.bytes() + count as u64 * label_row, || {
                let slice = rows.upload(self, None)?;
                let of_labels = (first..first + count).map(|row| labels.row(row));
                let of_rows = self.upload(&words::of_rows(of_labels, label_stride))?;
                let class_weights = labels.class_weights().map(bytemuck::cast_slice);
                let class_weights = class_weights.map(|weights| self.upload(weights)).transpose()?;
                let mut encoder = self.encoder();
                let job = LabelJob {
                    data: slice.data(E::DTYPE),
                    labels: LabelData {
                        shape: Shape::new(count, shape.vocab())?.with_stride(label_stride)?,
                        dtype: U::DTYPE,
                        labels: whole(&of_rows),
                        class_weights: class_weights.as_ref().map(whole),
                    },
                    objective,
                    reduction: Reduction::Sum,
                    weights: slice.weights.as_ref().map(whole),
                    gradient: if gradient { Gradient::InPlace } else { Gradient::None },
                    records: Some(whole(&slice.records)),
                    totals: None,
                };
                self.kernels().encode_labels_scaled(&mut encoder, &job, scale)?;
                let both = [&slice.records, &slice.logits];
                self.download(encoder, if gradient { &both } else { &both[..1] })
            })?;
            for (row, record) in (first..).zip(records(&downloaded[0])) {
                let fault = fault(objective, &rows, labels, row, record.status);
                results.take(row, &record, &RowPartials::zero(), record.live, fault);
            }
            if let Some(words) = downloaded.get(1) {
                logits.write(shape, first, stride, words);
            }
            Ok(())
        })
    }
}

/// The fault that a record's status names.
fn fault<O: LabelObjective, E: Element, U: Element>(
    objective: &O,
    rows: &Rows<'_, E>,
    labels: Labels<'_, U>,
    row: usize,
    status: u32,
) -> Option<Error> {
    if status <= STATUS_LABEL || status == STATUS_NO_MASS {
        return rows.fault(row, status);
    }
    let column = (status - STATUS_LABEL) as usize - 1;
    let label = labels.row(row).get(column).map_or(f32::NAN, |label| label.to_f32());
    let [min, max] = objective.domain();
    // What lies inside has its fault from the class that is masked.
    let [min, max] = if label >= min && label <= max { [0.0, 0.0] } else { [min, max] };
    Some(Error::Label { row, column, label, min, max })
}
