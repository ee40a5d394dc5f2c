//! A model of one hidden state for each token and a head, and its steps.

use std::error::Error;
use tokenloss_core::{Budget, Dtype, LinearOptions, NonFinite, Power, Reduction, Totals};
use tokenloss_wgpu::shaders::TOTALS_WORDS;
use tokenloss_wgpu::{BatchRecord, Kernels, LinearBuffers, LinearData, LinearJob, LinearRequest, Variant};
use wgpu::util::DeviceExt;

const RATE: f64 = 10.0;

/// Hidden states `[rows, dim]`, a head `[vocab, dim]`, targets `[rows]`.
pub(crate) struct Problem {
    rows: usize,
    dim: usize,
    vocab: usize,
    hidden: Vec<f32>,
    weight: Vec<f32>,
    targets: Vec<i32>,
}

impl Problem {
    /// Each token is followed by the next; the last by none.
    pub(crate) fn count_up(rows: usize, dim: usize, vocab: usize) -> Self {
        let numbers = |count: usize, scale: f32| -> Vec<f32> {
            (0..count).map(|i| scale * ((i as f32 + 1.0) * 12.9898).sin()).collect()
        };
        let mut targets: Vec<i32> = (1..=rows as i32).collect();
        targets[rows - 1] = tokenloss_core::IGNORE_INDEX;
        let hidden = numbers(rows * dim, 1.0);
        Self { rows, dim, vocab, hidden, weight: numbers(vocab * dim, 0.02 / dim as f32), targets }
    }

    fn options() -> LinearOptions {
        LinearOptions { budget: Budget(1 << 20), ..LinearOptions::default() }
    }

    pub(crate) fn request(&self) -> LinearRequest {
        LinearRequest {
            rows: self.rows,
            dim: self.dim,
            columns: self.vocab,
            dtype: Dtype::F32,
            reduction: Reduction::default(),
            dhidden: true,
            dweight: true,
            dbias: false,
            records: false,
            totals: true,
            options: Self::options(),
        }
    }
}

/// A parameter, its gradient, and the two as the descending shader has them.
struct Parameter {
    values: wgpu::Buffer,
    gradient: wgpu::Buffer,
    group: wgpu::BindGroup,
}

/// The model on the trainer's device.
pub(crate) struct Trainer {
    device: wgpu::Device,
    queue: wgpu::Queue,
    kernels: Kernels,
    descend: wgpu::ComputePipeline,
    hidden: Parameter,
    weight: Parameter,
    targets: wgpu::Buffer,
    totals: wgpu::Buffer,
    staging: wgpu::Buffer,
    shape: [usize; 3],
}

impl Trainer {
    pub(crate) fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        variant: Variant,
        problem: &Problem,
    ) -> Result<Self, Box<dyn Error>> {
        let shader = device.create_shader_module(wgpu::include_wgsl!("sgd.wgsl"));
        let descend = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("descend"),
            layout: None,
            module: &shader,
            entry_point: Some("descend"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[("RATE", RATE)],
                ..Default::default()
            },
            cache: None,
        });
        let storage = |label, contents: &[u8]| {
            device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
                label: Some(label),
                contents,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            })
        };
        let parameter = |label, values: &[f32]| {
            let gradient = storage(label, &vec![0; size_of_val(values)]);
            let values = storage(label, bytemuck::cast_slice(values));
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(label),
                layout: &descend.get_bind_group_layout(0),
                entries: &[
                    wgpu::BindGroupEntry { binding: 0, resource: values.as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 1, resource: gradient.as_entire_binding() },
                ],
            });
            Parameter { values, gradient, group }
        };
        let totals = storage("totals", &[0; 4 * TOTALS_WORDS]);
        Ok(Self {
            kernels: Kernels::with_variant(&device, variant)?,
            hidden: parameter("hidden", &problem.hidden),
            weight: parameter("weight", &problem.weight),
            targets: storage("targets", bytemuck::cast_slice(&problem.targets)),
            staging: device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("totals on the host"),
                size: totals.size(),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }),
            totals,
            shape: [problem.rows, problem.dim, problem.vocab],
            descend,
            device,
            queue,
        })
    }

    /// Loss, gradients and descent: one encoder, one submission.
    pub(crate) fn step(&self) -> Result<Totals, Box<dyn Error>> {
        let [rows, dim, vocab] = self.shape;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.kernels.encode_linear(
            &mut encoder,
            &LinearJob {
                data: LinearData {
                    rows,
                    dim,
                    vocab,
                    columns: 0..vocab,
                    dtype: Dtype::F32,
                    hidden: whole(&self.hidden.values),
                    weight: vec![whole(&self.weight.values)],
                    bias: None,
                    targets: whole(&self.targets),
                    map: None,
                },
                objective: &Power::new(0.1)?,
                reduction: Reduction::default(),
                weights: None,
                gradients: LinearBuffers {
                    dhidden: Some((whole(&self.hidden.gradient), Dtype::F32)),
                    // Added to: micro-batches sum up.
                    dweight: Some(vec![whole(&self.weight.gradient)]),
                    dbias: None,
                },
                records: None,
                totals: Some(whole(&self.totals)),
                options: Problem::options(),
                non_finite: NonFinite::Error,
            },
        )?;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.descend);
        for parameter in [&self.hidden, &self.weight] {
            pass.set_bind_group(0, &parameter.group, &[]);
            pass.dispatch_workgroups((parameter.values.size() / 4).div_ceil(256).min(1024) as u32, 1, 1);
        }
        drop(pass);
        encoder.copy_buffer_to_buffer(&self.totals, 0, &self.staging, 0, self.totals.size());
        self.queue.submit([encoder.finish()]);
        self.read_totals()
    }

    fn read_totals(&self) -> Result<Totals, Box<dyn Error>> {
        let (mapped, done) = std::sync::mpsc::channel();
        self.staging.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            // Nobody waits only if polling failed, which is an error of its own.
            let _ = mapped.send(result);
        });
        self.device.poll(wgpu::PollType::wait_indefinitely())?;
        done.recv()??;
        let range = self.staging.slice(..).get_mapped_range()?;
        let totals = BatchRecord::from_words(bytemuck::from_bytes(&range)).totals;
        drop(range);
        self.staging.unmap();
        Ok(totals)
    }
}

fn whole(buffer: &wgpu::Buffer) -> wgpu::BufferBinding<'_> {
    wgpu::BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new(buffer.size()) }
}
