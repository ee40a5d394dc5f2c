//! How long the kernels take, beside a copy of the same bytes.

use crate::{Data, Gpu, GpuError, Gradient, Job, PairJob, ShaderDivergence, TeacherData, words};
use std::time::Instant;
use tokenloss_core::divergence::Distillation;
use tokenloss_core::{Dtype, Element, Reduction, Shape, half};
use tokenloss_shaders::ShaderObjective;

/// Where the gradient goes in a timed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimedGradient {
    /// Nowhere: losses only.
    None,
    /// Over the logits, so that later runs see gradients of gradients: the same work on other numbers.
    InPlace,
    /// To a buffer of its own.
    OutOfPlace,
}

impl Gpu {
    /// Seconds of each of `runs` evaluations of `shape` in buffers on the device, after one that is not counted.
    /// By timestamps where the device has them, else by the clock from submission to completion.
    ///
    /// # Errors
    /// Those of [`Kernels::encode`](crate::Kernels::encode); [`GpuError::OutOfMemory`].
    pub fn time_evaluate(
        &self,
        objective: &dyn ShaderObjective,
        shape: Shape,
        dtype: Dtype,
        gradient: TimedGradient,
        runs: usize,
    ) -> Result<Vec<f64>, GpuError> {
        let stage = Stage::new(self, shape, dtype, gradient == TimedGradient::OutOfPlace)?;
        let job = Job {
            data: stage.data(),
            objective,
            reduction: Reduction::default(),
            weights: None,
            gradient: stage.gradient(gradient),
            records: None,
            totals: None,
        };
        self.time(runs, |encoder| self.kernels().encode(encoder, &job))
    }

    /// The same for pairs of rows, whose teacher's logits are of the same type and near the student's.
    ///
    /// # Errors
    /// Those of [`Kernels::encode_pair`](crate::Kernels::encode_pair); [`GpuError::OutOfMemory`].
    pub fn time_evaluate_pair(
        &self,
        objective: &dyn ShaderObjective,
        distillation: Distillation<&dyn ShaderDivergence>,
        shape: Shape,
        dtype: Dtype,
        gradient: TimedGradient,
        runs: usize,
    ) -> Result<Vec<f64>, GpuError> {
        let stage = Stage::new(self, shape, dtype, gradient == TimedGradient::OutOfPlace)?;
        let teacher = Stage::matrix(self, stage.shape, dtype, 0.25)?;
        let job = PairJob {
            data: stage.data(),
            teacher: TeacherData { shape: stage.shape, dtype, logits: whole(&teacher) },
            objective,
            distillation,
            reduction: Reduction::default(),
            weights: None,
            gradient: stage.gradient(gradient),
            records: None,
            divergences: None,
            totals: None,
        };
        self.time(runs, |encoder| self.kernels().encode_pair(encoder, &job))
    }

    /// The same for a shader that copies the logits: it reads and writes what an out-of-place evaluation must.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`], [`GpuError::RowTooLarge`].
    pub fn time_copy(&self, shape: Shape, dtype: Dtype, runs: usize) -> Result<Vec<f64>, GpuError> {
        let stage = Stage::new(self, shape, dtype, true)?;
        let (data, into) = (stage.data(), whole(stage.dlogits.as_ref().unwrap_or(&stage.logits)));
        self.time(runs, |encoder| self.kernels().encode_copy(encoder, &data, &into))
    }

    fn time(
        &self,
        runs: usize,
        record: impl Fn(&mut wgpu::CommandEncoder) -> Result<(), GpuError>,
    ) -> Result<Vec<f64>, GpuError> {
        self.guarded(0, || {
            let stamps = wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
            let stamps = self.device().features().contains(stamps).then(|| Stamps::new(self));
            let mut seconds = Vec::with_capacity(runs);
            for run in 0..=runs {
                let mut encoder = self.encoder();
                if let Some(stamps) = &stamps {
                    encoder.write_timestamp(&stamps.set, 0);
                }
                record(&mut encoder)?;
                if let Some(stamps) = &stamps {
                    encoder.write_timestamp(&stamps.set, 1);
                    encoder.resolve_query_set(&stamps.set, 0..2, &stamps.buffer, 0);
                }
                let start = Instant::now();
                self.submit_and_wait(encoder)?;
                let clock = start.elapsed().as_secs_f64();
                let time = stamps.as_ref().map(|stamps| stamps.seconds(self)).transpose()?.flatten();
                // The first run compiles.
                if run > 0 {
                    seconds.push(time.unwrap_or(clock));
                }
            }
            Ok(seconds)
        })
    }
}

