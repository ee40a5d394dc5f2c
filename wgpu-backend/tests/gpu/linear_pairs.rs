//! Pairs of rows without the student's logits, in a caller's own buffers and on low limits.

use crate::linear::{Case, all_options};
use crate::machine::{baseline, gpus, low_limits, open};
use crate::run::{buffer, guarded, part, read};
use tokenloss_core::divergence::{Distillation, ForwardKl, JensenShannon};
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{
    Budget, Denominator, Dtype, Element, EvaluateLinearPair, LinearGradients, LinearOptions, Link, Nll,
    NonFinite, Outputs, PairOutputs, Power, Reduction, Shape, Teacher, TeacherRows, Totals,
};
use tokenloss_wgpu::shaders::{RECORD_WORDS, TOTALS_WORDS};
use tokenloss_wgpu::{
    Gpu, GpuError, LinearBuffers, LinearData, LinearPairJob, LinearTeacher, MapBindings, Record,
    ShaderDivergence, TeacherData, TeacherHead, Variant, wgpu,
};

/// What comes out.
#[derive(Debug, Clone, PartialEq)]
struct Out {
    totals: Totals,
    losses: Vec<f32>,
    divergences: Vec<f32>,
    dhidden: Vec<f32>,
    dweight: Vec<f32>,
    dbias: Vec<f32>,
}

fn distillation(temperature: f32) -> Distillation<JensenShannon> {
    let of = Distillation::new(JensenShannon::new(0.3).unwrap(), 0.7).unwrap();
    of.with_temperature(temperature).and_then(|of| of.with_objective_weight(0.3)).unwrap().with_square()
}

fn evaluate<E: Element, U: Element>(
    gpu: &Gpu,
    case: &Case<E>,
    teacher: &TeacherRows<'_, U>,
    reduction: Reduction,
    options: &LinearOptions,
) -> Result<Out, GpuError> {
    let rows = case.targets.len();
    let (mut losses, mut divergences) = (vec![9.0; rows], vec![9.0; rows]);
    let mut dhidden = vec![f32::NAN; rows * case.dim];
    let (mut dweight, mut dbias) = (vec![0.0; case.vocab * case.dim], vec![0.0; case.vocab]);
    let gradients = LinearGradients {
        dhidden: Some(&mut dhidden[..]),
        dweight: Some(&mut dweight[..]),
        dbias: Some(&mut dbias[..]),
    };
    let outputs = PairOutputs {
        outputs: Outputs { losses: Some(&mut losses), ..Outputs::default() },
        divergences: Some(&mut divergences),
    };
    let (objective, of) = (Power::new(0.5).unwrap(), distillation(2.0));
    let linear = case.linear();
    let totals =
        gpu.evaluate_linear_pair(&objective, &of, reduction, &linear, teacher, options, gradients, outputs)?;
    Ok(Out { totals, losses, divergences, dhidden, dweight, dbias })
}

#[test]
fn results_repeat_bit_for_bit() {
    for gpu in gpus() {
        let (case, teacher) = (Case::<bf16>::new(70, 40, 1030, true), Case::<f16>::new(70, 65, 1030, false));
        let teacher = TeacherRows::Linear(teacher.linear());
        for options in
            [LinearOptions::default(), LinearOptions { chunk_vocab: Some(300), ..Default::default() }]
        {
            let run = || evaluate(gpu, &case, &teacher, Reduction::default(), &options).unwrap();
            let first = run();
            assert!(first.totals.live > 0 && (0..2).all(|_| run() == first));
        }
    }
}

#[test]
fn heads_larger_than_any_binding_and_any_buffer() {
    let buffers = wgpu::Limits { max_buffer_size: 1 << 20, ..low_limits() };
    for limits in [low_limits(), buffers] {
        let Some(gpu) = open(Some(Variant::Baseline), Some(limits)).map(Result::unwrap) else { return };
        // 1.5 MB of weight, 3 MB of its gradient, 4 MB of the teacher's weight.
        let (case, teacher) = (Case::<bf16>::new(9, 151, 5_001, true), Case::<f32>::new(9, 201, 5_001, true));
        let teacher = TeacherRows::Linear(teacher.linear());
        let options = LinearOptions { budget: Budget(300_000), ..LinearOptions::default() };
        let run = |gpu: &Gpu| evaluate(gpu, &case, &teacher, Reduction::default(), &options).unwrap();
        let (got, same) = (run(&gpu), run(baseline().unwrap()));
        // Cuts change no bit: every sum runs over the same terms in the same order, but for dhidden.
        assert!(same.losses == got.losses && same.divergences == got.divergences);
        assert!(same.dweight == got.dweight && same.dbias == got.dbias);
    }
}

