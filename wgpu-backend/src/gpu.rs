//! A device of our own, and host slices.

use crate::guide::host::{Guide, UploadedGuide};
use crate::kernels::Scale;
use crate::scope::guarded;
use crate::{
    CooperativeMatrix, Data, GpuError, Gradient, Job, Kernels, MapBindings, MaskBinding, PushBackJob,
    SummariseJob, Variant, words,
};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use tokenloss_core::{
    Backend, Batch, ClassMask, Denominator, Diagnostics, Dtype, Element, Error, Evaluate, Link, Logits,
    NonFinite, Outputs, Reduction, RowMap, RowObjective, RowPartials, RowStats, RowSummary, RowVerdict,
    Shape, TargetProb, Totals, check_length,
};
use tokenloss_shaders::{RECORD_WORDS, Record, STATUS_BAD_TARGET, STATUS_NO_MASS, ShaderObjective};

/// The most bytes of logits that are uploaded at once.
const SLICE_BYTES: u64 = 128 << 20;

/// A device with its kernels: computes host slices, uploading them in slices of rows where they are larger than
/// the device's buffers. Implements [`Backend`] and [`Evaluate`].
///
/// Whoever has a device and buffers already uses [`Kernels`] and skips the copies.
#[derive(Debug)]
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    kernels: Kernels,
    lost: Arc<Mutex<Option<String>>>,
}

/// How a [`Gpu`] is opened.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// The adapter whose name contains this; the fastest without.
    pub adapter: Option<String>,
    /// The variant; the best that the adapter runs without.
    pub variant: Option<Variant>,
    /// The limits to ask for; all that the adapter has without.
    pub limits: Option<wgpu::Limits>,
    /// wgpu's token for experimental features: with it the products of the linear form use a
    /// [`CooperativeMatrix`], and an adapter without one is an error.
    pub cooperative_matrix: Option<wgpu::ExperimentalFeatures>,
    /// Whether these may [narrow](CooperativeMatrix::narrowing) inputs in f32 and bf16 to f16.
    pub narrowing: bool,
}

/// An adapter, as a line of a table.
#[derive(Debug, Clone)]
pub struct AdapterSummary {
    /// Its name.
    pub name: String,
    /// Vulkan, Metal, DX12.
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    /// Discrete, integrated, software.
    pub kind: wgpu::DeviceType,
    /// What it has.
    pub limits: wgpu::Limits,
    /// What it runs.
    pub variants: Vec<Variant>,
}

impl AdapterSummary {
    fn of(adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        let runs = |variant: &Variant| variant.check(adapter.features(), &info).is_ok();
        Self {
            variants: Variant::ALL.into_iter().filter(runs).collect(),
            limits: adapter.limits(),
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            kind: info.device_type,
            name: info.name,
        }
    }
}

fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle())
}

impl Gpu {
    /// The fastest adapter, with all its limits and the best variant that it runs.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`] where there is none; [`GpuError::NoDevice`].
    pub fn new() -> Result<Self, GpuError> {
        Self::with_options(&GpuOptions::default())
    }

