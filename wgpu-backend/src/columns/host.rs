//! Listed columns on host slices.

use super::{ColumnBindings, TopKJob};
use crate::gpu::{Rows, record_of, records, report, row_bytes, whole};
use crate::linear::{LinearPushBackColumnsJob, LinearRestsJob, LinearTopKJob, fault, part_of};
use crate::{Gpu, GpuError, Record, words};
use tokenloss_core::columns::{ColumnBackend, ColumnPartials, Columns};
use tokenloss_core::{
    Batch, Element, Error, IGNORE_INDEX, Linear, LinearGradients, LinearOptions, Logits, RowPart,
    RowPartials, RowSummary, check_length, check_whole,
};

/// Listed columns on the device.
struct Uploaded {
    offsets: wgpu::Buffer,
    ids: wgpu::Buffer,
    entries: usize,
}

impl Uploaded {
    fn new(gpu: &Gpu, columns: &Columns<'_>) -> Result<Self, GpuError> {
        let entries = columns.entries();
        let mut ids = vec![IGNORE_INDEX as u32; entries];
        for row in 0..columns.rows() {
            let into = ids[columns.range(row)].iter_mut().zip(columns.of_row(row));
            into.for_each(|(into, id)| *into = *id as u32);
        }
        let starts = (0..columns.rows()).map(|row| columns.range(row).start);
        let offsets: Vec<_> = starts.chain([entries]).map(|at| at as u32).collect();
        Ok(Self { ids: gpu.upload(&ids)?, offsets: gpu.upload(&offsets)?, entries })
    }

    /// Room for `k` columns of each row.
    fn room(gpu: &Gpu, rows: usize, k: usize) -> Result<Self, GpuError> {
        let entries = rows * k;
        let ids = gpu.result(4 * entries as u64)?;
        let offsets: Vec<_> = (0..=rows).map(|row| (row * k) as u32).collect();
        Ok(Self { ids, offsets: gpu.upload(&offsets)?, entries })
    }

    fn bindings(&self) -> ColumnBindings<'_> {
        ColumnBindings { offsets: whole(&self.offsets), ids: whole(&self.ids), entries: self.entries }
    }
}

/// Writes what came back of some rows, all of whose entries follow each other.
fn write(words: &[Vec<u32>], ids: &mut [i32], top: &mut [f32]) {
    if let [_, of_ids, of_top] = words {
        ids.iter_mut().zip(of_ids).for_each(|(into, word)| *into = *word as i32);
        top.iter_mut().zip(of_top).for_each(|(into, word)| *into = f32::from_bits(*word));
    }
}

fn check_top(rows: usize, k: usize, ids: &[i32], top: &[f32]) -> Result<(), Error> {
    if k == 0 {
        return Err(Error::TooFew { what: "top_k", index: 0, needed: 1, got: 0 });
    }
    let entries = rows.checked_mul(k).ok_or(Error::TooLarge { rows, stride: k })?;
    check_length("ids", entries, ids.len())?;
    check_length("top", entries, top.len())
}

