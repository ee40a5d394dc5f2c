//! Pairs of rows in buffers of a caller's own. What comes out is held to the oracle by the facade's suite, through host slices,
//! for every divergence; here it is held to what comes out there.

use crate::data::{Matrix, Random};
use crate::machine::{baseline, gpus, low_limits, open};
use crate::run::{PLACES, Place, Written, buffer, check_written, elements, guarded, part, read, words_of};
use crate::tolerance::{Row, ULP};
use std::borrow::Cow;
use tokenloss_core::divergence::{
    AnyDivergence, Distillation, Divergence, Entry, EntryEval, ForwardKl, JensenShannon, MixedKl,
};
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{
    Batch, Denominator, Dtype, Element, EvaluatePair, Logits, Nll, NonFinite, Number, Outputs, PairOutputs,
    Reduction, RowObjective, Shape, Teacher, Thresholded, Totals, Unjudged, reference,
};
use tokenloss_wgpu::shaders::{RECORD_WORDS, TOTALS_WORDS};
use tokenloss_wgpu::{
    Data, Gpu, Gradient, PairJob, Record, ShaderDivergence, ShaderObjective, TeacherData, Variant, wgpu,
};

/// A teacher for a matrix of students: the same row, near, apart, with masks of its own.
pub(crate) fn teacher_of(student: &Matrix, dtype: Dtype) -> Matrix {
    let (mut teacher, mut random) = (Matrix::new(dtype, student.vocab), Random(77));
    for row in 0..student.rows() {
        let of_student = student.row(row);
        let width = [0.0, 0.01, 0.5, 4.0][row % 4];
        teacher.push(0, |j| {
            let masked = row % 3 == 1 && j % 5 == 2;
            if masked { f32::NEG_INFINITY } else { of_student[j] + random.between(-width, width) }
        });
    }
    teacher
}

struct Setup<'a, O> {
    student: &'a Matrix,
    teacher: &'a Matrix,
    strides: [usize; 2],
    /// Words in front of logits, gradient, teacher, and all that has one entry a row.
    offsets: [usize; 4],
    objective: &'a O,
    distillation: Distillation<AnyDivergence>,
    reduction: Reduction,
    weights: Option<&'a [f32]>,
    place: Place,
}

#[derive(Debug, PartialEq)]
struct Done {
    records: Vec<Record>,
    divergences: Vec<u32>,
    totals: Vec<u32>,
    dlogits: Vec<f32>,
}

impl Done {
    fn bits(&self) -> [Vec<u32>; 3] {
        let records = self.records.iter().flat_map(Record::to_words).collect();
        [records, self.divergences.clone(), self.dlogits.iter().map(|d| d.to_bits()).collect()]
    }
}

