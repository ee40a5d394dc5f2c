//! Every error of a guided row, with its message.

use crate::data::Matrix;
use crate::machine::{baseline, gpus, low_limits, open};
use crate::run::{buffer, part, words_of};
use tokenloss_core::{
    Batch, Denominator, Dtype, EvaluateGuided, Guidance, Link, Logits, Nll, NonFinite, Outputs, Reduction,
    Shape, Teacher, half::bf16,
};
use tokenloss_wgpu::{
    Data, Gpu, GpuError, Gradient, GuidanceBindings, Job, Kernels, MapBindings, MaskBinding, TeacherData,
    Variant, shaders::RECORD_WORDS, wgpu,
};

/// A job of 4 rows of 8 and its guidance, in one buffer each; what a test changes is wrong.
struct Bench {
    gpu: &'static Gpu,
    logits: wgpu::Buffer,
    teacher: wgpu::Buffer,
    targets: wgpu::Buffer,
    strengths: wgpu::Buffer,
    records: wgpu::Buffer,
    totals: wgpu::Buffer,
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
            strengths: buffer(gpu, &[0; 4]),
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

    fn guidance(&self) -> GuidanceBindings<'_> {
        let shape = Shape::new(4, 8).unwrap();
        GuidanceBindings {
            teacher: TeacherData { shape, dtype: Dtype::F32, logits: part(&self.teacher, 0, 32) },
            strength: 0.5,
            rows: Some(part(&self.strengths, 0, 4)),
        }
    }

    fn refused(&self, job: &Job<'_>, guidance: &GuidanceBindings<'_>) -> String {
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.gpu.kernels().encode_guided(&mut encoder, job, guidance).unwrap_err().to_string()
    }
}

#[test]
fn teachers_and_strengths_that_do_not_fit() {
    let Some(bench) = Bench::new() else { return };
    let job = bench.job();
    let mut guidance = bench.guidance();
    guidance.teacher.shape = Shape::new(3, 8).unwrap();
    assert_eq!(bench.refused(&job, &guidance), "teacher rows: expected 4 values, got 3");
    guidance.teacher.shape = Shape::new(4, 7).unwrap();
    assert_eq!(bench.refused(&job, &guidance), "teacher vocab: expected 8 values, got 7");
    guidance.teacher.shape = Shape::new(4, 8).unwrap().with_stride(9).unwrap();
    let message = bench.refused(&job, &guidance);
    assert_eq!(message, "teacher: expected a binding of at least 140 bytes, got 128");
    let mut guidance = bench.guidance();
    guidance.rows = Some(part(&bench.strengths, 1, 4));
    let message = bench.refused(&job, &guidance);
    assert_eq!(message, "strengths: expected a binding of at least 16 bytes, got 12");
    let mut guidance = bench.guidance();
    guidance.teacher.logits.size = None;
    assert_eq!(bench.refused(&job, &guidance), "teacher: expected a binding with a size, got none");
    for (strength, says) in [(-0.5, "-0.5"), (101.0, "101"), (f32::NAN, "NaN")] {
        let message = bench.refused(&job, &GuidanceBindings { strength, ..bench.guidance() });
        assert_eq!(message, format!("guidance: strength = {says} lies outside its domain 0 to 100"));
    }
    let mut job = bench.job();
    job.reduction = Reduction::Mean(Denominator::Given(0.0));
    let message = bench.refused(&job, &bench.guidance());
    assert_eq!(message, "denominator: expected a positive finite number, got 0");
}

#[test]
fn bindings_that_share_bytes() {
    let Some(bench) = Bench::new() else { return };
    let (mut job, mut guidance) = (bench.job(), bench.guidance());
    guidance.teacher.logits = part(&bench.logits, 0, 32);
    assert_eq!(bench.refused(&job, &guidance), "logits and teacher share bytes of a buffer");
    // What is only read may be the same.
    job.gradient = Gradient::None;
    let mut encoder = bench.gpu.device().create_command_encoder(&Default::default());
    bench.gpu.kernels().encode_guided(&mut encoder, &job, &guidance).unwrap();
    bench.gpu.queue().submit([encoder.finish()]);
    guidance.rows = Some(part(&bench.records, 0, 4));
    assert_eq!(bench.refused(&job, &guidance), "records and strengths share bytes of a buffer");
}

#[test]
fn faults_say_which_row_and_which_side() {
    let (inf, good) = (f32::INFINITY, [0.5, 1.0, 0.25]);
    let shape = Shape::new(2, 3).unwrap();
    let batch = Batch::new(shape, &[0, 1]).unwrap();
    let says = |strength: f32, z: [f32; 3], u: [f32; 3], text: &str| {
        let (z, u) = ([good, z].concat(), [good, u].concat());
        for gpu in gpus() {
            let run = |batch: &Batch<'_>| {
                let (mut losses, mut dlogits) = ([0.0; 2], [0.0; 6]);
                let outputs = Outputs { losses: Some(&mut losses), ..Outputs::default() };
                let out = Logits::OutOfPlace { logits: &z, dlogits: &mut dlogits };
                let (guidance, teacher) = (Guidance::All(strength), Teacher::new(shape, &u).unwrap());
                let done = gpu.evaluate_guided(&Nll, guidance, Reduction::Sum, batch, out, teacher, outputs);
                (done, losses, dlogits)
            };
            assert_eq!(run(&batch).0.unwrap_err().to_string(), text);
            let (done, losses, dlogits) = run(&batch.with_non_finite(NonFinite::NanRow));
            assert!(done.unwrap().loss_sum.is_nan() && losses[0].is_finite() && losses[1].is_nan());
            assert!(dlogits[..3].iter().all(|d| d.is_finite()) && dlogits[3..].iter().all(|d| d.is_nan()));
        }
    };
    let finite = "expected a finite number or -inf";
    let with = |bad: f32| [0.0, bad, 1.0];
    says(0.5, with(f32::NAN), good, &format!("logits: row 1, column 1 is NaN, {finite}"));
    says(0.5, with(inf), good, &format!("logits: row 1, column 1 is inf, {finite}"));
    says(0.5, good, with(f32::NAN), &format!("teacher: row 1, column 1 is NaN, {finite}"));
    says(0.5, with(-inf), with(inf), &format!("teacher: row 1, column 1 is inf, {finite}"));
    says(0.5, with(-inf), with(f32::NAN), &format!("teacher: row 1, column 1 is NaN, {finite}"));
    says(2.0, good, with(-inf), &format!("logits: row 1, column 1 is inf, {finite}"));
    says(0.5, [-inf; 3], good, "logits: row 1 is -inf in all 3 columns, so that no class has probability");
}