impl ColumnBackend for Gpu {
    fn rests_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        columns: &Columns<'_>,
        parts: &mut [RowPart],
    ) -> Result<(), GpuError> {
        columns.check(linear.batch())?;
        check_length("parts", linear.rows(), parts.len())?;
        let words = self.guarded(0, || {
            let uploaded = self.upload_linear(linear, None)?;
            let listed = Uploaded::new(self, columns)?;
            let mut encoder = self.encoder();
            let job = LinearRestsJob {
                data: uploaded.data(linear),
                columns: listed.bindings(),
                gathered: None,
                records: whole(&uploaded.records),
                // A tolerance is a gradient's.
                options: LinearOptions { block_tolerance: 0.0, ..*options },
            };
            self.kernels().encode_linear_rests(&mut encoder, &job)?;
            Ok(self.download(encoder, &[&uploaded.records])?.pop().unwrap_or_default())
        })?;
        for (row, (part, record)) in parts.iter_mut().zip(records(&words)).enumerate() {
            *part = part_of(linear, row, &record);
        }
        Ok(())
    }

    fn push_back_columns_linear<E: Element, G: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        rests: &[RowSummary<f64>],
        partials: ColumnPartials<'_>,
        mut gradients: LinearGradients<'_, G>,
    ) -> Result<usize, GpuError> {
        let batch = linear.batch();
        check_length("rests", linear.rows(), rests.len())?;
        partials.check(batch)?;
        gradients.check(linear)?;
        let of_rest = |d_lse| RowPartials { d_lse, ..RowPartials::default() };
        let words: Vec<u32> = (rests.iter().zip(partials.d_rests))
            .flat_map(|(rest, d_rest)| record_of(rest, &of_rest(*d_rest)).to_words())
            .collect();
        let d_gathered: Vec<_> = partials.d_gathered.iter().map(|d| (*d as f32).to_bits()).collect();
        let words = self.guarded(0, || {
            let uploaded = self.upload_linear(linear, Some(&words))?;
            let listed = Uploaded::new(self, partials.columns)?;
            let d_gathered = self.upload(&d_gathered)?;
            let buffers = self.upload_gradients(linear.dim(), &gradients)?;
            let mut encoder = self.encoder();
            let job = LinearPushBackColumnsJob {
                data: uploaded.data(linear),
                columns: listed.bindings(),
                d_gathered: whole(&d_gathered),
                records: whole(&uploaded.records),
                gradients: buffers.buffers::<G>(),
                options: *options,
                non_finite: batch.non_finite(),
            };
            self.kernels().encode_linear_push_back_columns(&mut encoder, &job)?;
            self.finish_linear(encoder, &uploaded.records, &buffers, &mut gradients)
        })?;
        let live = |(row, record): &(usize, Record)| batch.target(*row).is_some() && record.live;
        Ok(records(&words).enumerate().filter(live).count())
    }

    fn top_k<E: Element>(
        &self,
        batch: &Batch<'_>,
        logits: &[E],
        k: usize,
        ids: &mut [i32],
        top: &mut [f32],
    ) -> Result<(), GpuError> {
        let shape = batch.shape();
        Logits::Read(logits).check(shape)?;
        check_top(shape.rows(), k, ids, top)?;
        let stride = words::padded_stride(shape.vocab(), E::DTYPE);
        let matrices = [("logits", row_bytes(stride, E::DTYPE)), ("top", 4 * k as u64)];
        let mut bad = None;
        for (first, count) in self.slices(shape.rows(), &matrices)? {
            let rows = Rows { batch, logits, first, rows: count, stride };
            let downloaded = self.guarded(rows.bytes(), || {
                let slice = rows.upload(self, None)?;
                let listed = Uploaded::room(self, count, k)?;
                let values = self.result(4 * listed.entries as u64)?;
                let mut encoder = self.encoder();
                let job = TopKJob {
                    data: slice.data(E::DTYPE),
                    columns: listed.bindings(),
                    top: whole(&values),
                    records: whole(&slice.records),
                };
                self.kernels().encode_top_k(&mut encoder, &job)?;
                self.download(encoder, &[&slice.records, &listed.ids, &values])
            })?;
            write(&downloaded, &mut ids[first * k..][..count * k], &mut top[first * k..][..count * k]);
            for (row, record) in (first..).zip(records(&downloaded[0])) {
                bad = bad.or(rows.fault(row, record.status));
            }
        }
        report(batch, bad)
    }

    fn top_k_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        k: usize,
        ids: &mut [i32],
        top: &mut [f32],
    ) -> Result<(), GpuError> {
        check_whole(linear)?;
        check_top(linear.rows(), k, ids, top)?;
        let downloaded = self.guarded(0, || {
            let uploaded = self.upload_linear(linear, None)?;
            let listed = Uploaded::room(self, linear.rows(), k)?;
            let values = self.result(4 * listed.entries as u64)?;
            let mut encoder = self.encoder();
            let job = LinearTopKJob {
                data: uploaded.data(linear),
                columns: listed.bindings(),
                top: whole(&values),
                records: whole(&uploaded.records),
                options: LinearOptions { block_tolerance: 0.0, ..*options },
            };
            self.kernels().encode_linear_top_k(&mut encoder, &job)?;
            self.download(encoder, &[&uploaded.records, &listed.ids, &values])
        })?;
        write(&downloaded, ids, top);
        let fault = |(row, record): (usize, Record)| fault(linear, row, record.status);
        report(linear.batch(), records(&downloaded[0]).enumerate().find_map(fault))
    }
}