/// A pair of 20 rows and 333 classes in buffers, each with some words in front.
struct Bench {
    gpu: &'static Gpu,
    case: Case<f32>,
    teacher: Case<f32>,
    buffers: [wgpu::Buffer; 6],
    given: wgpu::Buffer,
    outputs: [wgpu::Buffer; 6],
}

const FIRST: usize = 3;
const ROWS: usize = 20;
const VOCAB: usize = 333;
const STRIDE: usize = 337;

impl Bench {
    fn new(gpu: &'static Gpu) -> Self {
        let (case, teacher) =
            (Case::<f32>::new(ROWS, 19, VOCAB, true), Case::<f32>::new(ROWS, 23, VOCAB, true));
        let words = |values: &[f32]| {
            buffer(gpu, &guarded(FIRST, &values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()))
        };
        let targets: Vec<u32> = case.targets.iter().map(|t| *t as u32).collect();
        let zeros = |count: usize| buffer(gpu, &guarded(FIRST, &vec![0; count]));
        let buffers = [
            words(&case.hidden),
            words(&case.weight),
            buffer(gpu, &guarded(FIRST, &targets)),
            words(&teacher.hidden),
            words(&teacher.weight),
            words(teacher.bias.as_ref().unwrap()),
        ];
        let outputs = [ROWS * 19, VOCAB * 19, VOCAB, ROWS * RECORD_WORDS, ROWS, TOTALS_WORDS].map(zeros);
        let given = words(&Self::logits());
        Self { gpu, case, teacher, buffers, given, outputs }
    }

    /// Given logits, with padding of NaN.
    fn logits() -> Vec<f32> {
        let at = |i: usize| if i % STRIDE < VOCAB { (i * 7919 % 1009) as f32 / 150.0 } else { f32::NAN };
        (0..ROWS * STRIDE).map(at).collect()
    }

    fn head(&self) -> LinearTeacher<'_> {
        LinearTeacher::Head(TeacherHead {
            dim: 23,
            dtype: Dtype::F32,
            hidden: part(&self.buffers[3], FIRST, ROWS * 23),
            weight: vec![
                part(&self.buffers[4], FIRST, 100 * 23),
                part(&self.buffers[4], FIRST + 100 * 23, (VOCAB - 100) * 23),
            ],
            bias: Some(part(&self.buffers[5], FIRST, VOCAB)),
        })
    }

    fn given(&self) -> LinearTeacher<'_> {
        LinearTeacher::Logits(TeacherData {
            shape: Shape::new(ROWS, VOCAB).unwrap().with_stride(STRIDE).unwrap(),
            dtype: Dtype::F32,
            logits: part(&self.given, FIRST, ROWS * STRIDE),
        })
    }

    fn job<'a>(
        &'a self,
        teacher: LinearTeacher<'a>,
        distillation: &'a Distillation<JensenShannon>,
        objective: &'a Power,
        options: LinearOptions,
    ) -> LinearPairJob<'a> {
        let divergence: &dyn ShaderDivergence = distillation.divergence();
        let [dhidden, dweight, dbias, records, divergences, totals] = &self.outputs;
        LinearPairJob {
            data: LinearData {
                rows: ROWS,
                dim: 19,
                vocab: VOCAB,
                columns: 0..VOCAB,
                dtype: Dtype::F32,
                hidden: part(&self.buffers[0], FIRST, ROWS * 19),
                weight: vec![part(&self.buffers[1], FIRST, VOCAB * 19)],
                bias: None,
                targets: part(&self.buffers[2], FIRST, ROWS),
                map: None,
            },
            teacher,
            objective,
            distillation: distillation.with_divergence(divergence),
            reduction: Reduction::Mean(Denominator::Kept),
            weights: None,
            gradients: LinearBuffers {
                dhidden: Some((part(dhidden, FIRST, ROWS * 19), Dtype::F32)),
                dweight: Some(vec![part(dweight, FIRST, VOCAB * 19)]),
                dbias: Some(part(dbias, FIRST, VOCAB)),
            },
            records: Some(part(records, FIRST, ROWS * RECORD_WORDS)),
            divergences: Some(part(divergences, FIRST, ROWS)),
            totals: Some(part(totals, FIRST, TOTALS_WORDS)),
            options,
            non_finite: NonFinite::Error,
        }
    }
}

