//! Every error, with its message.

use crate::data::Matrix;
use crate::machine::{baseline, open};
use crate::run::{buffer, part, words_of};
use std::borrow::Cow;
use tokenloss_core::{
    Batch, Denominator, Dtype, Evaluate, Logits, Nll, Outputs, Reduction, RowSummary, Shape, Thresholded,
};
use tokenloss_wgpu::{
    Data, Gpu, GpuError, GpuOptions, Gradient, Job, Kernels, Request, Second, ShaderObjective, Variant,
    requirements, shaders::RECORD_WORDS, wgpu,
};

/// A job of 4 rows of 8 in one buffer each; what a test changes is wrong.
struct Bench {
    gpu: &'static Gpu,
    logits: wgpu::Buffer,
    targets: wgpu::Buffer,
    records: wgpu::Buffer,
    totals: wgpu::Buffer,
}

impl Bench {
    fn new() -> Option<Self> {
        let gpu = baseline()?;
        let matrix = Matrix::uniform(Dtype::F32, 4, 8, 1);
        Some(Self {
            gpu,
            logits: buffer(gpu, &words_of(&matrix, 8)),
            targets: buffer(gpu, &[0; 4]),
            records: buffer(gpu, &[0; 4 * RECORD_WORDS]),
            totals: buffer(gpu, &[0; 9]),
        })
    }

    fn job(&self) -> Job<'_> {
        Job {
            data: Data {
                shape: Shape::new(4, 8).unwrap(),
                dtype: Dtype::F32,
                logits: part(&self.logits, 0, 32),
                targets: part(&self.targets, 0, 4),
                map: None,
            },
            objective: &Nll,
            reduction: Reduction::default(),
            weights: None,
            gradient: Gradient::InPlace,
            records: Some(part(&self.records, 0, 4 * RECORD_WORDS)),
            totals: Some(part(&self.totals, 0, 9)),
        }
    }

    fn refused(&self, job: &Job<'_>) -> String {
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.gpu.kernels().encode(&mut encoder, job).unwrap_err().to_string()
    }
}

#[test]
fn bindings_that_do_not_fit() {
    let Some(bench) = Bench::new() else { return };
    let mut job = bench.job();
    job.data.targets = part(&bench.targets, 0, 3);
    assert_eq!(bench.refused(&job), "targets: expected a binding of at least 16 bytes, got 12");

    let mut job = bench.job();
    job.records = Some(part(&bench.records, 1, 4 * RECORD_WORDS));
    assert_eq!(bench.refused(&job), "records: expected a binding of at least 352 bytes, got 348");

    let mut job = bench.job();
    job.data.logits.size = wgpu::BufferSize::new(124);
    assert_eq!(bench.refused(&job), "logits: expected a binding of at least 128 bytes, got 124");

    let mut job = bench.job();
    job.totals = Some(part(&bench.totals, 1, 9));
    assert_eq!(bench.refused(&job), "totals: expected a binding of at least 36 bytes, got 32");

    let mut job = bench.job();
    job.data.logits.size = None;
    assert_eq!(bench.refused(&job), "logits: expected a binding with a size, got none");

    let mut job = bench.job();
    job.data.logits.offset = 2;
    assert_eq!(bench.refused(&job), "logits: expected a multiple of 4, got 2");

    let odd = buffer(bench.gpu, &[0; 40]);
    let mut job = bench.job();
    job.data.dtype = Dtype::F16;
    job.data.shape = Shape::new(4, 7).unwrap();
    job.data.logits = part(&odd, 0, 40);
    assert_eq!(bench.refused(&job), "stride: expected a multiple of 2, got 7");
    // One row shares its words with nobody.
    job.data.shape = Shape::new(1, 7).unwrap();
    let mut encoder = bench.gpu.device().create_command_encoder(&Default::default());
    bench.gpu.kernels().encode(&mut encoder, &job).unwrap();

    let copy_only = bench.gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 128,
        usage: wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut job = bench.job();
    job.gradient = Gradient::Into(part(&copy_only, 0, 32));
    assert_eq!(bench.refused(&job), "dlogits: its buffer was created without STORAGE");
}