    /// An adapter by name, a variant, or lower limits.
    ///
    /// # Errors
    /// * [`GpuError::NoAdapter`], [`GpuError::NoDevice`].
    /// * [`GpuError::MissingFeature`], [`GpuError::SubgroupSize`] where the adapter does not run the variant or the
    ///   cooperative matrices that are asked for; [`GpuError::CooperativeMatrix`] where it lists none.
    /// * [`GpuError::MissingLimit`] where the limits are too low for any shape.
    pub fn with_options(options: &GpuOptions) -> Result<Self, GpuError> {
        let instance = instance();
        let adapter = match &options.adapter {
            None => {
                let request = instance.request_adapter(&wgpu::RequestAdapterOptions {
                    power_preference: wgpu::PowerPreference::HighPerformance,
                    ..Default::default()
                });
                pollster::block_on(request).map_err(|e| GpuError::NoAdapter { reason: e.to_string() })?
            }
            Some(name) => pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()))
                .into_iter()
                .find(|adapter| adapter.get_info().name.contains(name.as_str()))
                .ok_or_else(|| GpuError::NoAdapter { reason: format!("none is called '{name}'") })?,
        };
        let info = adapter.get_info();
        let variant = options.variant.unwrap_or_else(|| Variant::best(adapter.features(), &info));
        variant.check(adapter.features(), &info)?;
        let matrix =
            options.cooperative_matrix.as_ref().map(|_| CooperativeMatrix::of(&adapter)).transpose()?;
        let experimental = matrix.as_ref().map_or(wgpu::Features::empty(), CooperativeMatrix::features);
        let timestamps = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("tokenloss"),
            required_features: variant.features() | experimental | (timestamps & adapter.features()),
            experimental_features: options.cooperative_matrix.unwrap_or_default(),
            required_limits: options.limits.clone().unwrap_or_else(|| adapter.limits()),
            ..Default::default()
        });
        let (device, queue) = pollster::block_on(request)
            .map_err(|e| GpuError::NoDevice { adapter: info.name, reason: e.to_string() })?;
        let mut kernels = Kernels::with_variant(&device, variant)?;
        if let Some(matrix) = matrix {
            let matrix = if options.narrowing { matrix.narrowing() } else { matrix };
            kernels = kernels.with_cooperative_matrix(matrix)?;
        }
        Ok(Self::of_parts(device, queue, kernels))
    }

    /// A device of the caller's, with the best variant that it was created for. Replaces its device-lost
    /// callback.
    ///
    /// # Errors
    /// [`GpuError::MissingLimit`].
    pub fn from_device(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self, GpuError> {
        let variant = Variant::best(device.features(), &device.adapter_info());
        let kernels = Kernels::with_variant(&device, variant)?;
        Ok(Self::of_parts(device, queue, kernels))
    }

    fn of_parts(device: wgpu::Device, queue: wgpu::Queue, kernels: Kernels) -> Self {
        let lost = Arc::<Mutex<Option<String>>>::default();
        let into = Arc::clone(&lost);
        device.set_device_lost_callback(move |reason, message| {
            let text = if message.is_empty() { format!("{reason:?}") } else { message };
            into.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        });
        Self { device, queue, kernels, lost }
    }

    /// Every adapter of this machine.
    pub fn adapters() -> Vec<AdapterSummary> {
        let adapters = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()));
        adapters.iter().map(AdapterSummary::of).collect()
    }

    /// The adapter behind the device.
    pub fn info(&self) -> wgpu::AdapterInfo {
        self.device.adapter_info()
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// Its queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// The kernels on it.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    fn check_lost(&self) -> Result<(), GpuError> {
        // wgpu tells of a loss only when asked how things are.
        let _ = self.device.poll(wgpu::PollType::Poll);
        match &*self.lost.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reason) => Err(GpuError::DeviceLost { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// [`guarded`], unless the device is lost.
    pub(crate) fn guarded<T>(
        &self,
        bytes: u64,
        work: impl FnOnce() -> Result<T, GpuError>,
    ) -> Result<T, GpuError> {
        self.check_lost()?;
        let result = guarded(&self.device, bytes, work);
        self.check_lost()?;
        result
    }

    pub(crate) fn submit_and_wait(&self, encoder: wgpu::CommandEncoder) -> Result<(), GpuError> {
        self.queue.submit([encoder.finish()]);
        self.wait()
    }

    fn wait(&self) -> Result<(), GpuError> {
        match self.device.poll(wgpu::PollType::wait_indefinitely()) {
            Ok(_) => self.check_lost(),
            Err(error) => {
                self.check_lost()?;
                Err(GpuError::Internal { reason: error.to_string() })
            }
        }
    }

    pub(crate) fn buffer(&self, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("tokenloss slice"),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Whether one buffer holds so many bytes.
    pub(crate) fn check_buffer(&self, needed: u64) -> Result<(), GpuError> {
        let has = self.device.limits().max_buffer_size;
        if needed > has {
            return Err(GpuError::MissingLimit { limit: "max_buffer_size", needed, has });
        }
        Ok(())
    }

    /// A buffer with these words in it.
    pub(crate) fn upload(&self, words: &[u32]) -> Result<wgpu::Buffer, GpuError> {
        self.check_buffer(size_of_val(words) as u64)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("tokenloss slice"),
            size: size_of_val(words) as u64,
            usage,
            mapped_at_creation: true,
        });
        match buffer.slice(..).get_mapped_range_mut() {
            Ok(mut range) => range.copy_from_slice(bytemuck::cast_slice(words)),
            Err(error) => return Err(self.unmapped(&error)),
        }
        buffer.unmap();
        Ok(buffer)
    }

    /// Why a buffer cannot be mapped. Out of memory is reported on the side, by `guarded`.
    fn unmapped(&self, error: &wgpu::MapRangeError) -> GpuError {
        match self.check_lost() {
            Err(lost) => lost,
            Ok(()) => GpuError::Internal { reason: error.to_string() },
        }
    }

    /// Reads buffers back, after what the encoder holds.
    pub(crate) fn download(
        &self,
        mut encoder: wgpu::CommandEncoder,
        buffers: &[&wgpu::Buffer],
    ) -> Result<Vec<Vec<u32>>, GpuError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging: Vec<_> = buffers
            .iter()
            .map(|buffer| {
                let staging = self.buffer(buffer.size(), usage);
                encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
                staging
            })
            .collect();
        self.queue.submit([encoder.finish()]);
        for buffer in &staging {
            // Whether it worked shows when the range is taken below.
            buffer.slice(..).map_async(wgpu::MapMode::Read, |_| {});
        }
        self.wait()?;
        let read = |buffer: &wgpu::Buffer| match buffer.slice(..).get_mapped_range() {
            Ok(range) => {
                let mut words = vec![0u32; range.len() / 4];
                bytemuck::cast_slice_mut::<u32, u8>(&mut words).copy_from_slice(&range);
                Ok(words)
            }
            Err(error) => Err(self.unmapped(&error)),
        };
        staging.iter().map(read).collect()
    }

    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("tokenloss") })
    }

    /// First row and number of rows of slices of which every matrix, by its name and the bytes of a row on the device, fits in
    /// one buffer and one binding.
    pub(crate) fn slices(
        &self,
        rows: usize,
        matrices: &[(&'static str, u64)],
    ) -> Result<Vec<(usize, usize)>, GpuError> {
        let limits = self.device.limits();
        let limit = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
        let mut most = limits.max_buffer_size / crate::job::RECORD_BYTES;
        for &(what, bytes) in matrices {
            if bytes > limit / 16 * 16 {
                return Err(GpuError::RowTooLarge { what, bytes, limit });
            }
            most = most.min((limit.min(SLICE_BYTES) / bytes).max(1));
        }
        let most = most as usize;
        Ok((0..rows).step_by(most).map(|row| (row, most.min(rows - row))).collect())
    }
}

/// A slice of a batch's rows, uploaded.
pub(crate) struct Slice {
    shape: Shape,
    pub(crate) logits: wgpu::Buffer,
    targets: wgpu::Buffer,
    pub(crate) weights: Option<wgpu::Buffer>,
    pub(crate) records: wgpu::Buffer,
    map: Option<UploadedMap>,
}

/// What the logits of some rows are taken for.
pub(crate) struct UploadedMap {
    link: Link,
    scale: f32,
    margin: f32,
    rows: Option<wgpu::Buffer>,
    mask: Option<(wgpu::Buffer, bool)>,
}

impl UploadedMap {
    pub(crate) fn new(gpu: &Gpu, batch: &Batch<'_>, rows: Range<usize>) -> Result<Option<Self>, GpuError> {
        let Some(map) = batch.map() else { return Ok(None) };
        let vocab = batch.shape().vocab();
        let of = |row| map.row(row, vocab);
        let own = map.scales().is_some() || map.margins().is_some();
        let numbers = || rows.clone().flat_map(|row| [of(row).scale, of(row).margin].map(f32::to_bits));
        let mask = |mask: ClassMask<'_>| {
            let (words, per_row) = mask.words();
            let each = vocab.div_ceil(32);
            let words = if per_row { &words[rows.start * each..rows.end * each] } else { words };
            Ok::<_, GpuError>((gpu.upload(words)?, per_row))
        };
        let RowMap { link, scale, margin, .. } = of(rows.start);
        Ok(Some(Self {
            link,
            scale,
            margin,
            rows: own.then(|| gpu.upload(&numbers().collect::<Vec<_>>())).transpose()?,
            mask: map.mask().map(mask).transpose()?,
        }))
    }

    pub(crate) fn bindings(&self) -> MapBindings<'_> {
        MapBindings {
            link: self.link,
            scale: self.scale,
            margin: self.margin,
            rows: self.rows.as_ref().map(whole),
            mask: self
                .mask
                .as_ref()
                .map(|(words, per_row)| MaskBinding { words: whole(words), per_row: *per_row }),
        }
    }
}