/// What a caller's encoder records is what a call with host slices computes, bit by bit, wherever the buffers begin.
#[test]
fn buffers_of_a_caller() {
    let Some(gpu) = baseline() else { return };
    let (of, objective) = (distillation(2.0), Power::new(0.5).unwrap());
    // The least budget cuts otherwise, since the call's totals are no scratch here.
    for options in all_options().into_iter().filter(|options| options.budget == Budget::default()) {
        for given in [false, true] {
            let mut bench = Bench::new(gpu);
            (bench.case.bias, bench.case.weights) = (None, None);
            let logits = Bench::logits();
            let shape = Shape::new(ROWS, VOCAB).unwrap().with_stride(STRIDE).unwrap();
            let rows = if given {
                TeacherRows::Logits(Teacher::new(shape, &logits).unwrap())
            } else {
                TeacherRows::Linear(bench.teacher.linear())
            };
            let reduction = Reduction::Mean(Denominator::Kept);
            let want = evaluate(gpu, &bench.case, &rows, reduction, &options).unwrap();
            let teacher = if given { bench.given() } else { bench.head() };
            let job = bench.job(teacher, &of, &objective, options);
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            gpu.kernels().encode_linear_pair(&mut encoder, &job).unwrap();
            gpu.queue().submit([encoder.finish()]);
            let what = format!("{options:?}, given: {given}");
            let got = bench.outputs.each_ref().map(|buffer| read(gpu, buffer));
            let same = |words: &[u32], want: &[f32]| {
                let of_want = words[FIRST..][..want.len()].iter().map(|word| f32::from_bits(*word));
                of_want.eq(want.iter().copied())
            };
            assert!(same(&got[0], &want.dhidden) && same(&got[1], &want.dweight), "{what}: gradients");
            assert!(same(&got[2], &want.dbias) && same(&got[4], &want.divergences), "{what}");
            let records = got[3][FIRST..].as_chunks::<RECORD_WORDS>().0.iter().take(ROWS);
            let losses: Vec<_> = records.map(|words| Record::from_words(words).loss).collect();
            assert_eq!(losses, want.losses, "{what}");
            let totals = &got[5][FIRST..][..TOTALS_WORDS];
            let counts = [want.totals.valid, want.totals.kept, want.totals.ignored].map(|n| n as u32);
            assert_eq!((&totals[2..5], totals[8]), (&counts[..], want.totals.live as u32), "{what}");
            // Nothing around them is written.
            for words in &got {
                let before = guarded(FIRST, &[]);
                let band = before.len() - FIRST;
                assert!(
                    words[..FIRST] == before[..FIRST] && words[words.len() - band..] == before[FIRST..],
                    "{what}"
                );
            }
        }
    }
}