#[test]
fn bindings_that_share_bytes() {
    let Some(bench) = Bench::new() else { return };
    let pool = buffer(bench.gpu, &[0; 256]);
    let mut job = bench.job();
    job.data.logits = part(&pool, 0, 32);
    job.gradient = Gradient::Into(part(&pool, 31, 32));
    assert_eq!(bench.refused(&job), "dlogits and logits share bytes of a buffer");

    job.gradient = Gradient::InPlace;
    job.weights = Some(part(&pool, 30, 4));
    assert_eq!(bench.refused(&job), "logits and weights share bytes of a buffer");

    // Two that are only read may be the same; so may a pool, if nothing overlaps.
    job.data.targets = part(&pool, 32, 4);
    job.weights = Some(part(&pool, 32, 4));
    job.records = Some(part(&pool, 37, 4 * RECORD_WORDS));
    job.totals = Some(part(&pool, 37 + 4 * RECORD_WORDS, 9));
    let mut encoder = bench.gpu.device().create_command_encoder(&Default::default());
    bench.gpu.kernels().encode(&mut encoder, &job).unwrap();
    bench.gpu.queue().submit([encoder.finish()]);

    job.totals = Some(part(&pool, 36 + 4 * RECORD_WORDS, 9));
    assert_eq!(bench.refused(&job), "records and totals share bytes of a buffer");
}

/// An objective whose text is up to the test.
struct Text(&'static str, usize);

impl ShaderObjective for Text {
    fn name(&self) -> Cow<'static, str> {
        "text".into()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        self.0.into()
    }
    fn parameters(&self) -> Vec<f32> {
        vec![0.0; self.1]
    }
}

#[test]
fn objectives_that_do_not_compile() {
    let Some(bench) = Bench::new() else { return };
    let mut job = bench.job();
    job.objective = &Text("fn text(prob: TargetProb) -> TokenEval { return nonsense; }", 0);
    let message = bench.refused(&job);
    assert!(message.starts_with("shader: ") && message.contains("nonsense"), "{message}");
    job.objective = &Text("", 25);
    assert_eq!(bench.refused(&job), "objective: 25 parameters with its terms and gates, at most 24 fit");
}

#[test]
fn the_callers_data() {
    let Some(bench) = Bench::new() else { return };
    let mut job = bench.job();
    job.reduction = Reduction::Mean(Denominator::Given(0.0));
    assert_eq!(bench.refused(&job), "denominator: expected a positive finite number, got 0");

    let shape = Shape::new(2, 4).unwrap();
    let batch = Batch::new(shape, &[0, 1]).unwrap();
    let evaluate = |logits: &[f32]| {
        let outputs = Outputs::default();
        bench
            .gpu
            .evaluate(&Nll, Reduction::Sum, &batch, Logits::Read(logits), outputs)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(evaluate(&[0.0; 7]), "logits: expected 8 values, got 7");
    let nan = [0.0, 0.0, 0.0, 0.0, 0.0, f32::INFINITY, 0.0, f32::NAN];
    assert_eq!(evaluate(&nan), "logits: row 1, column 1 is inf, expected a finite number or -inf");
    let mut masked = [0.0; 8];
    masked[..4].fill(f32::NEG_INFINITY);
    assert_eq!(evaluate(&masked), "logits: row 0 is -inf in all 4 columns, so that no class has probability");
    let mut summaries = vec![RowSummary::<f64>::nan(); 3];
    let error =
        tokenloss_core::Backend::summarise(bench.gpu, &batch, &[0.0f32; 8], &mut summaries).unwrap_err();
    assert_eq!(error.to_string(), "summaries: expected 2 values, got 3");
}

#[test]
fn limits_and_features_that_are_missing() {
    let Some(gpu) = baseline() else { return };
    let error = Kernels::with_variant(gpu.device(), Variant::Subgroups).unwrap_err();
    assert_eq!(error, GpuError::MissingFeature { feature: "SUBGROUP" });

    let few = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..wgpu::Limits::default() };
    let error = open(Some(Variant::Baseline), Some(few)).unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "max_storage_buffers_per_shader_stage: expected at least 8, the device has 4"
    );

    let low = crate::machine::low_limits();
    let gpu = open(Some(Variant::Baseline), Some(low)).unwrap().unwrap();
    let vocab = 300_000;
    let batch = Batch::new(Shape::new(1, vocab).unwrap(), &[0]).unwrap();
    let logits = vec![0.0f32; vocab];
    let read = Logits::Read(&logits[..]);
    let error = gpu.evaluate(&Nll, Reduction::Sum, &batch, read, Outputs::default()).unwrap_err();
    assert_eq!(error, GpuError::RowTooLarge { what: "logits", bytes: 1_200_000, limit: 1 << 20 });

    let more = wgpu::Limits { max_bind_groups: 1000, ..wgpu::Limits::default() };
    let error = open(None, Some(more)).unwrap().unwrap_err();
    assert!(matches!(error, GpuError::NoDevice { .. }), "{error}");
    let options = GpuOptions { adapter: Some("no such adapter".into()), ..GpuOptions::default() };
    let error = Gpu::with_options(&options).unwrap_err();
    assert_eq!(error.to_string(), "gpu: no adapter: none is called 'no such adapter'");
}