/// Bytes of a row on the device.
pub(crate) fn row_bytes(stride: usize, dtype: Dtype) -> u64 {
    (stride * dtype.bytes()) as u64
}

pub(crate) fn whole(buffer: &wgpu::Buffer) -> wgpu::BufferBinding<'_> {
    wgpu::BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new(buffer.size()) }
}

/// A slice of rows of host data.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, E> {
    pub(crate) batch: &'a Batch<'a>,
    pub(crate) logits: &'a [E],
    pub(crate) first: usize,
    pub(crate) rows: usize,
    pub(crate) stride: usize,
}

impl<E: Element> Rows<'_, E> {
    pub(crate) fn row(&self, row: usize) -> &[E] {
        let shape = self.batch.shape();
        &self.logits[row * shape.stride()..][..shape.vocab()]
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.rows as u64 * row_bytes(self.stride, E::DTYPE)
    }

    pub(crate) fn upload(&self, gpu: &Gpu, records: Option<&[u32]>) -> Result<Slice, GpuError> {
        let words =
            words::of_rows((self.first..self.first + self.rows).map(|row| self.row(row)), self.stride);
        let range = self.first..self.first + self.rows;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let weights = self.batch.weights().map(|weights| &weights[range.clone()]);
        Ok(Slice {
            shape: Shape::new(self.rows, self.batch.shape().vocab())?.with_stride(self.stride)?,
            logits: gpu.upload(&words)?,
            targets: gpu.upload(bytemuck::cast_slice(&self.batch.targets()[range]))?,
            weights: weights.map(|weights| gpu.upload(bytemuck::cast_slice(weights))).transpose()?,
            records: match records {
                Some(words) => gpu.upload(words)?,
                None => gpu.buffer((self.rows * RECORD_WORDS * 4) as u64, usage),
            },
            map: UploadedMap::new(gpu, self.batch, self.first..self.first + self.rows)?,
        })
    }

    /// The fault that a record's status names.
    pub(crate) fn fault(&self, row: usize, status: u32) -> Option<Error> {
        let vocab = self.batch.shape().vocab();
        match status {
            0 => None,
            STATUS_NO_MASS => Some(Error::NoMass { row, vocab }),
            STATUS_BAD_TARGET => Some(Error::Target { row, target: self.batch.targets()[row], vocab }),
            column => {
                let column = column as usize - 1;
                let value = self.row(row).get(column).map_or(f32::NAN, |z| z.to_f32());
                Some(Error::NonFinite { row, column, value })
            }
        }
    }
}