/// What is said of a job once it is changed.
fn refused<'a>(
    bench: &Bench,
    mut job: LinearPairJob<'a>,
    change: impl Fn(&mut LinearPairJob<'a>),
) -> Result<(), String> {
    change(&mut job);
    let mut encoder = bench.gpu.device().create_command_encoder(&Default::default());
    bench.gpu.kernels().encode_linear_pair(&mut encoder, &job).map_err(|error| error.to_string())
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(gpu) = baseline() else { return };
    let (of, objective) = (distillation(1.0), Power::new(0.5).unwrap());
    let bench = Bench::new(gpu);
    let says = |got: Result<(), String>, text: &str| assert_eq!(got, Err(text.to_owned()));
    let with = |teacher| bench.job(teacher, &of, &objective, LinearOptions::default());
    assert_eq!(refused(&bench, with(bench.head()), |_| {}), Ok(()));
    assert_eq!(refused(&bench, with(bench.given()), |_| {}), Ok(()));
    let given = |shape: Shape| {
        let logits = part(&bench.given, FIRST, ROWS * STRIDE);
        LinearTeacher::Logits(TeacherData { shape, dtype: Dtype::F32, logits })
    };
    let teacher = given(Shape::new(19, VOCAB).unwrap());
    says(refused(&bench, with(teacher), |_| {}), "teacher rows: expected 20 values, got 19");
    let teacher = given(Shape::new(ROWS, 332).unwrap());
    says(refused(&bench, with(teacher), |_| {}), "teacher vocab: expected 333 values, got 332");
    let teacher = given(Shape::new(ROWS, VOCAB).unwrap().with_stride(400).unwrap());
    says(
        refused(&bench, with(teacher), |_| {}),
        "teacher: expected a binding of at least 31732 bytes, got 26960",
    );
    let head = |change: &dyn Fn(&mut TeacherHead<'_>)| {
        let LinearTeacher::Head(mut head) = bench.head() else { panic!("a head") };
        head.weight = vec![part(&bench.buffers[4], FIRST, VOCAB * 23)];
        change(&mut head);
        refused(&bench, with(LinearTeacher::Head(head)), |_| {})
    };
    says(
        head(&|head| head.dim = 0),
        &format!("dim: expected 1 to {} elements of a hidden state, got 0", i32::MAX),
    );
    says(head(&|head| head.dim = 24), "teacher hidden: expected a binding of at least 1920 bytes, got 1840");
    says(
        head(&|head| head.weight[0].size = wgpu::BufferSize::new(4 * 7658)),
        "teacher weight: expected a binding of at least 30636 bytes, got 30544",
    );
    says(
        head(&|head| head.bias.as_mut().unwrap().size = wgpu::BufferSize::new(4)),
        "teacher bias: expected a binding of at least 1332 bytes, got 4",
    );
    says(head(&|head| head.hidden.offset = 2), "teacher hidden: expected a multiple of 4, got 2");
    says(
        refused(&bench, with(bench.head()), |job| {
            job.divergences = Some(part(&bench.buffers[3], FIRST, ROWS))
        }),
        "divergences and teacher hidden share bytes of a buffer",
    );
    says(
        refused(&bench, with(bench.given()), |job| {
            job.gradients.dhidden = Some((part(&bench.given, FIRST, ROWS * 19), Dtype::F32));
        }),
        "dhidden and teacher share bytes of a buffer",
    );
    says(
        refused(&bench, with(bench.head()), |job| job.data.columns = 0..300),
        "columns: 0..300 is empty, or not what a vocab of 333 asks for",
    );
    let map = MapBindings { link: Link::Identity, scale: 2.0, margin: 0.0, rows: None, mask: None };
    says(
        refused(&bench, with(bench.head()), |job| job.data.map = Some(map.clone())),
        "map: divergences and labels take logits as they are, expected a batch without a map",
    );
    says(
        refused(&bench, with(bench.head()), |job| job.options.block_tolerance = 0.5),
        "block_tolerance: not supported on the GPU",
    );
    let small = refused(&bench, with(bench.head()), |job| job.options.budget = Budget(10)).unwrap_err();
    assert!(small.starts_with("budget: 10 bytes hold not even one row and a few columns"), "{small}");
    says(
        refused(&bench, with(bench.head()), |job| job.reduction = Reduction::Mean(Denominator::Given(-1.0))),
        "denominator: expected a positive finite number, got -1",
    );
}

/// A row of given logits that no binding holds.
#[test]
fn a_teachers_row_larger_than_a_binding() {
    let limits = wgpu::Limits { max_storage_buffer_binding_size: 1 << 16, ..wgpu::Limits::default() };
    let Some(gpu) = open(Some(Variant::Baseline), Some(limits)).map(Result::unwrap) else { return };
    let case = Case::<f32>::new(2, 3, 20_000, false);
    let logits = vec![0.0f32; 40_000];
    let teacher = TeacherRows::Logits(Teacher::new(Shape::new(2, 20_000).unwrap(), &logits).unwrap());
    let of = Distillation::new(ForwardKl::new().unwrap(), 1.0).unwrap();
    let (options, none) = (LinearOptions::default(), LinearGradients::<f32>::default());
    let (linear, outputs) = (case.linear(), PairOutputs::default());
    let got = gpu.evaluate_linear_pair(&Nll, &of, Reduction::Sum, &linear, &teacher, &options, none, outputs);
    let text = got.unwrap_err().to_string();
    assert!(text.starts_with("teacher: a row needs a binding of 80"), "{text}");
    assert!(text.ends_with("the device allows 65536"), "{text}");
}