#[test]
fn what_a_shape_takes_is_known_without_a_device() {
    let request = Request {
        shape: Shape::new(4096, 128_256).unwrap(),
        dtype: Dtype::Bf16,
        reduction: Reduction::default(),
        gradient: true,
        records: false,
        totals: false,
        beside: Second::Nothing,
    };
    let needs = requirements(&request, Variant::Baseline, &wgpu::Limits::default()).unwrap();
    // 523 rows of 256,512 bytes fit in 128 MiB; one dispatch counts.
    assert_eq!(needs.dispatches, 4096usize.div_ceil(523) + 1);
    assert_eq!(needs.scratch_bytes, 9 * 256 + 4096 * 4 * RECORD_WORDS as u64 + 36);
    assert_eq!(needs.limits.max_buffer_size, 4096 * 128_256 * 2);
    assert!(needs.features.is_empty());
    let wide = Request { shape: Shape::new(2, 50_000_000).unwrap(), dtype: Dtype::F32, ..request };
    let error = requirements(&wide, Variant::Baseline, &wgpu::Limits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "logits: a row needs a binding of 200000000 bytes, the device allows 134217728"
    );
}

#[test]
fn a_lost_device_is_an_error() {
    let Some(Ok(gpu)) = open(None, None) else { return };
    let batch = Batch::new(Shape::new(1, 3).unwrap(), &[0]).unwrap();
    let logits = [0.0f32, 1.0, 2.0];
    let evaluate = || gpu.evaluate(&Nll, Reduction::Sum, &batch, Logits::Read(&logits), Outputs::default());
    evaluate().unwrap();
    gpu.device().destroy();
    for _ in 0..2 {
        let error = evaluate().unwrap_err();
        assert!(matches!(error, GpuError::DeviceLost { .. }), "{error:?}");
        assert!(error.to_string().starts_with("gpu: the device is lost: "), "{error}");
    }
    let error = gpu.time_copy(Shape::new(1, 4).unwrap(), Dtype::F32, 1).unwrap_err();
    assert!(matches!(error, GpuError::DeviceLost { .. }), "{error:?}");
}

/// Needs no adapter: nothing runs, but everything is validated.
#[test]
fn the_baseline_needs_no_feature_and_no_more_than_default_limits() {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let kernels = Kernels::new(&device).unwrap();
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 1 << 16,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    let gate = Thresholded::new(Nll, 0.1, 0.9).unwrap();
    for dtype in Dtype::ALL {
        for gradient in [Gradient::None, Gradient::InPlace, Gradient::Into(part(&buffer, 4096, 1024))] {
            for denominator in [Denominator::Valid, Denominator::Kept] {
                // 64-aligned or not: both widths.
                for offset in [0, 1] {
                    let mut encoder = device.create_command_encoder(&Default::default());
                    let job = Job {
                        data: Data {
                            shape: Shape::new(4, 100).unwrap(),
                            dtype,
                            logits: part(&buffer, offset, 1024),
                            targets: part(&buffer, 2048, 4),
                            map: None,
                        },
                        objective: &gate,
                        reduction: Reduction::Mean(denominator),
                        weights: None,
                        gradient: gradient.clone(),
                        records: None,
                        totals: None,
                    };
                    kernels.encode(&mut encoder, &job).unwrap();
                    queue.submit([encoder.finish()]);
                }
            }
        }
    }
}