struct Stamps {
    set: wgpu::QuerySet,
    buffer: wgpu::Buffer,
}

impl Stamps {
    fn new(gpu: &Gpu) -> Self {
        let set = gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("tokenloss time"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        Self { set, buffer: gpu.buffer(16, usage) }
    }

    /// `None` if the driver's clock did not move.
    fn seconds(&self, gpu: &Gpu) -> Result<Option<f64>, GpuError> {
        let words = gpu.download(gpu.encoder(), &[&self.buffer])?;
        let tick = |i: usize| u64::from(words[0][2 * i]) | u64::from(words[0][2 * i + 1]) << 32;
        let ticks = tick(1).wrapping_sub(tick(0));
        let seconds = ticks as f64 * f64::from(gpu.queue().get_timestamp_period()) * 1e-9;
        Ok((ticks != 0 && ticks < u64::MAX / 2).then_some(seconds))
    }
}

/// Buffers of a timed run.
struct Stage {
    shape: Shape,
    dtype: Dtype,
    logits: wgpu::Buffer,
    dlogits: Option<wgpu::Buffer>,
    targets: wgpu::Buffer,
}

impl Stage {
    fn new(gpu: &Gpu, shape: Shape, dtype: Dtype, two: bool) -> Result<Self, GpuError> {
        let shape = shape.with_stride(words::padded_stride(shape.vocab(), dtype))?;
        let logits = Self::matrix(gpu, shape, dtype, 0.0)?;
        let targets: Vec<u32> = (0..shape.rows()).map(|row| (row * 7919 % shape.vocab()) as u32).collect();
        gpu.guarded(logits.size(), || {
            let dlogits = two.then(|| gpu.buffer(logits.size(), logits.usage()));
            Ok(Self { shape, dtype, logits, dlogits, targets: gpu.upload(&targets)? })
        })
    }

    /// Logits from -10 to 10, and noise as wide as this.
    fn matrix(gpu: &Gpu, shape: Shape, dtype: Dtype, noise: f32) -> Result<wgpu::Buffer, GpuError> {
        let bytes = (shape.elements() * dtype.bytes()) as u64;
        gpu.check_buffer(bytes)?;
        gpu.guarded(bytes, || {
            let logits = gpu.buffer(bytes, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST);
            let row = match dtype {
                Dtype::F32 => row_of::<f32>(shape, noise),
                Dtype::F16 => row_of::<half::f16>(shape, noise),
                Dtype::Bf16 => row_of::<half::bf16>(shape, noise),
            };
            for i in 0..shape.rows() {
                gpu.queue().write_buffer(&logits, (i * row.len() * 4) as u64, bytemuck::cast_slice(&row));
            }
            Ok(logits)
        })
    }

    fn gradient(&self, gradient: TimedGradient) -> Gradient<'_> {
        match (gradient, &self.dlogits) {
            (TimedGradient::InPlace, _) => Gradient::InPlace,
            (TimedGradient::OutOfPlace, Some(dlogits)) => Gradient::Into(whole(dlogits)),
            _ => Gradient::None,
        }
    }

    fn data(&self) -> Data<'_> {
        Data {
            shape: self.shape,
            dtype: self.dtype,
            logits: whole(&self.logits),
            targets: whole(&self.targets),
            map: None,
        }
    }
}

/// Spread without an order, and so is the noise.
fn row_of<E: Element>(shape: Shape, noise: f32) -> Vec<u32> {
    let spread = |i: usize| ((i * 2_654_435_761) % 20_011) as f32 / 1000.0 - 10.0;
    let logit = |i: usize| E::from_f32(spread(i) + noise * spread(i + shape.stride()) / 10.0);
    let row: Vec<E> = (0..shape.stride()).map(logit).collect();
    let mut words = vec![0; shape.stride() * E::DTYPE.bytes() / 4];
    words::write(&row, &mut words);
    words
}

fn whole(buffer: &wgpu::Buffer) -> wgpu::BufferBinding<'_> {
    wgpu::BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new(buffer.size()) }
}