impl Slice {
    pub(crate) fn data(&self, dtype: Dtype) -> Data<'_> {
        Data {
            shape: self.shape,
            dtype,
            logits: whole(&self.logits),
            targets: whole(&self.targets),
            map: self.map.as_ref().map(UploadedMap::bindings),
        }
    }
}

pub(crate) fn records(words: &[u32]) -> impl Iterator<Item = Record> + '_ {
    words.as_chunks::<RECORD_WORDS>().0.iter().map(Record::from_words)
}

impl Backend for Gpu {
    type Error = GpuError;

    fn summarise<E: Element>(
        &self,
        batch: &Batch<'_>,
        logits: &[E],
        summaries: &mut [RowSummary<f64>],
    ) -> Result<(), GpuError> {
        let shape = batch.shape();
        Logits::Read(logits).check(shape)?;
        check_length("summaries", shape.rows(), summaries.len())?;
        let stride = words::padded_stride(shape.vocab(), E::DTYPE);
        let mut fault = None;
        for (first, rows) in self.slices(shape.rows(), &[("logits", row_bytes(stride, E::DTYPE))])? {
            let rows = Rows { batch, logits, first, rows, stride };
            let downloaded = self.guarded(rows.bytes(), || {
                let slice = rows.upload(self, None)?;
                let mut encoder = self.encoder();
                let job = SummariseJob { data: slice.data(E::DTYPE), records: whole(&slice.records) };
                self.kernels.encode_summarise(&mut encoder, &job)?;
                self.download(encoder, &[&slice.records])
            })?;
            for (row, record) in (first..).zip(records(&downloaded[0])) {
                summaries[row] = summary_of(&record);
                fault = fault.or(rows.fault(row, record.status));
            }
        }
        report(batch, fault)
    }

