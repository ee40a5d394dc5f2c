//! The linear form on host slices.

use super::job::{LinearBuffers, LinearData, LinearJob, LinearPartsJob, LinearPushBackJob};
use crate::gpu::{UploadedMap, partials_of, record_of, records, stats_of, summary_of, whole};
use crate::kernels::Scale;
use crate::{Gpu, GpuError, Record, ShaderObjective, TeacherHead, words};
use tokenloss_core::{
    Denominator, Dtype, Element, Error, EvaluateLinear, Judged, Linear, LinearBackend, LinearGradients,
    LinearOptions, NonFinite, Outputs, Reduction, RowObjective, RowPart, RowPartials, RowStats, RowSummary,
    RowVerdict, Totals, check_length, check_whole,
};
use tokenloss_shaders::{RECORD_WORDS, STATUS_BAD_TARGET, STATUS_NO_MASS};

/// The most bytes of a matrix that go up as one buffer.
const PIECE_BYTES: u64 = 1 << 30;

/// The inputs of a call on the device.
pub(crate) struct Uploaded {
    hidden: wgpu::Buffer,
    weight: Vec<wgpu::Buffer>,
    bias: Option<wgpu::Buffer>,
    targets: wgpu::Buffer,
    pub(crate) weights: Option<wgpu::Buffer>,
    pub(crate) records: wgpu::Buffer,
    map: Option<UploadedMap>,
}

/// The gradients of a call on the device.
pub(crate) struct Gradients {
    dhidden: Option<wgpu::Buffer>,
    dweight: Option<Vec<wgpu::Buffer>>,
    dbias: Option<wgpu::Buffer>,
}

fn words_of<E: Element>(values: &[E]) -> Vec<u32> {
    let mut words = vec![0; (values.len() * E::DTYPE.bytes()).div_ceil(4)];
    words::write(values, &mut words);
    words
}

impl Gpu {
    /// Rows of a matrix that go up as one buffer: an even number, so that each begins with a whole word.
    fn piece_rows(&self, row_bytes: usize) -> Result<usize, GpuError> {
        let limit = self.device().limits().max_buffer_size.min(PIECE_BYTES);
        match (limit / row_bytes as u64) as usize / 2 * 2 {
            0 => Err(GpuError::RowTooLarge { what: "weight", bytes: 2 * row_bytes as u64, limit }),
            rows => Ok(rows),
        }
    }

    pub(crate) fn upload_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        records: Option<&[u32]>,
    ) -> Result<Uploaded, GpuError> {
        let (batch, dim) = (linear.batch(), linear.dim());
        let rows = self.piece_rows(dim * E::DTYPE.bytes())?;
        let weights = batch.weights().map(|weights| self.upload(bytemuck::cast_slice(weights)));
        Ok(Uploaded {
            hidden: self.upload(&words_of(linear.hidden()))?,
            weight: linear
                .weight()
                .chunks(rows * dim)
                .map(|piece| self.upload(&words_of(piece)))
                .collect::<Result<_, _>>()?,
            bias: linear.bias().map(|bias| self.upload(&words_of(bias))).transpose()?,
            targets: self.upload(bytemuck::cast_slice(batch.targets()))?,
            weights: weights.transpose()?,
            map: UploadedMap::new(self, batch, 0..linear.rows())?,
            records: match records {
                Some(words) => self.upload(words)?,
                None => self.result((linear.rows() * RECORD_WORDS * 4) as u64)?,
            },
        })
    }

    /// A buffer that is written and brought back.
    pub(crate) fn result(&self, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        self.check_buffer(bytes)?;
        Ok(self.buffer(bytes, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC))
    }

    pub(crate) fn upload_gradients<G: Element>(
        &self,
        dim: usize,
        gradients: &LinearGradients<'_, G>,
    ) -> Result<Gradients, GpuError> {
        let rows = self.piece_rows(4 * dim)?;
        let bytes = |values: &[G]| ((values.len() * G::DTYPE.bytes()) as u64).next_multiple_of(4);
        let dweight = gradients.dweight.as_ref().map(|dweight| {
            dweight.chunks(rows * dim).map(|piece| self.upload(bytemuck::cast_slice(piece))).collect()
        });
        let dbias = gradients.dbias.as_ref().map(|dbias| self.upload(bytemuck::cast_slice(dbias)));
        Ok(Gradients {
            dhidden: gradients.dhidden.as_ref().map(|dhidden| self.result(bytes(dhidden))).transpose()?,
            dweight: dweight.transpose()?,
            dbias: dbias.transpose()?,
        })
    }

    /// Submits, waits, and brings records and gradients back.
    pub(crate) fn finish_linear<G: Element>(
        &self,
        encoder: wgpu::CommandEncoder,
        records: &wgpu::Buffer,
        buffers: &Gradients,
        gradients: &mut LinearGradients<'_, G>,
    ) -> Result<Vec<u32>, GpuError> {
        let mut wanted = vec![records];
        wanted.extend(&buffers.dhidden);
        wanted.extend(buffers.dweight.iter().flatten());
        wanted.extend(&buffers.dbias);
        let mut downloaded = self.download(encoder, &wanted)?.into_iter();
        let records = downloaded.next().unwrap_or_default();
        if let Some(dhidden) = &mut gradients.dhidden {
            words::read(&downloaded.next().unwrap_or_default(), dhidden);
        }
        if let Some(dweight) = &mut gradients.dweight {
            let mut rest = &mut dweight[..];
            for piece in downloaded.by_ref().take(buffers.dweight.iter().flatten().count()) {
                let (into, after) = rest.split_at_mut(piece.len());
                words::read(&piece, into);
                rest = after;
            }
        }
        if let Some(dbias) = &mut gradients.dbias {
            words::read(&downloaded.next().unwrap_or_default(), dbias);
        }
        Ok(records)
    }
}