fn run<O: ShaderObjective>(gpu: &Gpu, setup: &Setup<'_, O>) -> Done {
    let Setup { student, teacher, strides, offsets, place, .. } = *setup;
    let [at_logits, at_gradient, at_teacher, at_rows] = offsets;
    let rows = student.rows();
    let shape = |stride| Shape::new(rows, student.vocab).unwrap().with_stride(stride).unwrap();
    let words = [words_of(student, strides[0]), words_of(teacher, strides[1])];
    let targets: Vec<u32> = student.targets.iter().map(|target| *target as u32).collect();
    let weights: Vec<u32> = setup.weights.unwrap_or(&[]).iter().map(|weight| weight.to_bits()).collect();
    let before = [
        guarded(at_logits, &words[0]),
        guarded(at_gradient, &vec![0xffd1_ffd1; words[0].len()]),
        guarded(at_teacher, &words[1]),
        guarded(at_rows, &targets),
        guarded(at_rows, &weights),
        guarded(at_rows, &vec![0; rows * RECORD_WORDS]),
        guarded(at_rows, &vec![0; rows]),
        guarded(at_rows, &[0; TOTALS_WORDS]),
    ];
    let once = || {
        let buffers = before.each_ref().map(|words| buffer(gpu, words));
        let divergence: &dyn ShaderDivergence = setup.distillation.divergence();
        let job = PairJob {
            data: Data {
                shape: shape(strides[0]),
                dtype: student.dtype,
                logits: part(&buffers[0], at_logits, words[0].len()),
                targets: part(&buffers[3], at_rows, rows),
                map: None,
            },
            teacher: TeacherData {
                shape: shape(strides[1]),
                dtype: teacher.dtype,
                logits: part(&buffers[2], at_teacher, words[1].len()),
            },
            objective: setup.objective,
            distillation: setup.distillation.with_divergence(divergence),
            reduction: setup.reduction,
            weights: setup.weights.map(|_| part(&buffers[4], at_rows, rows)),
            gradient: match place {
                Place::None => Gradient::None,
                Place::Over => Gradient::InPlace,
                Place::Into => Gradient::Into(part(&buffers[1], at_gradient, words[0].len())),
            },
            records: Some(part(&buffers[5], at_rows, rows * RECORD_WORDS)),
            divergences: Some(part(&buffers[6], at_rows, rows)),
            totals: Some(part(&buffers[7], at_rows, TOTALS_WORDS)),
        };
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        gpu.kernels().encode_pair(&mut encoder, &job).unwrap();
        gpu.queue().submit([encoder.finish()]);
        buffers.iter().map(|buffer| read(gpu, buffer)).collect::<Vec<_>>()
    };
    let after = once();
    assert!(after == once(), "two runs differ");
    let gradient = match place {
        Place::None => None,
        Place::Over => Some((0, at_logits)),
        Place::Into => Some((1, at_gradient)),
    };
    let mut written = vec![
        Written::words(5, at_rows, rows * RECORD_WORDS),
        Written::words(6, at_rows, rows),
        Written::words(7, at_rows, TOTALS_WORDS),
    ];
    written.extend(gradient.map(|(buffer, at)| Written::matrix(buffer, at, student, strides[0])));
    check_written(&before, &after, &written);
    let records = after[5][at_rows..][..rows * RECORD_WORDS].as_chunks::<RECORD_WORDS>().0;
    Done {
        records: records.iter().map(Record::from_words).collect(),
        divergences: after[6][at_rows..][..rows].to_vec(),
        totals: after[7][at_rows..][..TOTALS_WORDS].to_vec(),
        dlogits: gradient.map_or(vec![], |(buffer, at)| elements(&after[buffer][at..], student, strides[0])),
    }
}

/// The same through host slices.
fn of_host<O: ShaderObjective + RowObjective>(
    gpu: &Gpu,
    setup: &Setup<'_, O>,
) -> (Vec<u32>, Vec<f32>, Totals) {
    fn typed<O: ShaderObjective + RowObjective, E: Element, U: Element>(
        gpu: &Gpu,
        setup: &Setup<'_, O>,
    ) -> (Vec<u32>, Vec<f32>, Totals) {
        let Setup { student, teacher, .. } = *setup;
        let shape = Shape::new(student.rows(), student.vocab).unwrap();
        let mut batch = Batch::new(shape, &student.targets).unwrap().with_non_finite(NonFinite::NanRow);
        if let Some(weights) = setup.weights {
            batch = batch.with_weights(weights).unwrap();
        }
        let mut z: Vec<E> = student.logits.iter().map(|z| E::from_f32(*z)).collect();
        let u: Vec<U> = teacher.logits.iter().map(|u| U::from_f32(*u)).collect();
        let mut divergences = vec![0.0; student.rows()];
        let outputs = PairOutputs { divergences: Some(&mut divergences), ..PairOutputs::default() };
        let (logits, teacher) = (Logits::InPlace(&mut z), Teacher::new(shape, &u).unwrap());
        let Setup { objective, ref distillation, reduction, .. } = *setup;
        let totals = gpu.evaluate_pair(objective, distillation, reduction, &batch, logits, teacher, outputs);
        let bits = divergences.iter().map(|value| value.to_bits()).collect();
        (bits, z.iter().map(|z| z.to_f32()).collect(), totals.unwrap())
    }
    fn from<O: ShaderObjective + RowObjective, E: Element>(
        gpu: &Gpu,
        setup: &Setup<'_, O>,
    ) -> (Vec<u32>, Vec<f32>, Totals) {
        match setup.teacher.dtype {
            Dtype::F32 => typed::<O, E, f32>(gpu, setup),
            Dtype::F16 => typed::<O, E, f16>(gpu, setup),
            Dtype::Bf16 => typed::<O, E, bf16>(gpu, setup),
        }
    }
    match setup.student.dtype {
        Dtype::F32 => from::<O, f32>(gpu, setup),
        Dtype::F16 => from::<O, f16>(gpu, setup),
        Dtype::Bf16 => from::<O, bf16>(gpu, setup),
    }
}