#[test]
fn the_callers_slices() {
    let shape = Shape::new(2, 3).unwrap();
    let batch = Batch::new(shape, &[0, 1]).unwrap();
    for gpu in gpus() {
        let says = |guidance: Guidance<'_>, of_teacher: Shape, reduction: Reduction, text: &str| {
            let (z, u) = ([0.0f32; 6], vec![0.0f32; of_teacher.elements()]);
            let (logits, teacher) = (Logits::Read(&z), Teacher::new(of_teacher, &u).unwrap());
            let outputs = Outputs::default();
            let error = gpu.evaluate_guided(&Nll, guidance, reduction, &batch, logits, teacher, outputs);
            assert_eq!(error.unwrap_err().to_string(), text);
        };
        let (half, sum) = (Guidance::All(0.5), Reduction::Sum);
        says(Guidance::All(-1.0), shape, sum, "guidance: strength = -1 lies outside its domain 0 to 100");
        says(Guidance::Each(&[1.0]), shape, sum, "strengths: expected 2 values, got 1");
        says(Guidance::Each(&[1.0, 101.0]), shape, sum, "strengths: value 1 is 101, expected 0 to 100");
        says(half, Shape::new(1, 3).unwrap(), sum, "teacher rows: expected 2 values, got 1");
        says(half, Shape::new(2, 4).unwrap(), sum, "teacher vocab: expected 3 values, got 4");
        let none = Reduction::Mean(Denominator::Given(0.0));
        says(half, shape, none, "denominator: expected a positive finite number, got 0");
    }
}

/// The student's row fits where the teacher's, of wider elements, does not.
#[test]
fn a_teacher_larger_than_a_binding() {
    let Some(gpu) = open(Some(Variant::Baseline), Some(low_limits())).map(Result::unwrap) else { return };
    let shape = Shape::new(1, 300_000).unwrap();
    let batch = Batch::new(shape, &[0]).unwrap();
    let (z, u) = (vec![bf16::ZERO; 300_000], vec![0.0f32; 300_000]);
    let (logits, teacher) = (Logits::Read(&z), Teacher::new(shape, &u).unwrap());
    let (guidance, outputs) = (Guidance::All(0.5), Outputs::default());
    let error =
        gpu.evaluate_guided(&Nll, guidance, Reduction::Sum, &batch, logits, teacher, outputs).unwrap_err();
    assert_eq!(error, GpuError::RowTooLarge { what: "teacher", bytes: 1_200_000, limit: 1 << 20 });
}

/// Needs no adapter: nothing runs, but everything is validated, with all that a guided row may have.
#[test]
fn guided_rows_need_no_feature_and_no_more_than_default_limits() {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let kernels = Kernels::new(&device).unwrap();
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 1 << 16,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    let shape = Shape::new(4, 100).unwrap();
    let all = MapBindings {
        link: Link::Softcap { cap: 30.0 },
        scale: 1.0,
        margin: 0.0,
        rows: Some(part(&buffer, 12_000, 8)),
        mask: Some(MaskBinding { words: part(&buffer, 12_100, 16), per_row: true }),
    };
    for (dtype, of_teacher) in
        Dtype::ALL.into_iter().flat_map(|dtype| Dtype::ALL.map(|teacher| (dtype, teacher)))
    {
        for gradient in [Gradient::None, Gradient::InPlace, Gradient::Into(part(&buffer, 4096, 1024))] {
            for (denominator, map) in [(Denominator::Valid, None), (Denominator::Kept, Some(all.clone()))] {
                let mut encoder = device.create_command_encoder(&Default::default());
                let job = Job {
                    data: Data {
                        shape,
                        dtype,
                        logits: part(&buffer, 0, 1024),
                        targets: part(&buffer, 2048, 4),
                        map,
                    },
                    objective: &Nll,
                    reduction: Reduction::Mean(denominator),
                    weights: Some(part(&buffer, 13_000, 4)),
                    gradient: gradient.clone(),
                    records: None,
                    totals: None,
                };
                let guidance = GuidanceBindings {
                    teacher: TeacherData { shape, dtype: of_teacher, logits: part(&buffer, 8192, 1024) },
                    strength: 0.5,
                    rows: Some(part(&buffer, 13_100, 4)),
                };
                kernels.encode_guided(&mut encoder, &job, &guidance).unwrap();
                queue.submit([encoder.finish()]);
            }
        }
    }
}