impl Uploaded {
    pub(crate) fn data<E: Element>(&self, linear: &Linear<'_, E>) -> LinearData<'_> {
        LinearData {
            rows: linear.rows(),
            dim: linear.dim(),
            vocab: linear.batch().shape().vocab(),
            columns: linear.columns(),
            dtype: E::DTYPE,
            hidden: whole(&self.hidden),
            weight: self.weight.iter().map(whole).collect(),
            bias: self.bias.as_ref().map(whole),
            targets: whole(&self.targets),
            map: self.map.as_ref().map(UploadedMap::bindings),
        }
    }
}

impl Uploaded {
    /// As a teacher's.
    pub(crate) fn head(&self, dim: usize, dtype: Dtype) -> TeacherHead<'_> {
        TeacherHead {
            dim,
            dtype,
            hidden: whole(&self.hidden),
            weight: self.weight.iter().map(whole).collect(),
            bias: self.bias.as_ref().map(whole),
        }
    }
}

impl Gradients {
    pub(crate) fn buffers<G: Element>(&self) -> LinearBuffers<'_> {
        LinearBuffers {
            dhidden: self.dhidden.as_ref().map(|buffer| (whole(buffer), G::DTYPE)),
            dweight: self.dweight.as_ref().map(|pieces| pieces.iter().map(whole).collect()),
            dbias: self.dbias.as_ref().map(whole),
        }
    }
}

/// A logit of the columns that the weight holds.
pub(crate) fn product<E: Element>(linear: &Linear<'_, E>, row: usize, column: usize) -> f32 {
    let dim = linear.dim();
    let j = column - linear.columns().start;
    let bias = linear.bias().map_or(0.0, |bias| bias[j].to_f32());
    let (hidden, weight) = (&linear.hidden()[row * dim..][..dim], &linear.weight()[j * dim..][..dim]);
    hidden.iter().zip(weight).fold(bias, |sum, (h, w)| sum + h.to_f32() * w.to_f32())
}

/// One that is bad, for an error that names it.
pub(crate) fn logit<E: Element>(linear: &Linear<'_, E>, row: usize, column: usize) -> f32 {
    let sum = product(linear, row, column);
    // The GPU's order of additions may overflow where this does not.
    if sum.is_finite() { f32::INFINITY } else { sum }
}

/// The fault that a record's status names.
pub(crate) fn fault<E: Element>(linear: &Linear<'_, E>, row: usize, status: u32) -> Option<Error> {
    let vocab = linear.batch().shape().vocab();
    match status {
        0 => None,
        STATUS_NO_MASS => Some(Error::NoMass { row, vocab }),
        STATUS_BAD_TARGET => Some(Error::Target { row, target: linear.batch().targets()[row], vocab }),
        column => {
            let column = column as usize - 1;
            Some(Error::NonFinite { row, column, value: logit(linear, row, column) })
        }
    }
}

/// A record that is not judged.
pub(crate) fn part_of<E: Element>(linear: &Linear<'_, E>, row: usize, record: &Record) -> RowPart {
    if linear.batch().target(row).is_none() {
        return RowPart::empty();
    }
    // What has no mass is -infinity here, and the lowest finite number there.
    let mut stats = if record.argmax == -1 { RowStats::empty() } else { stats_of(record) };
    let fault = record.status.checked_sub(1).map(|column| (column, logit(linear, row, column as usize)));
    if fault.is_some() {
        stats.tail = f64::NAN;
    }
    RowPart { stats, target_logit: record.live.then_some(record.target_logit.into()), fault }
}