fn setup<'a, O>(student: &'a Matrix, teacher: &'a Matrix, objective: &'a O) -> Setup<'a, O> {
    let divergence = AnyDivergence::from(JensenShannon::new(0.5).unwrap());
    Setup {
        student,
        teacher,
        strides: [student.vocab.next_multiple_of(8), student.vocab],
        offsets: [0; 4],
        objective,
        distillation: Distillation::new(divergence, 0.75).unwrap(),
        reduction: Reduction::Sum,
        weights: None,
        place: Place::Into,
    }
}

/// Where the student's rows begin with a group of four words, every bit is that of host slices, whatever the teacher's type,
/// stride and offset, and the width of a load.
#[test]
fn types_places_strides_and_offsets() {
    for gpu in gpus() {
        for (turn, dtype) in Dtype::ALL.into_iter().enumerate() {
            for teacher_dtype in Dtype::ALL {
                let student = Matrix::mixture(dtype, 263, 9);
                let teacher = teacher_of(&student, teacher_dtype);
                let tempered = |temperature| {
                    let mut setup = setup(&student, &teacher, &Nll);
                    setup.distillation = setup.distillation.with_temperature(temperature).unwrap();
                    setup
                };
                let setup = tempered([1.0, 2.0, 1.0][turn]);
                let (divergences, dlogits, totals) = of_host(gpu, &setup);
                for (strides, offsets) in
                    [([264, 263], [0; 4]), ([272, 301], [4, 8, 3, 1]), ([264, 264], [64, 4, 1, 70])]
                {
                    for place in PLACES {
                        let done =
                            run(gpu, &Setup { strides, offsets, place, ..tempered([1.0, 2.0, 1.0][turn]) });
                        let what =
                            format!("{dtype} from {teacher_dtype}, {strides:?}, {offsets:?}, {place:?}");
                        assert!(done.divergences == divergences, "{what}");
                        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
                        assert!(
                            place == Place::None || done.dlogits.iter().zip(&dlogits).all(same),
                            "{what}: the gradient"
                        );
                        let counts = [totals.valid, totals.kept, totals.ignored, totals.live];
                        assert_eq!([2, 3, 4, 8].map(|at| done.totals[at] as usize), counts, "{what}");
                    }
                }
            }
        }
    }
}

