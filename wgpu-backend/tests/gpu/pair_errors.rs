//! Every error of a pair of rows, with its message.

use crate::data::Matrix;
use crate::machine::{baseline, low_limits, open};
use crate::run::{buffer, part, words_of};
use std::borrow::Cow;
use tokenloss_core::divergence::{Distillation, ForwardKl};
use tokenloss_core::{
    Batch, Denominator, Dtype, EvaluatePair, Link, Logits, Nll, PairOutputs, Reduction, Shape, Teacher,
    half::bf16,
};
use tokenloss_wgpu::{
    Data, Gpu, GpuError, Gradient, Kernels, MapBindings, PairJob, ShaderDivergence, TeacherData, Variant,
    shaders::RECORD_WORDS, wgpu,
};

/// A job of 4 pairs of 8 in one buffer each; what a test changes is wrong.
struct Bench {
    gpu: &'static Gpu,
    logits: wgpu::Buffer,
    teacher: wgpu::Buffer,
    targets: wgpu::Buffer,
    records: wgpu::Buffer,
    divergences: wgpu::Buffer,
    totals: wgpu::Buffer,
    divergence: ForwardKl,
}

impl Bench {
    fn new() -> Option<Self> {
        let gpu = baseline()?;
        let words = words_of(&Matrix::uniform(Dtype::F32, 4, 8, 1), 8);
        Some(Self {
            gpu,
            logits: buffer(gpu, &words),
            teacher: buffer(gpu, &words),
            targets: buffer(gpu, &[0; 4]),
            records: buffer(gpu, &[0; 4 * RECORD_WORDS]),
            divergences: buffer(gpu, &[0; 4]),
            totals: buffer(gpu, &[0; 9]),
            divergence: ForwardKl::new().unwrap(),
        })
    }

    fn job(&self) -> PairJob<'_> {
        let shape = Shape::new(4, 8).unwrap();
        PairJob {
            data: Data {
                shape,
                dtype: Dtype::F32,
                logits: part(&self.logits, 0, 32),
                targets: part(&self.targets, 0, 4),
                map: None,
            },
            teacher: TeacherData { shape, dtype: Dtype::F32, logits: part(&self.teacher, 0, 32) },
            objective: &Nll,
            distillation: Distillation::new(&self.divergence as &dyn ShaderDivergence, 1.0).unwrap(),
            reduction: Reduction::default(),
            weights: None,
            gradient: Gradient::InPlace,
            records: Some(part(&self.records, 0, 4 * RECORD_WORDS)),
            divergences: Some(part(&self.divergences, 0, 4)),
            totals: Some(part(&self.totals, 0, 9)),
        }
    }

    fn refused(&self, job: &PairJob<'_>) -> String {
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.gpu.kernels().encode_pair(&mut encoder, job).unwrap_err().to_string()
    }
}

#[test]
fn teachers_and_bindings_that_do_not_fit() {
    let Some(bench) = Bench::new() else { return };
    let mut job = bench.job();
    job.teacher.shape = Shape::new(3, 8).unwrap();
    assert_eq!(bench.refused(&job), "teacher rows: expected 4 values, got 3");
    job.teacher.shape = Shape::new(4, 7).unwrap();
    assert_eq!(bench.refused(&job), "teacher vocab: expected 8 values, got 7");
    job.teacher.shape = Shape::new(4, 8).unwrap().with_stride(9).unwrap();
    assert_eq!(bench.refused(&job), "teacher: expected a binding of at least 140 bytes, got 128");

    let mut job = bench.job();
    job.teacher.logits.size = None;
    assert_eq!(bench.refused(&job), "teacher: expected a binding with a size, got none");
    let mut job = bench.job();
    job.teacher.logits.offset = 2;
    assert_eq!(bench.refused(&job), "teacher: expected a multiple of 4, got 2");
    let mut job = bench.job();
    job.divergences = Some(part(&bench.divergences, 1, 4));
    assert_eq!(bench.refused(&job), "divergences: expected a binding of at least 16 bytes, got 12");

    // Two rows of 16 bits that share a word may be read, but not written.
    let mut job = bench.job();
    let shape = Shape::new(4, 7).unwrap();
    (job.data.shape, job.teacher.shape, job.teacher.dtype) = (shape, shape, Dtype::F16);
    let mut encoder = bench.gpu.device().create_command_encoder(&Default::default());
    bench.gpu.kernels().encode_pair(&mut encoder, &job).unwrap();
    job.data.dtype = Dtype::F16;
    assert_eq!(bench.refused(&job), "stride: expected a multiple of 2, got 7");
}

#[test]
fn bindings_that_share_bytes() {
    let Some(bench) = Bench::new() else { return };
    let mut job = bench.job();
    job.teacher.logits = part(&bench.logits, 0, 32);
    assert_eq!(bench.refused(&job), "logits and teacher share bytes of a buffer");
    // What is only read may be the same.
    job.gradient = Gradient::None;
    let mut encoder = bench.gpu.device().create_command_encoder(&Default::default());
    bench.gpu.kernels().encode_pair(&mut encoder, &job).unwrap();
    bench.gpu.queue().submit([encoder.finish()]);
    job.divergences = Some(part(&bench.teacher, 0, 4));
    job.teacher.logits = part(&bench.teacher, 0, 32);
    assert_eq!(bench.refused(&job), "divergences and teacher share bytes of a buffer");
}