impl LinearBackend for Gpu {
    fn parts_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        parts: &mut [RowPart],
    ) -> Result<(), GpuError> {
        check_length("parts", linear.rows(), parts.len())?;
        let words = self.guarded(0, || {
            let uploaded = self.upload_linear(linear, None)?;
            let mut encoder = self.encoder();
            // A tolerance is a gradient's.
            let options = LinearOptions { block_tolerance: 0.0, ..*options };
            let data = uploaded.data(linear);
            let job = LinearPartsJob { data, records: whole(&uploaded.records), options };
            self.kernels().encode_linear_parts(&mut encoder, &job)?;
            Ok(self.download(encoder, &[&uploaded.records])?.pop().unwrap_or_default())
        })?;
        for (row, (part, record)) in parts.iter_mut().zip(records(&words)).enumerate() {
            *part = part_of(linear, row, &record);
        }
        Ok(())
    }

    fn push_back_linear<E: Element, G: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        summaries: &[RowSummary<f64>],
        partials: &[RowPartials<f64>],
        mut gradients: LinearGradients<'_, G>,
    ) -> Result<usize, GpuError> {
        check_length("summaries", linear.rows(), summaries.len())?;
        check_length("partials", linear.rows(), partials.len())?;
        gradients.check(linear)?;
        let words: Vec<u32> = summaries
            .iter()
            .zip(partials)
            .flat_map(|(summary, partials)| record_of(summary, partials).to_words())
            .collect();
        let words = self.guarded(0, || {
            let uploaded = self.upload_linear(linear, Some(&words))?;
            let buffers = self.upload_gradients(linear.dim(), &gradients)?;
            let mut encoder = self.encoder();
            let job = LinearPushBackJob {
                data: uploaded.data(linear),
                records: whole(&uploaded.records),
                gradients: buffers.buffers::<G>(),
                options: *options,
                non_finite: linear.batch().non_finite(),
            };
            self.kernels().encode_linear_push_back(&mut encoder, &job)?;
            self.finish_linear(encoder, &uploaded.records, &buffers, &mut gradients)
        })?;
        let live = |(row, record): &(usize, Record)| linear.batch().target(*row).is_some() && record.live;
        Ok(records(&words).enumerate().filter(live).count())
    }
}

impl<O: ShaderObjective + RowObjective> EvaluateLinear<O> for Gpu {
    fn evaluate_linear<E: Element, G: Element>(
        &self,
        objective: &O,
        reduction: Reduction,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        mut gradients: LinearGradients<'_, G>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, GpuError> {
        check_whole(linear)?;
        reduction.check()?;
        gradients.check(linear)?;
        outputs.check(linear.rows())?;
        let batch = linear.batch();
        let scale = match reduction {
            Reduction::Mean(Denominator::Valid) => Scale::count(batch.valid() as f64),
            other => Scale::of(other),
        };
        let words = self.guarded(0, || {
            let uploaded = self.upload_linear(linear, None)?;
            let buffers = self.upload_gradients(linear.dim(), &gradients)?;
            let mut encoder = self.encoder();
            let job = LinearJob {
                data: uploaded.data(linear),
                objective,
                reduction,
                weights: uploaded.weights.as_ref().map(whole),
                gradients: buffers.buffers::<G>(),
                records: Some(whole(&uploaded.records)),
                totals: None,
                options: *options,
                non_finite: batch.non_finite(),
            };
            self.kernels().encode_linear_scaled(&mut encoder, &job, scale)?;
            self.finish_linear(encoder, &uploaded.records, &buffers, &mut gradients)
        })?;
        let mut bad = Ok(());
        let mut judged = Vec::with_capacity(linear.rows());
        let mut verdicts = Vec::with_capacity(linear.rows());
        for (row, record) in records(&words).enumerate() {
            let partials = partials_of(&record).scaled(batch.weight(row).into());
            let loss = record.loss.into();
            let row_judged = Judged { summary: summary_of(&record), partials, loss, kept: record.kept };
            let live = if gradients.any() { record.live } else { record.status != 0 || partials.is_live() };
            verdicts.push(RowVerdict { loss, kept: record.kept, live });
            judged.push(row_judged);
            if let (Ok(()), NonFinite::Error, Some(error)) =
                (&bad, batch.non_finite(), fault(linear, row, record.status))
            {
                bad = Err(error);
            }
        }
        outputs.write(&judged);
        bad?;
        Ok(Totals::of_rows(batch, reduction, verdicts))
    }
}