/// Elsewhere sums are taken in another order. All that it changes are the two masses and the two sums over classes.
#[test]
fn rows_that_begin_anywhere() {
    for gpu in gpus() {
        for dtype in Dtype::ALL {
            let student = Matrix::mixture(dtype, 263, 9);
            let teacher = teacher_of(&student, Dtype::F32);
            let aligned = run(gpu, &setup(&student, &teacher, &Unjudged));
            // Roundings of a lane's sums and of all merges, on both sides, and of what is made of either.
            let off = 4.0 * (263.0 / 256.0 + 10.0) * ULP;
            for (stride, offsets) in [(266, [1, 1, 1, 1]), (266, [2, 6, 3, 5]), (300, [3, 0, 7, 2])] {
                for place in [Place::Over, Place::Into] {
                    let at = Setup {
                        strides: [stride, 263],
                        offsets,
                        place,
                        ..setup(&student, &teacher, &Unjudged)
                    };
                    let done = run(gpu, &at);
                    for row in 0..student.rows() {
                        let wide = |row: &[f32]| row.iter().map(|z| f64::from(*z)).collect::<Vec<_>>();
                        let (z, u) = (wide(student.row(row)), wide(teacher.row(row)));
                        let value = |done: &Done| f64::from(f32::from_bits(done.divergences[row]));
                        if student.targets[row] < 0 {
                            assert_eq!((done.divergences[row], value(&aligned)), (0, 0.0));
                            continue;
                        }
                        let divergence = JensenShannon::new(0.5).unwrap();
                        let entries: Vec<_> = reference::entries(1.0, &z, &u).unwrap().collect();
                        let moved = |entry: &Entry<f64>, by: f64| {
                            let log_greater = entry.greater.ln();
                            divergence.of_entry(&Entry::new(log_greater, entry.log_ratio + by))
                        };
                        let mut values = 0.0;
                        let mut pulls = 0.0;
                        let mut of_classes = Vec::new();
                        for entry in &entries {
                            let here = divergence.of_entry(entry);
                            let there = if entry.greater < 1e-40 { here } else { moved(entry, off) };
                            let pull = (there.pull - here.pull).abs() + off * here.pull.abs();
                            values += (there.value - here.value).abs() + off * here.value.abs();
                            pulls += pull;
                            of_classes.push(pull);
                        }
                        let error = (value(&done) - value(&aligned)).abs();
                        assert!(error <= values, "row {row}: {error:e} of {values:e}");
                        for (j, entry) in entries.iter().enumerate() {
                            let [a, b] = [&done, &aligned].map(|done| f64::from(done.dlogits[row * 263 + j]));
                            let granted = 0.75 * (of_classes[j] + entry.p() * pulls);
                            let rounding = 2.0 * crate::tolerance::rounding(dtype, b.abs() + granted);
                            assert!(
                                (a - b).abs() <= granted + rounding + 1e-37,
                                "{dtype}, row {row}, column {j}: {a:e} and {b:e}, {granted:e}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// What a record says of the student's row beside a divergence is what it says of it alone.
#[test]
fn records_are_of_the_students_row_at_temperature_1() {
    for gpu in gpus() {
        let student = Matrix::mixture(Dtype::F32, 130, 5);
        let teacher = teacher_of(&student, Dtype::Bf16);
        let mut of_pair = setup(&student, &teacher, &Nll);
        of_pair.distillation = of_pair
            .distillation
            .with_temperature(3.0)
            .and_then(|distillation| distillation.with_objective_weight(0.25))
            .unwrap();
        let done = run(gpu, &of_pair);
        for (row, record) in done.records.iter().enumerate() {
            let Ok(target) = usize::try_from(student.targets[row]) else {
                assert_eq!((record.loss, record.status, record.live), (0.0, 0, false));
                continue;
            };
            let z: Vec<f64> = student.row(row).iter().map(|z| f64::from(*z)).collect();
            let summary = reference::summarise(&z, target).unwrap();
            let allowed = Row::new(&Nll, student.row(row), target, &summary);
            let near = |got: f32, expected: f64, allowed: f64| {
                assert!((f64::from(got) - expected).abs() <= allowed, "row {row}: {got:e}, {expected:e}");
            };
            near(record.log_p, summary.target.log_p, allowed.log_p);
            near(record.lse, summary.stats.lse(), allowed.lse);
            near(record.entropy, summary.stats.entropy(), allowed.entropy);
            assert_eq!(record.argmax as u32, summary.stats.argmax);
            assert_eq!((record.d_target, record.d_lse), (-0.25, 0.25));
            let divergence = f64::from(f32::from_bits(done.divergences[row]));
            let (of_objective, factor) = (0.25 * -f64::from(record.log_p), of_pair.distillation.factor());
            let loss = of_objective + factor * divergence;
            near(record.loss, loss, 2.0 * ULP * (of_objective + factor * divergence));
        }
    }
}

fn with(limits: wgpu::Limits) -> Option<Gpu> {
    open(Some(Variant::Baseline), Some(limits)).map(Result::unwrap)
}

/// Over bindings of 1 MiB, of which the teacher's are the first to be full, and over slices of as much.
#[test]
fn splitting_changes_no_bit() {
    let (Some(low), Some(high)) = (with(low_limits()), baseline()) else { return };
    let Some(slices) = with(wgpu::Limits { max_buffer_size: 1 << 20, ..low_limits() }) else { return };
    let objective = Thresholded::new(Nll, 1e-4, 1.0).unwrap();
    let mut student = Matrix::uniform(Dtype::Bf16, 700, 1001, 8);
    student.targets[13] = -100;
    let teacher = teacher_of(&student, Dtype::F32);
    for denominator in [Denominator::Valid, Denominator::Kept, Denominator::Given(9.0)] {
        let reduction = Reduction::Mean(denominator);
        let setup = Setup { strides: [1008, 1001], reduction, ..setup(&student, &teacher, &objective) };
        let (a, b) = (run(&low, &setup), run(high, &setup));
        assert!(a.bits() == b.bits(), "{denominator:?}");
        let (divergences, dlogits, totals) = of_host(&slices, &setup);
        assert!(divergences == a.divergences, "{denominator:?}");
        assert_eq!(
            [totals.valid, totals.kept, totals.ignored].map(|n| n as u32),
            [a.totals[2], a.totals[3], 1]
        );
        // The host counts in f64, the GPU in f32: their reciprocals may differ by a rounding, and that is a unit of bf16 where
        // it decides.
        for (a, b) in a.dlogits.iter().zip(&dlogits) {
            assert!((a - b).abs() <= (2.0 * ULP as f32 + 1.0 / 128.0) * a.abs(), "{a:e} and {b:e}");
        }
    }
}

/// The forms of an exponential that divergences are made of, one after the other.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Form {
    LogRatio,
    Exp,
    ExpM1,
    XExp,
    GapAt0,
    GapAtX,
    LnGap,
}

const FORMS: [Form; 7] =
    [Form::LogRatio, Form::Exp, Form::ExpM1, Form::XExp, Form::GapAt0, Form::GapAtX, Form::LnGap];

impl Form {
    /// Of `-|log p - log q|`, and of 0.9 times the exponential's distance from 1.
    fn of(self, log_ratio: f64) -> f64 {
        let exp = (-log_ratio.abs()).exp_and_gaps();
        match self {
            Self::LogRatio => log_ratio,
            Self::Exp => exp.exp,
            Self::ExpM1 => exp.exp_m1,
            Self::XExp => exp.x_exp,
            Self::GapAt0 => exp.gap_at_0,
            Self::GapAtX => exp.gap_at_x,
            Self::LnGap => (0.9 * exp.exp_m1).ln_gap(0.1 + 0.9 * exp.exp),
        }
    }

    /// Relative, as the CPU's are documented, and twice that for what WGSL does not promise of a division or a rounding.
    fn granted(self) -> f64 {
        match self {
            Self::LogRatio => 0.0,
            Self::Exp | Self::ExpM1 => 3e-7,
            Self::XExp => 4e-7,
            Self::GapAt0 | Self::GapAtX | Self::LnGap => 1.6e-6,
        }
    }
}

impl Divergence for Form {
    fn of_entry<N: Number>(&self, entry: &Entry<N>) -> EntryEval<N> {
        EntryEval { value: entry.greater.like(0.0), pull: entry.log_ratio }
    }
}

impl ShaderDivergence for Form {
    fn name(&self) -> Cow<'static, str> {
        "form".into()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        let form = match self {
            Self::LogRatio => "entry.log_ratio",
            Self::Exp => "entry.ratio.exp",
            Self::ExpM1 => "entry.ratio.exp_m1",
            Self::XExp => "entry.ratio.x_exp",
            Self::GapAt0 => "entry.ratio.gap_at_0",
            Self::GapAtX => "entry.ratio.gap_at_x",
            Self::LnGap => "ln_gap(0.9 * entry.ratio.exp_m1, 0.1 + 0.9 * entry.ratio.exp)",
        };
        // The values are there so that the row has a gradient.
        format!("fn form(entry: Entry) -> EntryEval {{ return EntryEval(entry.greater, {form}); }}").into()
    }
    fn parameters(&self) -> Vec<f32> {
        vec![]
    }
}

/// exp(-87), rounded up.
const FLUSHED: f64 = 1.7e-38;

/// A driver that rewrites what cancels would be seen here: a divergence of one's own shows each form as a gradient.
#[test]
fn forms_keep_their_relative_accuracy() {
    const VOCAB: usize = 1024;
    // The first class has all the mass, so that of the sum of the pulls next to nothing is taken off the others.
    let mut z = [0.0f32; VOCAB];
    z[0] = 80.0;
    let shape = Shape::new(1, VOCAB).unwrap();
    let batch = Batch::new(shape, &[0]).unwrap();
    for gpu in gpus() {
        let mut worst = [0.0f64; FORMS.len()];
        for width in [1e-20f32, 1e-10, 1e-5, 1e-3, 0.1, 0.5, 1.0, 2.0, 8.0, 40.0, 80.0] {
            let mut u: Vec<f32> = (0..VOCAB).map(|j| width * (j as f32 / 512.0 - 1.0)).collect();
            u[0] = 80.0;
            let gradient = |form: Form| {
                let mut dlogits = vec![f32::NAN; VOCAB];
                let logits = Logits::OutOfPlace { logits: &z, dlogits: &mut dlogits };
                let (teacher, outputs) = (Teacher::new(shape, &u).unwrap(), PairOutputs::default());
                let distillation = Distillation::new(form, 1.0).unwrap();
                gpu.evaluate_pair(&Unjudged, &distillation, Reduction::Sum, &batch, logits, teacher, outputs)
                    .unwrap();
                dlogits
            };
            let log_ratios = gradient(Form::LogRatio);
            for (form, worst) in FORMS.into_iter().zip(&mut worst) {
                let all = log_ratios.iter().map(|log_ratio| form.of((*log_ratio).into()).abs());
                // Twice exp(-80) of all pulls, in what is seen and in the log-ratio that it is held to. Below -87 the
                // exponential is 0, and x times it is at most 90 times what is lost by that.
                let taken_off = 2.0 * 2e-35 * (all.sum::<f64>() + f64::from(width) * VOCAB as f64);
                for (got, log_ratio) in gradient(form).iter().zip(&log_ratios).skip(1) {
                    let expected = form.of((*log_ratio).into());
                    let error = ((f64::from(*got) - expected).abs() - 90.0 * FLUSHED - taken_off).max(0.0);
                    if error > 0.0 {
                        *worst = worst.max(error / expected.abs());
                    }
                    assert!(
                        error <= form.granted() * expected.abs(),
                        "{form:?} at {log_ratio:e}: {got:e}, expected {expected:e}"
                    );
                }
            }
        }
        let worst: Vec<_> =
            FORMS.into_iter().zip(worst).map(|(form, worst)| format!("{form:?} {worst:.1e}")).collect();
        crate::machine::say(&format!(
            "forms of an exponential, largest relative errors: {}",
            worst.join(", ")
        ));
    }
}

/// A listed divergence under another name.
struct Renamed(MixedKl);

impl Divergence for Renamed {
    fn of_entry<N: Number>(&self, entry: &Entry<N>) -> EntryEval<N> {
        self.0.of_entry(entry)
    }
}

impl ShaderDivergence for Renamed {
    fn name(&self) -> Cow<'static, str> {
        "renamed".into()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        "fn renamed(entry: Entry, mix: f32) -> EntryEval { return mixed_kl(entry, mix); }".into()
    }
    fn parameters(&self) -> Vec<f32> {
        ShaderDivergence::parameters(&self.0)
    }
}

#[test]
fn a_divergence_of_the_users_own_may_call_those_of_the_list() {
    let student = Matrix::uniform(Dtype::F32, 3, 50, 4);
    let (shape, u) = (Shape::new(3, 50).unwrap(), Matrix::uniform(Dtype::F32, 3, 50, 6).logits);
    let batch = Batch::new(shape, &student.targets).unwrap();
    fn of<D: Divergence + ShaderDivergence>(
        gpu: &Gpu,
        batch: &Batch<'_>,
        divergence: D,
        z: &[f32],
        u: &[f32],
    ) -> Vec<u32> {
        let mut divergences = [0.0; 3];
        let outputs = PairOutputs { divergences: Some(&mut divergences), outputs: Outputs::default() };
        let (distillation, teacher) =
            (Distillation::new(divergence, 1.0).unwrap(), Teacher::new(batch.shape(), u).unwrap());
        let logits = Logits::Read(z);
        gpu.evaluate_pair(&Nll, &distillation, Reduction::Sum, batch, logits, teacher, outputs).unwrap();
        divergences.map(f32::to_bits).to_vec()
    }
    for gpu in gpus() {
        let mixed = MixedKl::new(0.3).unwrap();
        let [z, u] = [&student.logits, &u];
        assert_eq!(of(gpu, &batch, Renamed(mixed), z, u), of(gpu, &batch, mixed, z, u));
        assert_ne!(of(gpu, &batch, mixed, z, u), of(gpu, &batch, ForwardKl::new().unwrap(), z, u));
    }
}
