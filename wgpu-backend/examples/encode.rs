//! A trainer that owns its device: one loss and its gradient, recorded into its own encoder, over its own buffers.
//!
//! `cargo run -p tokenloss-wgpu --example encode`

use tokenloss_core::{Dtype, Power, Reduction, Shape};
use tokenloss_wgpu::shaders::TOTALS_WORDS;
use tokenloss_wgpu::{BatchRecord, Data, Gpu, GpuError, Gradient, Job, Kernels, Request, Second, wgpu};
use wgpu::util::DeviceExt;

const ROWS: usize = 64;
const VOCAB: usize = 32_000;

fn main() -> Result<(), GpuError> {
    // Yours would come from your own trainer.
    let (device, queue) = match Gpu::new() {
        Ok(gpu) => (gpu.device().clone(), gpu.queue().clone()),
        Err(GpuError::NoAdapter { reason }) => {
            println!("no adapter: {reason}");
            return Ok(());
        }
        Err(other) => return Err(other),
    };
    let buffer = |contents: &[u8]| {
        device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
        })
    };
    let logits: Vec<f32> = (0..ROWS * VOCAB).map(|i| (i % 97) as f32 / 16.0).collect();
    let targets: Vec<i32> = (0..ROWS as i32).collect();
    let (logits, targets) = (buffer(bytemuck::cast_slice(&logits)), buffer(bytemuck::cast_slice(&targets)));
    let totals = buffer(&[0; 4 * TOTALS_WORDS]);

    let shape = Shape::new(ROWS, VOCAB)?;
    let kernels = Kernels::new(&device)?;
    let request = Request {
        shape,
        dtype: Dtype::F32,
        reduction: Reduction::default(),
        gradient: true,
        records: false,
        totals: true,
        beside: Second::Nothing,
    };
    println!("{:?}", kernels.requirements(&request)?);

    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    kernels.encode(
        &mut encoder,
        &Job {
            data: Data {
                shape,
                dtype: Dtype::F32,
                logits: whole(&logits),
                targets: whole(&targets),
                map: None,
            },
            objective: &Power::new(1.0)?,
            reduction: Reduction::default(),
            weights: None,
            gradient: Gradient::InPlace,
            records: None,
            totals: Some(whole(&totals)),
        },
    )?;
    // Your backward pass would follow in the same encoder. We only look at the totals.
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: totals.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    encoder.copy_buffer_to_buffer(&totals, 0, &staging, 0, totals.size());
    queue.submit([encoder.finish()]);
    staging.slice(..).map_async(wgpu::MapMode::Read, |result| {
        if let Err(error) = result {
            println!("the totals cannot be read: {error}");
        }
    });
    if let Err(error) = device.poll(wgpu::PollType::wait_indefinitely()) {
        println!("the device did not finish: {error}");
    }
    if let Ok(bytes) = staging.slice(..).get_mapped_range() {
        let batch = BatchRecord::from_words(bytemuck::from_bytes(&bytes));
        println!("loss {} over {} rows", batch.totals.loss(), batch.totals.valid);
    }
    Ok(())
}

fn whole(buffer: &wgpu::Buffer) -> wgpu::BufferBinding<'_> {
    wgpu::BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new(buffer.size()) }
}
