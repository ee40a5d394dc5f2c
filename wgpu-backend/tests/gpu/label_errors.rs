//! Every error of a row with labels, with its message.

use crate::data::Matrix;
use crate::labels::listed;
use crate::machine::{baseline, gpus, low_limits, open};
use crate::run::{buffer, part, words_of};
use std::borrow::Cow;
use tokenloss_core::half::bf16;
use tokenloss_core::label::{AnyLabel, ClassLink};
use tokenloss_core::{
    Batch, Denominator, Dtype, EvaluateLabels, Labels, Link, LogitMap, Logits, NonFinite, Reduction, Shape,
};
use tokenloss_wgpu::{
    Data, Gpu, GpuError, Gradient, Kernels, LabelData, LabelJob, MapBindings, ShaderLabel, Variant,
    shaders::RECORD_WORDS, wgpu,
};

/// A job of 4 rows of 8 and their labels, in one buffer each; what a test changes is wrong.
struct Bench {
    gpu: &'static Gpu,
    logits: wgpu::Buffer,
    labels: wgpu::Buffer,
    class_weights: wgpu::Buffer,
    targets: wgpu::Buffer,
    records: wgpu::Buffer,
    totals: wgpu::Buffer,
    objective: AnyLabel,
}

impl Bench {
    fn new() -> Option<Self> {
        let gpu = baseline()?;
        let words = words_of(&Matrix::uniform(Dtype::F32, 4, 8, 1), 8);
        Some(Self {
            gpu,
            logits: buffer(gpu, &words),
            labels: buffer(gpu, &words),
            class_weights: buffer(gpu, &[0; 8]),
            targets: buffer(gpu, &[0; 4]),
            records: buffer(gpu, &[0; 4 * RECORD_WORDS]),
            totals: buffer(gpu, &[0; 9]),
            objective: listed("soft_targets", &[]),
        })
    }

    fn job(&self) -> LabelJob<'_> {
        let shape = Shape::new(4, 8).unwrap();
        LabelJob {
            data: Data {
                shape,
                dtype: Dtype::F32,
                logits: part(&self.logits, 0, 32),
                targets: part(&self.targets, 0, 4),
                map: None,
            },
            labels: LabelData {
                shape,
                dtype: Dtype::F32,
                labels: part(&self.labels, 0, 32),
                class_weights: Some(part(&self.class_weights, 0, 8)),
            },
            objective: &self.objective,
            reduction: Reduction::default(),
            weights: None,
            gradient: Gradient::InPlace,
            records: Some(part(&self.records, 0, 4 * RECORD_WORDS)),
            totals: Some(part(&self.totals, 0, 9)),
        }
    }

    fn refused(&self, job: &LabelJob<'_>) -> String {
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.gpu.kernels().encode_labels(&mut encoder, job).unwrap_err().to_string()
    }
}

/// An objective that is no WGSL.
struct Nonsense;

impl ShaderLabel for Nonsense {
    fn name(&self) -> Cow<'static, str> {
        "text".into()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        "fn text(c: Class, label: vec4<f32>) -> EntryEval { return nonsense; }".into()
    }
    fn parameters(&self) -> Vec<f32> {
        vec![]
    }
    fn class_link(&self) -> ClassLink {
        ClassLink::Sigmoid
    }
}

