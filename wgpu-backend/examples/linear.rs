//! A trainer that owns its device: loss and gradients from hidden states and a head, without logits, recorded into its
//! own encoder, over its own buffers.
//!
//! `cargo run -p tokenloss-wgpu --example linear`

use tokenloss_core::{Budget, Dtype, LinearOptions, NonFinite, Power, Reduction};
use tokenloss_wgpu::shaders::TOTALS_WORDS;
use tokenloss_wgpu::{
    BatchRecord, Gpu, GpuError, Kernels, LinearBuffers, LinearData, LinearJob, LinearRequest, wgpu,
};
use wgpu::util::DeviceExt;

const ROWS: usize = 64;
const DIM: usize = 64;
const VOCAB: usize = 8_192;

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
    let numbers =
        |count: usize| -> Vec<f32> { (0..count).map(|i| (i * 7919 % 97) as f32 / 97.0 - 0.5).collect() };
    let hidden = buffer(bytemuck::cast_slice(&numbers(ROWS * DIM)));
    let weight = buffer(bytemuck::cast_slice(&numbers(VOCAB * DIM)));
    let targets: Vec<i32> = (0..ROWS as i32).collect();
    let targets = buffer(bytemuck::cast_slice(&targets));
    let dhidden = buffer(&vec![0; 4 * ROWS * DIM]);
    let dweight = buffer(&vec![0; 4 * VOCAB * DIM]);
    let totals = buffer(&[0; 4 * TOTALS_WORDS]);

    let kernels = Kernels::new(&device)?;
    let options = LinearOptions { budget: Budget(1 << 20), ..LinearOptions::default() };
    let needs = kernels.linear_requirements(&LinearRequest {
        rows: ROWS,
        dim: DIM,
        columns: VOCAB,
        dtype: Dtype::F32,
        reduction: Reduction::default(),
        dhidden: true,
        dweight: true,
        dbias: false,
        records: false,
        totals: true,
        options,
    })?;
    println!("{} bytes of scratch, {} rows of logits at a time", needs.scratch_bytes, needs.chunk_rows);

    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    kernels.encode_linear(
        &mut encoder,
        &LinearJob {
            data: LinearData {
                rows: ROWS,
                dim: DIM,
                vocab: VOCAB,
                columns: 0..VOCAB,
                dtype: Dtype::F32,
                hidden: whole(&hidden),
                weight: vec![whole(&weight)],
                bias: None,
                targets: whole(&targets),
                map: None,
            },
            objective: &Power::new(1.0)?,
            reduction: Reduction::default(),
            weights: None,
            gradients: LinearBuffers {
                dhidden: Some((whole(&dhidden), Dtype::F32)),
                // Added to: micro-batches sum up.
                dweight: Some(vec![whole(&dweight)]),
                dbias: None,
            },
            records: None,
            totals: Some(whole(&totals)),
            options,
            non_finite: NonFinite::Error,
        },
    )?;
    // The rest of your backward pass would follow in the same encoder. We only look at the totals.
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
        println!("loss {}, {} live rows of {ROWS}", batch.totals.loss(), batch.totals.live);
    }
    Ok(())
}

fn whole(buffer: &wgpu::Buffer) -> wgpu::BufferBinding<'_> {
    wgpu::BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new(buffer.size()) }
}