/// A divergence that is no WGSL.
struct Nonsense;

impl ShaderDivergence for Nonsense {
    fn name(&self) -> Cow<'static, str> {
        "text".into()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        "fn text(entry: Entry) -> EntryEval { return nonsense; }".into()
    }
    fn parameters(&self) -> Vec<f32> {
        vec![]
    }
}

#[test]
fn the_callers_data() {
    let Some(bench) = Bench::new() else { return };
    let mut job = bench.job();
    job.reduction = Reduction::Mean(Denominator::Given(0.0));
    assert_eq!(bench.refused(&job), "denominator: expected a positive finite number, got 0");
    let mut job = bench.job();
    let map = MapBindings { link: Link::Identity, scale: 1.0, margin: 0.0, rows: None, mask: None };
    job.data.map = Some(map);
    assert_eq!(
        bench.refused(&job),
        "map: divergences and labels take logits as they are, expected a batch without a map"
    );
    let mut job = bench.job();
    job.distillation = Distillation::new(&Nonsense as &dyn ShaderDivergence, 1.0).unwrap();
    let message = bench.refused(&job);
    assert!(message.starts_with("shader: ") && message.contains("nonsense"), "{message}");
}

/// The student's row fits where the teacher's, of wider elements, does not.
#[test]
fn a_teacher_larger_than_a_binding() {
    let Some(gpu) = open(Some(Variant::Baseline), Some(low_limits())).map(Result::unwrap) else { return };
    let vocab = 300_000;
    let shape = Shape::new(1, vocab).unwrap();
    let batch = Batch::new(shape, &[0]).unwrap();
    let (z, u) = (vec![bf16::ZERO; vocab], vec![0.0f32; vocab]);
    let distillation = Distillation::new(ForwardKl::new().unwrap(), 1.0).unwrap();
    let (logits, teacher) = (Logits::Read(&z), Teacher::new(shape, &u).unwrap());
    let (sum, outputs) = (Reduction::Sum, PairOutputs::default());
    let error = gpu.evaluate_pair(&Nll, &distillation, sum, &batch, logits, teacher, outputs).unwrap_err();
    assert_eq!(error, GpuError::RowTooLarge { what: "teacher", bytes: 1_200_000, limit: 1 << 20 });

    let (logits, teacher) = (buffer(&gpu, &vec![0; vocab / 2]), buffer(&gpu, &vec![0; vocab]));
    let targets = buffer(&gpu, &[0]);
    let job = PairJob {
        data: Data {
            shape,
            dtype: Dtype::Bf16,
            logits: part(&logits, 0, vocab / 2),
            targets: part(&targets, 0, 1),
            map: None,
        },
        teacher: TeacherData { shape, dtype: Dtype::F32, logits: part(&teacher, 0, vocab) },
        objective: &Nll,
        distillation: distillation.with_divergence(distillation.divergence() as &dyn ShaderDivergence),
        reduction: sum,
        weights: None,
        gradient: Gradient::None,
        records: None,
        divergences: None,
        totals: None,
    };
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let error = gpu.kernels().encode_pair(&mut encoder, &job).unwrap_err();
    assert_eq!(
        error.to_string(),
        "teacher: a row needs a binding of 1200000 bytes, the device allows 1048576"
    );
}

/// Needs no adapter: nothing runs, but everything is validated.
#[test]
fn pairs_need_no_feature_and_no_more_than_default_limits() {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let kernels = Kernels::new(&device).unwrap();
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 1 << 16,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    let divergence = ForwardKl::new().unwrap();
    let shape = Shape::new(4, 100).unwrap();
    for (dtype, teacher) in
        Dtype::ALL.into_iter().flat_map(|dtype| Dtype::ALL.map(|teacher| (dtype, teacher)))
    {
        for gradient in [Gradient::None, Gradient::InPlace, Gradient::Into(part(&buffer, 4096, 1024))] {
            for (denominator, temperature) in [(Denominator::Valid, 1.0), (Denominator::Kept, 2.0)] {
                // 64-aligned or not: both widths.
                for offset in [0, 1] {
                    let mut encoder = device.create_command_encoder(&Default::default());
                    let job = PairJob {
                        data: Data {
                            shape,
                            dtype,
                            logits: part(&buffer, offset, 1024),
                            targets: part(&buffer, 2048, 4),
                            map: None,
                        },
                        teacher: TeacherData { shape, dtype: teacher, logits: part(&buffer, 8192, 1024) },
                        objective: &Nll,
                        distillation: Distillation::new(&divergence as &dyn ShaderDivergence, 1.0)
                            .and_then(|distillation| distillation.with_temperature(temperature))
                            .unwrap(),
                        reduction: Reduction::Mean(denominator),
                        weights: None,
                        gradient: gradient.clone(),
                        records: None,
                        divergences: None,
                        totals: None,
                    };
                    kernels.encode_pair(&mut encoder, &job).unwrap();
                    queue.submit([encoder.finish()]);
                }
            }
        }
    }
}