#[test]
fn labels_and_bindings_that_do_not_fit() {
    let Some(bench) = Bench::new() else { return };
    let mut job = bench.job();
    job.labels.shape = Shape::new(3, 8).unwrap();
    assert_eq!(bench.refused(&job), "label rows: expected 4 values, got 3");
    job.labels.shape = Shape::new(4, 7).unwrap();
    assert_eq!(bench.refused(&job), "label vocab: expected 8 values, got 7");
    job.labels.shape = Shape::new(4, 8).unwrap().with_stride(9).unwrap();
    assert_eq!(bench.refused(&job), "labels: expected a binding of at least 140 bytes, got 128");
    let mut job = bench.job();
    job.labels.class_weights = Some(part(&bench.class_weights, 1, 8));
    assert_eq!(bench.refused(&job), "class_weights: expected a binding of at least 32 bytes, got 28");
    let mut job = bench.job();
    job.labels.labels.size = None;
    assert_eq!(bench.refused(&job), "labels: expected a binding with a size, got none");
    let mut job = bench.job();
    job.labels.labels = part(&bench.logits, 0, 32);
    assert_eq!(bench.refused(&job), "logits and labels share bytes of a buffer");
    job.labels.labels = part(&bench.labels, 0, 32);
    job.labels.class_weights = Some(part(&bench.records, 0, 8));
    assert_eq!(bench.refused(&job), "records and class_weights share bytes of a buffer");
    let mut job = bench.job();
    job.reduction = Reduction::Mean(Denominator::Given(0.0));
    assert_eq!(bench.refused(&job), "denominator: expected a positive finite number, got 0");
    let mut job = bench.job();
    job.data.map =
        Some(MapBindings { link: Link::Identity, scale: 1.0, margin: 0.0, rows: None, mask: None });
    assert_eq!(
        bench.refused(&job),
        "map: divergences and labels take logits as they are, expected a batch without a map"
    );
    let mut job = bench.job();
    job.objective = &Nonsense;
    let message = bench.refused(&job);
    assert!(message.starts_with("shader: ") && message.contains("nonsense"), "{message}");
}

#[test]
fn faults_say_which_row_and_which_side() {
    let shape = Shape::new(3, 3).unwrap();
    let batch = Batch::new(shape, &[0, -100, 2]).unwrap();
    let (inf, good) = (f32::INFINITY, [0.5, 1.0, 0.25]);
    for gpu in gpus() {
        let says = |objective: &AnyLabel, z: [f32; 3], labels: [f32; 3], text: &str| {
            let (z, labels) = ([good, z, z].concat(), [good, labels, labels].concat());
            let run = |batch: &Batch<'_>| {
                let (mut losses, mut dlogits) = ([0.0; 3], [0.0; 9]);
                let out = Logits::OutOfPlace { logits: &z, dlogits: &mut dlogits };
                let labels = Labels::new(shape, &labels).unwrap();
                let losses_of = Some(&mut losses[..]);
                let done = gpu.evaluate_labels(objective, Reduction::Sum, batch, out, labels, losses_of);
                (done, losses, dlogits)
            };
            assert_eq!(run(&batch).0.unwrap_err().to_string(), text);
            let (done, losses, dlogits) = run(&batch.with_non_finite(NonFinite::NanRow));
            let totals = done.unwrap();
            assert_eq!((totals.valid, totals.kept, totals.ignored, totals.live), (2, 2, 1, 2));
            assert!(
                totals.loss_sum.is_nan() && losses[0].is_finite() && losses[2].is_nan() && losses[1] == 0.0
            );
            assert!(dlogits[..3].iter().all(|d| d.is_finite()) && dlogits[6..].iter().all(|d| d.is_nan()));
        };
        let with = |bad: f32| [0.5, bad, 1.0];
        for (objective, expected) in [
            (listed("soft_targets", &[]), format!("expected {} to {} there", f32::MIN, f32::MAX)),
            (listed("varifocal", &[0.75, 2.0]), "expected 0 to 1 there".to_owned()),
        ] {
            let finite = "expected a finite number or -inf";
            says(&objective, with(inf), good, &format!("logits: row 2, column 1 is inf, {finite}"));
            says(&objective, with(f32::NAN), good, &format!("logits: row 2, column 1 is NaN, {finite}"));
            let nan = format!("labels: row 2, column 1 is NaN, {expected}");
            says(&objective, good, with(f32::NAN), &nan);
            says(&objective, with(-inf), good, "labels: row 2, column 1 is 1, expected 0 to 0 there");
        }
        let varifocal = listed("varifocal", &[0.75, 2.0]);
        says(&varifocal, good, with(1.5), "labels: row 2, column 1 is 1.5, expected 0 to 1 there");
        let all = "logits: row 2 is -inf in all 3 columns, so that no class has probability";
        says(&listed("brier", &[]), [-inf; 3], [0.0; 3], all);
    }
}