    fn push_back<E: Element>(
        &self,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        summaries: &[RowSummary<f64>],
        partials: &[RowPartials<f64>],
    ) -> Result<(), GpuError> {
        let shape = batch.shape();
        logits.check(shape)?;
        check_length("summaries", shape.rows(), summaries.len())?;
        check_length("partials", shape.rows(), partials.len())?;
        let stride = words::padded_stride(shape.vocab(), E::DTYPE);
        let mut logits = Host::of(logits);
        if !logits.has_gradient {
            return Ok(());
        }
        for (first, rows) in self.slices(shape.rows(), &[("logits", row_bytes(stride, E::DTYPE))])? {
            let rows = Rows { batch, logits: logits.read(), first, rows, stride };
            let words: Vec<u32> = (first..first + rows.rows)
                .flat_map(|row| record_of(&summaries[row], &partials[row]).to_words())
                .collect();
            let downloaded = self.guarded(rows.bytes(), || {
                let slice = rows.upload(self, Some(&words))?;
                let mut encoder = self.encoder();
                self.kernels.encode_push_back(
                    &mut encoder,
                    &PushBackJob {
                        data: slice.data(E::DTYPE),
                        records: whole(&slice.records),
                        gradient: Gradient::InPlace,
                    },
                )?;
                self.download(encoder, &[&slice.logits])
            })?;
            logits.write(shape, first, stride, &downloaded[0]);
        }
        Ok(())
    }
}

impl<O: ShaderObjective + RowObjective> Evaluate<O> for Gpu {
    fn evaluate<E: Element>(
        &self,
        objective: &O,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, GpuError> {
        self.evaluate_rows(objective, None::<Guide<'_, E>>, reduction, batch, logits, outputs)
    }
}

impl Gpu {
    /// Any objective, of rows that may be guided.
    pub(crate) fn evaluate_rows<O: ShaderObjective, E: Element, U: Element>(
        &self,
        objective: &O,
        guide: Option<Guide<'_, U>>,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, GpuError> {
        let shape = batch.shape();
        reduction.check()?;
        if let Some(guide) = &guide {
            guide.check(shape)?;
        }
        logits.check(shape)?;
        outputs.check(shape.rows())?;
        let stride = words::padded_stride(shape.vocab(), E::DTYPE);
        let teacher_row = guide.map_or(0, |guide| guide.row_bytes(shape.vocab()));
        let mut matrices = vec![("logits", row_bytes(stride, E::DTYPE))];
        matrices.extend(guide.map(|_| ("teacher", teacher_row)));
        let slices = self.slices(shape.rows(), &matrices)?;
        let mut logits = Host::of(logits);
        let has_gradient = logits.has_gradient;
        Results::new(batch, outputs).of(reduction, &slices, has_gradient, |results, part| {
            let SlicePart { first, rows, scale, gradient } = part;
            let rows = Rows { batch, logits: logits.read(), first, rows, stride };
            let bytes = rows.bytes() + rows.rows as u64 * teacher_row;
            let downloaded = self.guarded(bytes, || {
                let slice = rows.upload(self, None)?;
                let range = first..first + rows.rows;
                let guide = guide.map(|guide| guide.upload(self, shape.vocab(), range)).transpose()?;
                let mut encoder = self.encoder();
                let job = Job {
                    data: slice.data(E::DTYPE),
                    objective,
                    reduction: Reduction::Sum,
                    weights: slice.weights.as_ref().map(whole),
                    gradient: if gradient { Gradient::InPlace } else { Gradient::None },
                    records: Some(whole(&slice.records)),
                    totals: None,
                };
                let guidance = guide.as_ref().map(UploadedGuide::bindings);
                self.kernels.encode_scaled(&mut encoder, &job, guidance.as_ref(), scale)?;
                let both = [&slice.records, &slice.logits];
                self.download(encoder, if gradient { &both } else { &both[..1] })
            })?;
            for (row, record) in (first..).zip(records(&downloaded[0])) {
                let partials = partials_of(&record).scaled(batch.weight(row).into());
                let live = record.status != 0 || partials.is_live();
                let fault = match &guide {
                    Some(guide) => guide.fault(&rows, row, record.status),
                    None => rows.fault(row, record.status),
                };
                results.take(row, &record, &partials, live, fault);
            }
            if let Some(words) = downloaded.get(1) {
                logits.write(shape, first, stride, words);
            }
            Ok(())
        })
    }
}

/// A slice of a call's rows, and what is asked of it.
pub(crate) struct SlicePart {
    pub(crate) first: usize,
    pub(crate) rows: usize,
    pub(crate) scale: Scale,
    pub(crate) gradient: bool,
}

/// What comes back of a call's rows.
pub(crate) struct Results<'a> {
    batch: &'a Batch<'a>,
    outputs: Outputs<'a>,
    fault: Option<Error>,
    judged: Vec<RowVerdict>,
}

impl<'a> Results<'a> {
    pub(crate) fn new(batch: &'a Batch<'a>, outputs: Outputs<'a>) -> Self {
        Self { batch, outputs, fault: None, judged: vec![] }
    }

    /// All slices, one after the other, by a function that [takes](Self::take) every row of one.
    pub(crate) fn of(
        mut self,
        reduction: Reduction,
        slices: &[(usize, usize)],
        gradient: bool,
        mut slice: impl FnMut(&mut Self, SlicePart) -> Result<(), GpuError>,
    ) -> Result<Totals, GpuError> {
        let part =
            |&(first, rows): &(usize, usize), scale, gradient| SlicePart { first, rows, scale, gradient };
        // Counts are those of the whole batch, not of a slice: valid rows are known, kept rows are only where
        // there is one slice, and else take a pass of their own.
        let scale = match reduction {
            Reduction::Mean(Denominator::Valid) => Scale::count(self.batch.valid() as f64),
            Reduction::Mean(Denominator::Kept) if slices.len() > 1 && gradient => {
                for rows in slices {
                    slice(&mut self, part(rows, Scale::count(1.0), false))?;
                }
                Scale::count(Totals::of_rows(self.batch, reduction, self.judged.drain(..)).denominator)
            }
            other => Scale::of(other),
        };
        if let Some(diagnostics) = &mut self.outputs.diagnostics {
            **diagnostics = Diagnostics::default();
        }
        for rows in slices {
            slice(&mut self, part(rows, scale, gradient))?;
        }
        let totals = Totals::of_rows(self.batch, reduction, self.judged);
        report(self.batch, self.fault)?;
        Ok(totals)
    }