#[test]
fn the_callers_slices() {
    let shape = Shape::new(2, 3).unwrap();
    let batch = Batch::new(shape, &[0, 1]).unwrap();
    let objective = listed("brier", &[]);
    for gpu in gpus() {
        let says = |batch: &Batch<'_>, of_labels: Shape, losses: usize, reduction: Reduction, text: &str| {
            let (z, labels) = ([0.0f32; 6], vec![0.0f32; of_labels.elements()]);
            let labels = Labels::new(of_labels, &labels).unwrap();
            let mut losses = vec![0.0; losses];
            let (read, losses) = (Logits::Read(&z), Some(&mut losses[..]));
            let done = gpu.evaluate_labels(&objective, reduction, batch, read, labels, losses);
            assert_eq!(done.unwrap_err().to_string(), text);
        };
        let sum = Reduction::Sum;
        says(&batch, Shape::new(3, 3).unwrap(), 2, sum, "label rows: expected 2 values, got 3");
        says(&batch, Shape::new(2, 4).unwrap(), 2, sum, "label vocab: expected 3 values, got 4");
        says(&batch, shape, 3, sum, "losses: expected 2 values, got 3");
        let none = Reduction::Mean(Denominator::Given(0.0));
        says(&batch, shape, 2, none, "denominator: expected a positive finite number, got 0");
        let mapped = batch.with_map(LogitMap::stable_max()).unwrap();
        let map = "map: divergences and labels take logits as they are, expected a batch without a map";
        says(&mapped, shape, 2, sum, map);
    }
}

/// The row of logits fits where that of labels, of wider elements, does not.
#[test]
fn labels_larger_than_a_binding() {
    let Some(gpu) = open(Some(Variant::Baseline), Some(low_limits())).map(Result::unwrap) else { return };
    let shape = Shape::new(1, 300_000).unwrap();
    let batch = Batch::new(shape, &[0]).unwrap();
    let (z, labels) = (vec![bf16::ZERO; 300_000], vec![0.0f32; 300_000]);
    let (read, labels) = (Logits::Read(&z), Labels::new(shape, &labels).unwrap());
    let objective = listed("brier", &[]);
    let error = gpu.evaluate_labels(&objective, Reduction::Sum, &batch, read, labels, None).unwrap_err();
    assert_eq!(error, GpuError::RowTooLarge { what: "labels", bytes: 1_200_000, limit: 1 << 20 });
}

/// Needs no adapter: nothing runs, but everything is validated.
#[test]
fn labels_need_no_feature_and_no_more_than_default_limits() {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let kernels = Kernels::new(&device).unwrap();
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 1 << 16,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    let shape = Shape::new(4, 100).unwrap();
    for (dtype, of_labels) in
        Dtype::ALL.into_iter().flat_map(|dtype| Dtype::ALL.map(|labels| (dtype, labels)))
    {
        for gradient in [Gradient::None, Gradient::InPlace, Gradient::Into(part(&buffer, 4096, 1024))] {
            for objective in [listed("soft_targets", &[]), listed("binary_nll", &[1.0])] {
                let mut encoder = device.create_command_encoder(&Default::default());
                let job = LabelJob {
                    data: Data {
                        shape,
                        dtype,
                        logits: part(&buffer, 1, 1024),
                        targets: part(&buffer, 2048, 4),
                        map: None,
                    },
                    labels: LabelData {
                        shape,
                        dtype: of_labels,
                        labels: part(&buffer, 8192, 1024),
                        class_weights: Some(part(&buffer, 13_000, 100)),
                    },
                    objective: &objective,
                    reduction: Reduction::Mean(Denominator::Kept),
                    weights: Some(part(&buffer, 13_200, 4)),
                    gradient: gradient.clone(),
                    records: None,
                    totals: None,
                };
                kernels.encode_labels(&mut encoder, &job).unwrap();
                queue.submit([encoder.finish()]);
            }
        }
    }
}