    /// What is known of the next row; partials are times its weight.
    pub(crate) fn take(
        &mut self,
        row: usize,
        record: &Record,
        partials: &RowPartials<f64>,
        live: bool,
        fault: Option<Error>,
    ) {
        fn put<T>(output: &mut Option<&mut [T]>, row: usize, value: T) {
            if let Some(output) = output {
                output[row] = value;
            }
        }
        put(&mut self.outputs.losses, row, record.loss);
        put(&mut self.outputs.log_p, row, record.log_p);
        put(&mut self.outputs.lse, row, record.lse);
        put(&mut self.outputs.entropy, row, record.entropy);
        put(&mut self.outputs.argmax, row, record.argmax);
        self.judged.push(RowVerdict { loss: record.loss.into(), kept: record.kept, live });
        if let Some(diagnostics) = &mut self.outputs.diagnostics {
            diagnostics.add(&summary_of(record), partials);
        }
        self.fault = self.fault.or(fault);
    }
}

/// Where logits are read and their gradient goes, row by row: on the device it is always in place.
pub(crate) struct Host<'a, E> {
    pub(crate) has_gradient: bool,
    logits: Logits<'a, E>,
}

impl<'a, E: Element> Host<'a, E> {
    pub(crate) fn of(logits: Logits<'a, E>) -> Self {
        Self { has_gradient: logits.has_gradient(), logits }
    }

    pub(crate) fn read(&self) -> &[E] {
        match &self.logits {
            Logits::Read(logits) => logits,
            Logits::OutOfPlace { logits, .. } => logits,
            Logits::InPlace(logits) => logits,
        }
    }

    pub(crate) fn write(&mut self, shape: Shape, first: usize, stride: usize, words: &[u32]) {
        let into = match &mut self.logits {
            Logits::Read(_) => return,
            Logits::OutOfPlace { dlogits, .. } => dlogits,
            Logits::InPlace(logits) => logits,
        };
        let per_row = stride * E::DTYPE.bytes() / 4;
        for (words, row) in words.chunks_exact(per_row).zip(first..) {
            words::read(words, &mut into[row * shape.stride()..][..shape.vocab()]);
        }
    }
}

pub(crate) fn report(batch: &Batch<'_>, fault: Option<Error>) -> Result<(), GpuError> {
    match fault {
        Some(error) if batch.non_finite() == NonFinite::Error => Err(error.into()),
        _ => Ok(()),
    }
}

pub(crate) fn summary_of(record: &Record) -> RowSummary<f64> {
    RowSummary {
        stats: stats_of(record),
        target: TargetProb { log_p: record.log_p.into(), one_minus_p: record.one_minus_p.into() },
    }
}

pub(crate) fn stats_of(record: &Record) -> RowStats<f64> {
    RowStats {
        max: record.max.into(),
        tail: record.tail.into(),
        moment: record.moment.into(),
        collision: record.collision.into(),
        spread: record.spread.into(),
        energy: record.energy.into(),
        count: record.count,
        argmax: record.argmax as u32,
    }
}

pub(crate) fn partials_of(record: &Record) -> RowPartials<f64> {
    RowPartials {
        d_target: record.d_target.into(),
        d_lse: record.d_lse.into(),
        d_entropy: record.d_entropy.into(),
        d_mean: record.d_mean.into(),
        d_energy: record.d_energy.into(),
    }
}

pub(crate) fn record_of(summary: &RowSummary<f64>, partials: &RowPartials<f64>) -> Record {
    let RowStats { max, tail, moment, collision, spread, energy, count, argmax } = summary.stats;
    Record {
        loss: 0.0,
        log_p: summary.target.log_p as f32,
        lse: summary.stats.lse() as f32,
        entropy: summary.stats.entropy() as f32,
        argmax: argmax as i32,
        // Any status but 0 makes the gradient NaN, as the summary is.
        status: if summary.stats.is_valid() { 0 } else { STATUS_NO_MASS },
        kept: true,
        one_minus_p: summary.target.one_minus_p as f32,
        max: max as f32,
        tail: tail as f32,
        moment: moment as f32,
        collision: collision as f32,
        spread: spread as f32,
        energy: energy as f32,
        count,
        d_target: partials.d_target as f32,
        d_lse: partials.d_lse as f32,
        d_entropy: partials.d_entropy as f32,
        d_mean: partials.d_mean as f32,
        d_energy: partials.d_energy as f32,
        target_logit: (summary.target.log_p + summary.stats.lse()) as f32,
        live: false,
    }
}
