//! Rows with a label for each class, in buffers of a caller's own and on host slices, against the oracle.

use crate::agreement::spread;
use crate::data::{Matrix, Random, rounded};
use crate::machine::{baseline, gpus, low_limits, open, say};
use crate::maps;
use crate::run::{PLACES, Place, Written, buffer, check_written, elements, guarded, part, read, words_of};
use crate::tolerance::{LabelRow, ULP};
use std::borrow::Cow;
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::label::{AnyLabel, Class, ClassLink, EntryEval, LabelObjective};
use tokenloss_core::{
    Batch, Denominator, Dtype, Element, EvaluateLabels, Labels, Logits, NonFinite, Number, Reduction, Shape,
    Totals,
};
use tokenloss_wgpu::shaders::{RECORD_WORDS, STATUS_LABEL, STATUS_NO_MASS, TOTALS_WORDS};
use tokenloss_wgpu::{Data, Gpu, Gradient, LabelData, LabelJob, Record, ShaderLabel, Variant, wgpu};

pub(crate) fn listed(name: &str, values: &[f32]) -> AnyLabel {
    let mut all = [0.0; 4];
    all[..values.len()].copy_from_slice(values);
    AnyLabel::with_parameters(name, all).unwrap().unwrap()
}

/// Labels for each row: of the target alone, smoothed, many on, none, any that the objective takes; 0 where the row is masked.
fn labels_of(matrix: &Matrix, dtype: Dtype, bounded: bool) -> Matrix {
    let (mut labels, mut random) = (Matrix::new(dtype, matrix.vocab), Random(41));
    for row in 0..matrix.rows() {
        let target = matrix.targets[row].max(0) as usize;
        labels.push(0, |j| {
            let label = match row % 5 {
                0 => f32::from(u8::from(j == target)),
                1 => 0.1 / matrix.vocab as f32 + if j == target { 0.875 } else { 0.0 },
                2 => f32::from(u8::from(random.between(0.0, 1.0) < 0.3)),
                3 if bounded => random.between(0.0, 1.0),
                3 => random.between(-3.0, 3.0),
                _ => 0.0,
            };
            if matrix.row(row)[j] == f32::NEG_INFINITY { 0.0 } else { label }
        });
    }
    labels
}

struct Setup<'a> {
    matrix: &'a Matrix,
    labels: &'a Matrix,
    class_weights: Option<&'a [f32]>,
    /// Of logits and labels.
    strides: [usize; 2],
    /// Words in front of logits, gradient, labels, and all that has one entry a row.
    offsets: [usize; 4],
    objective: &'a dyn ShaderLabel,
    reduction: Reduction,
    weights: Option<&'a [f32]>,
    place: Place,
}

impl<'a> Setup<'a> {
    fn new(matrix: &'a Matrix, labels: &'a Matrix, objective: &'a dyn ShaderLabel) -> Self {
        Self {
            matrix,
            labels,
            class_weights: None,
            strides: [matrix.vocab.next_multiple_of(8), matrix.vocab],
            offsets: [0; 4],
            objective,
            reduction: Reduction::Sum,
            weights: None,
            place: Place::Into,
        }
    }
}

struct Done {
    records: Vec<Record>,
    totals: Vec<u32>,
    dlogits: Vec<f32>,
}

fn run(gpu: &Gpu, setup: &Setup<'_>) -> Done {
    let Setup { matrix, labels, strides, offsets, place, .. } = *setup;
    let [at_logits, at_gradient, at_labels, at_rows] = offsets;
    let rows = matrix.rows();
    let shape = |stride| Shape::new(rows, matrix.vocab).unwrap().with_stride(stride).unwrap();
    let words = [words_of(matrix, strides[0]), words_of(labels, strides[1])];
    let targets: Vec<u32> = matrix.targets.iter().map(|target| *target as u32).collect();
    let bits = |of: Option<&[f32]>| -> Vec<u32> { of.unwrap_or(&[]).iter().map(|x| x.to_bits()).collect() };
    let before = [
        guarded(at_logits, &words[0]),
        guarded(at_gradient, &vec![0xffd1_ffd1; words[0].len()]),
        guarded(at_labels, &words[1]),
        guarded(at_rows, &targets),
        guarded(at_rows, &bits(setup.weights)),
        guarded(at_rows, &bits(setup.class_weights)),
        guarded(at_rows, &vec![0; rows * RECORD_WORDS]),
        guarded(at_rows, &[0; TOTALS_WORDS]),
    ];
    let once = || {
        let buffers = before.each_ref().map(|words| buffer(gpu, words));
        let job = LabelJob {
            data: Data {
                shape: shape(strides[0]),
                dtype: matrix.dtype,
                logits: part(&buffers[0], at_logits, words[0].len()),
                targets: part(&buffers[3], at_rows, rows),
                map: None,
            },
            labels: LabelData {
                shape: shape(strides[1]),
                dtype: labels.dtype,
                labels: part(&buffers[2], at_labels, words[1].len()),
                class_weights: setup.class_weights.map(|_| part(&buffers[5], at_rows, matrix.vocab)),
            },
            objective: setup.objective,
            reduction: setup.reduction,
            weights: setup.weights.map(|_| part(&buffers[4], at_rows, rows)),
            gradient: match place {
                Place::None => Gradient::None,
                Place::Over => Gradient::InPlace,
                Place::Into => Gradient::Into(part(&buffers[1], at_gradient, words[0].len())),
            },
            records: Some(part(&buffers[6], at_rows, rows * RECORD_WORDS)),
            totals: Some(part(&buffers[7], at_rows, TOTALS_WORDS)),
        };
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        gpu.kernels().encode_labels(&mut encoder, &job).unwrap();
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
    let mut written =
        vec![Written::words(6, at_rows, rows * RECORD_WORDS), Written::words(7, at_rows, TOTALS_WORDS)];
    written.extend(gradient.map(|(buffer, at)| Written::matrix(buffer, at, matrix, strides[0])));
    check_written(&before, &after, &written);
    let records = after[6][at_rows..][..rows * RECORD_WORDS].as_chunks::<RECORD_WORDS>().0;
    Done {
        records: records.iter().map(Record::from_words).collect(),
        totals: after[7][at_rows..][..TOTALS_WORDS].to_vec(),
        dlogits: gradient.map_or(vec![], |(buffer, at)| elements(&after[buffer][at..], matrix, strides[0])),
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Checks everything of a run whose rows have no faults; the largest error as a share of what is allowed.
fn check(what: &str, objective: &AnyLabel, setup: &Setup<'_>, done: &Done) -> f64 {
    let Setup { matrix, labels, place, .. } = *setup;
    let vocab = matrix.vocab;
    let class_weights = setup.class_weights.map(wide);
    let valid = matrix.targets.iter().filter(|target| **target >= 0).count();
    let denominator = match setup.reduction {
        Reduction::Sum => 1.0,
        Reduction::Mean(Denominator::Given(given)) => given,
        Reduction::Mean(_) => valid as f64,
    };
    let weight_of = |row: usize| setup.weights.map_or(1.0, |weights| f64::from(weights[row]));
    let (mut share, mut loss_sum, mut loss_slack) = (0.0f64, 0.0, 1e-30);
    let mut near = |name: &str, row: usize, got: f32, expected: f64, allowed: f64| {
        let error = (f64::from(got) - expected).abs();
        if f64::from(got) != expected && allowed.is_finite() {
            assert!(
                error <= allowed,
                "{what}, row {row}, {name}: {got:e}, expected {expected:e}, allowed {allowed:e}"
            );
            share = share.max(error / allowed);
        }
    };
    for row in 0..matrix.rows() {
        let (record, columns) = (&done.records[row], row * vocab..(row + 1) * vocab);
        let gradient = if place == Place::None { &[][..] } else { &done.dlogits[columns] };
        if matrix.targets[row] < 0 {
            assert_eq!(
                (record.loss, record.status, record.kept, record.live),
                (0.0, 0, false, false),
                "{what}"
            );
            assert!(gradient.iter().all(|g| *g == 0.0), "{what}: ignored row {row}");
            continue;
        }
        let weight = weight_of(row);
        assert_eq!((record.status, record.kept, record.live), (0, true, weight != 0.0), "{what}, row {row}");
        let truth = LabelRow::new(
            objective,
            &wide(matrix.row(row)),
            &wide(labels.row(row)),
            class_weights.as_deref(),
        );
        near("loss", row, record.loss, truth.loss, truth.loss_allowed);
        loss_sum += weight * f64::from(record.loss);
        loss_slack += weight * f64::from(record.loss.abs());
        let factor = weight / denominator;
        for (column, got) in gradient.iter().enumerate() {
            if matrix.row(row)[column] == f32::NEG_INFINITY {
                assert_eq!(*got, 0.0, "{what}, row {row}, masked column {column}");
            }
            let allowed = truth.gradient(matrix.dtype, column, factor);
            near(&format!("column {column}"), row, *got, factor * truth.dlogits[column], allowed);
        }
    }
    let ignored = matrix.rows() - valid;
    let live = (0..matrix.rows()).filter(|row| matrix.targets[*row] >= 0 && weight_of(*row) != 0.0).count();
    assert_eq!([2, 3, 4, 8].map(|at| done.totals[at] as usize), [valid, valid, ignored, live], "{what}");
    assert_eq!(f64::from(f32::from_bits(done.totals[5])), f64::from(denominator as f32), "{what}");
    let off = (f64::from(f32::from_bits(done.totals[0])) - loss_sum).abs();
    assert!(off <= 1e-5 * loss_slack, "{what}: the sum of the losses is off by {off:e}");
    share
}

fn is_bounded(objective: &AnyLabel) -> bool {
    LabelObjective::domain(objective)[0] == 0.0
}

/// Every listed objective, by its defaults and at both ends of its parameters, with and without weights of the classes. Types and
/// places take turns.
#[test]
fn every_objective() {
    for name in AnyLabel::NAMES {
        let mut share = 0.0f64;
        let settings = spread(AnyLabel::parameters_of(name).unwrap());
        for (turn, values) in settings.into_iter().enumerate() {
            let objective = AnyLabel::with_parameters(name, values).unwrap().unwrap();
            for gpu in gpus() {
                for (k, place) in PLACES.into_iter().enumerate() {
                    let [dtype, of_labels] = [turn + k, turn + k + (turn + k) / 3].map(|k| Dtype::ALL[k % 3]);
                    let matrix = maps::matrix(dtype, 259);
                    let labels = labels_of(&matrix, of_labels, is_bounded(&objective));
                    let class_weights: Vec<f32> = (0..259).map(|j| (j % 4) as f32 * 0.75).collect();
                    let class_weights = (turn % 2 == 1).then_some(&class_weights[..]);
                    let setup = Setup { place, class_weights, ..Setup::new(&matrix, &labels, &objective) };
                    let variant = gpu.kernels().variant();
                    let what = format!("{name} {values:?} {dtype} labels {of_labels} {place:?} {variant}");
                    let used = check(&what, &objective, &setup, &run(gpu, &setup));
                    // Elsewhere it is the storage type's rounding that is used up.
                    share = share.max(if dtype == Dtype::F32 { used } else { 0.0 });
                }
            }
        }
        say(&format!("{name:>16}: {:.0} % of what is allowed of f32", 100.0 * share));
    }
}

#[test]
fn types_strides_and_offsets() {
    for (objective, gpu) in [listed("soft_power", &[0.5]), listed("binary_focal", &[0.25, 2.0])]
        .iter()
        .flat_map(|objective| gpus().iter().map(move |gpu| (objective, gpu)))
    {
        for (dtype, of_labels) in
            Dtype::ALL.into_iter().flat_map(|dtype| Dtype::ALL.map(|labels| (dtype, labels)))
        {
            let matrix = maps::matrix(dtype, 263);
            let labels = labels_of(&matrix, of_labels, true);
            let class_weights: Vec<f32> = (0..263).map(|j| (j % 3) as f32).collect();
            let places = [Place::Over, Place::Into, Place::None];
            for ((strides, offsets), place) in [
                ([264, 263], [0; 4]),
                ([264, 264], [1, 1, 1, 1]),
                ([268, 301], [2, 6, 3, 5]),
                ([300, 263], [64, 128, 70, 64]),
            ]
            .into_iter()
            .zip(places.into_iter().cycle())
            {
                let class_weights = Some(&class_weights[..]);
                let setup = Setup {
                    strides,
                    offsets,
                    place,
                    class_weights,
                    ..Setup::new(&matrix, &labels, objective)
                };
                let what = format!("{dtype} labels {of_labels} {strides:?} {offsets:?} {place:?}");
                check(&what, objective, &setup, &run(gpu, &setup));
            }
        }
    }
}

#[test]
fn weights_and_denominators() {
    let objective = listed("soft_targets", &[]);
    for gpu in gpus() {
        let matrix = maps::matrix(Dtype::Bf16, 37);
        let labels = labels_of(&matrix, Dtype::F16, false);
        let weights: Vec<f32> = (0..matrix.rows()).map(|row| (row % 5) as f32 * 0.75).collect();
        let denominators = [Denominator::Valid, Denominator::Kept, Denominator::Given(12.5)];
        for reduction in denominators.map(Reduction::Mean).into_iter().chain([Reduction::Sum]) {
            for weights in [None, Some(&weights[..])] {
                for place in PLACES {
                    let setup =
                        Setup { place, weights, reduction, ..Setup::new(&matrix, &labels, &objective) };
                    check(&format!("{reduction:?} {place:?}"), &objective, &setup, &run(gpu, &setup));
                }
            }
        }
    }
}

#[test]
fn vocabularies_from_two_to_real_ones() {
    for gpu in gpus() {
        for (turn, vocab) in [2, 5, 8, 256, 1025, 50_257, 128_256].into_iter().enumerate() {
            let dtype = Dtype::ALL[turn % 3];
            let mut matrix = Matrix::uniform(dtype, 2, vocab, 3);
            matrix.push(0, |j| if j == vocab - 1 { 40.0 } else { (j % 11) as f32 });
            let mut labels = Matrix::new(Dtype::Bf16, vocab);
            for row in 0..3 {
                labels.push(0, |j| rounded(Dtype::Bf16, (j * 7 % (11 + row)) as f32 / 16.0));
            }
            for objective in [listed("brier", &[]), listed("quality_focal", &[0.25, 2.0])] {
                let setup = Setup::new(&matrix, &labels, &objective);
                check(&format!("vocab {vocab} {dtype}"), &objective, &setup, &run(gpu, &setup));
            }
        }
    }
}

/// What a row holds beside numbers: the status says which and where, and the row is NaN throughout.
#[test]
fn faults_and_masks() {
    let (inf, nan, masked) = (f32::INFINITY, f32::NAN, f32::NEG_INFINITY);
    let label = STATUS_LABEL + 2;
    for gpu in gpus() {
        for name in AnyLabel::NAMES {
            let parameters = AnyLabel::parameters_of(name).unwrap();
            // Factors of 0 do not make a class that is infinite any better.
            for at_0 in [false, true] {
                let values = std::array::from_fn(|i| {
                    parameters.get(i).map_or(0.0, |p| if at_0 { p.min } else { p.default })
                });
                let objective = AnyLabel::with_parameters(name, values).unwrap().unwrap();
                let bounded = is_bounded(&objective);
                let is_infinite = !["soft_power", "brier", "expected_cost"].contains(name);
                // The logit and the label at column 1, and the status.
                let cases = [
                    (nan, 0.0, 2),
                    (inf, 0.0, 2),
                    (inf, nan, 2),
                    (0.0, nan, label),
                    (0.0, inf, label),
                    (0.0, -inf, label),
                    (masked, nan, label),
                    (0.0, 1.5, if bounded { label } else { 0 }),
                    (0.0, -0.5, if bounded { label } else { 0 }),
                    (masked, 0.0, 0),
                    (masked, 1.0, if is_infinite { label } else { 0 }),
                    (masked, 1e-30, if is_infinite { label } else { 0 }),
                ];
                for (dtype, vocab) in [(Dtype::F32, 3), (Dtype::Bf16, 2000)] {
                    let (mut matrix, mut labels) =
                        (Matrix::new(dtype, vocab), Matrix::new(Dtype::F32, vocab));
                    for (z, label, _) in cases {
                        matrix.push(0, |j| if j == 1 { z } else { (j % 7) as f32 });
                        labels.push(0, |j| if j == 1 { label } else { 0.0 });
                    }
                    // Nothing but masks.
                    matrix.push(0, |_| masked);
                    labels.push(0, |_| 0.0);
                    let done = run(gpu, &Setup::new(&matrix, &labels, &objective));
                    for (row, (z, label, status)) in cases.into_iter().enumerate() {
                        let record = &done.records[row];
                        assert_eq!(record.status, status, "{name} {values:?}, {vocab} classes: {z}, {label}");
                        let bad = status != 0;
                        let gradient = &done.dlogits[row * vocab..][..vocab];
                        assert!(record.loss.is_nan() == bad && gradient.iter().all(|g| g.is_nan() == bad));
                        assert!(record.kept && record.live);
                    }
                    let none = if objective.link() == ClassLink::Softmax { STATUS_NO_MASS } else { 0 };
                    assert_eq!(done.records[cases.len()].status, none, "{name}");
                }
            }
        }
    }
}

/// The same on host slices.
fn on_host(gpu: &Gpu, setup: &Setup<'_>, objective: &AnyLabel) -> (Totals, Vec<f32>, Vec<f32>) {
    fn typed<E: Element, U: Element>(
        gpu: &Gpu,
        setup: &Setup<'_>,
        objective: &AnyLabel,
    ) -> (Totals, Vec<f32>, Vec<f32>) {
        let (matrix, rows) = (setup.matrix, setup.matrix.rows());
        let shape = Shape::new(rows, matrix.vocab).unwrap();
        let mut batch = Batch::new(shape, &matrix.targets).unwrap().with_non_finite(NonFinite::NanRow);
        if let Some(weights) = setup.weights {
            batch = batch.with_weights(weights).unwrap();
        }
        let mut z: Vec<E> = matrix.logits.iter().map(|z| E::from_f32(*z)).collect();
        let labels: Vec<U> = setup.labels.logits.iter().map(|label| U::from_f32(*label)).collect();
        let mut labels = Labels::new(shape, &labels).unwrap();
        if let Some(class_weights) = setup.class_weights {
            labels = labels.with_class_weights(class_weights).unwrap();
        }
        let mut losses = vec![9.0; rows];
        let (io, reduction) = (Logits::InPlace(&mut z), setup.reduction);
        let totals =
            gpu.evaluate_labels(objective, reduction, &batch, io, labels, Some(&mut losses)).unwrap();
        (totals, losses, z.iter().map(|z| z.to_f32()).collect())
    }
    match (setup.matrix.dtype, setup.labels.dtype) {
        (Dtype::F32, Dtype::F32) => typed::<f32, f32>(gpu, setup, objective),
        (Dtype::F32, Dtype::F16) => typed::<f32, f16>(gpu, setup, objective),
        (Dtype::F32, Dtype::Bf16) => typed::<f32, bf16>(gpu, setup, objective),
        (Dtype::F16, Dtype::F32) => typed::<f16, f32>(gpu, setup, objective),
        (Dtype::F16, Dtype::F16) => typed::<f16, f16>(gpu, setup, objective),
        (Dtype::F16, Dtype::Bf16) => typed::<f16, bf16>(gpu, setup, objective),
        (Dtype::Bf16, Dtype::F32) => typed::<bf16, f32>(gpu, setup, objective),
        (Dtype::Bf16, Dtype::F16) => typed::<bf16, f16>(gpu, setup, objective),
        (Dtype::Bf16, Dtype::Bf16) => typed::<bf16, bf16>(gpu, setup, objective),
    }
}

fn same(a: &[f32], b: impl Iterator<Item = f32>) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan())
}

/// Host slices give the bits of buffers.
#[test]
fn host_slices() {
    for gpu in gpus() {
        for (dtype, of_labels) in
            Dtype::ALL.into_iter().flat_map(|dtype| Dtype::ALL.map(|labels| (dtype, labels)))
        {
            for objective in [listed("soft_targets", &[]), listed("varifocal", &[0.75, 2.0])] {
                let matrix = maps::matrix(dtype, 259);
                let labels = labels_of(&matrix, of_labels, true);
                let setup = Setup { place: Place::Over, ..Setup::new(&matrix, &labels, &objective) };
                let (done, (totals, losses, dlogits)) = (run(gpu, &setup), on_host(gpu, &setup, &objective));
                assert!(same(&losses, done.records.iter().map(|record| record.loss)), "{dtype} {of_labels}");
                assert!(same(&dlogits, done.dlogits.iter().copied()), "{dtype} {of_labels}");
                let counts = [totals.valid, totals.kept, totals.ignored, totals.live];
                assert_eq!([2, 3, 4, 8].map(|at| done.totals[at] as usize), counts);
            }
        }
    }
}

/// Over bindings of 1 MiB, of which those of the labels are the first to be full, and over slices of as much.
#[test]
fn splitting_changes_no_bit() {
    let with = |limits| open(Some(Variant::Baseline), Some(limits)).map(Result::unwrap);
    let (Some(low), Some(high)) = (with(low_limits()), baseline()) else { return };
    let Some(slices) = with(wgpu::Limits { max_buffer_size: 1 << 20, ..low_limits() }) else { return };
    let objective = listed("soft_power", &[0.5]);
    let mut matrix = Matrix::uniform(Dtype::Bf16, 700, 1001, 8);
    matrix.targets[13] = -100;
    let labels = labels_of(&matrix, Dtype::F32, false);
    let weights: Vec<f32> = (0..700).map(|row| (row % 3) as f32).collect();
    let class_weights: Vec<f32> = (0..1001).map(|j| (j % 3) as f32).collect();
    for denominator in [Denominator::Valid, Denominator::Kept, Denominator::Given(9.0)] {
        let setup = Setup {
            strides: [1008, 1001],
            place: Place::Over,
            reduction: Reduction::Mean(denominator),
            weights: Some(&weights),
            class_weights: Some(&class_weights),
            ..Setup::new(&matrix, &labels, &objective)
        };
        let (a, b) = (run(&low, &setup), run(high, &setup));
        assert!(same(&a.dlogits, b.dlogits.iter().copied()), "{denominator:?}");
        let losses = |done: &Done| done.records.iter().map(|record| record.loss).collect::<Vec<_>>();
        assert!(same(&losses(&a), losses(&b).into_iter()), "{denominator:?}");
        check(&format!("{denominator:?}"), &objective, &setup, &a);
        let (totals, of_host, dlogits) = on_host(&slices, &setup, &objective);
        assert!(same(&of_host, losses(&a).into_iter()), "{denominator:?}");
        assert_eq!([totals.valid, totals.kept, totals.ignored], [699, 699, 1]);
        // The host counts in f64, the GPU in f32: their reciprocals may differ by a rounding, and that is a unit of bf16 where
        // it decides.
        for (a, b) in a.dlogits.iter().zip(&dlogits) {
            assert!((a - b).abs() <= (2.0 * ULP as f32 + 1.0 / 128.0) * a.abs(), "{a:e} and {b:e}");
        }
    }
}

/// Confident rows keep the gradient of their likeliest class: at margins from 1 to 80 the relative error of soft targets stays
/// that of an exponential.
#[test]
fn confident_rows_keep_their_gradient() {
    let objective = listed("soft_targets", &[]);
    for gpu in gpus() {
        let (mut matrix, mut labels) = (Matrix::new(Dtype::F32, 130), Matrix::new(Dtype::F32, 130));
        for margin in 1..=80 {
            matrix.push(7, |j| if j == 7 { margin as f32 } else { 0.0 });
            labels.push(0, |j| f32::from(u8::from(j == 7)));
        }
        let done = run(gpu, &Setup::new(&matrix, &labels, &objective));
        for (row, gradient) in done.dlogits.chunks(130).enumerate() {
            let tail = 129.0 * (-f64::from(row as u32 + 1)).exp();
            let expected = -tail / (1.0 + tail);
            let error = (f64::from(gradient[7]) / expected - 1.0).abs();
            assert!(error <= 12.0 * ULP, "margin {}: {:e}, expected {expected:e}", row + 1, gradient[7]);
        }
    }
}

/// sum_j t_j (1 - p_j) over the softmax, as a user would write it, by a listed objective.
struct SoftDft;

impl LabelObjective for SoftDft {
    fn link(&self) -> ClassLink {
        ClassLink::Softmax
    }
    fn of_class<N: Number>(&self, class: &Class<N>, label: N) -> EntryEval<N> {
        EntryEval { value: label * class.rest, pull: -(label * class.p) }
    }
}

impl ShaderLabel for SoftDft {
    fn name(&self) -> Cow<'static, str> {
        "soft_dft".into()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        "fn soft_dft(c: Class, label: vec4<f32>) -> EntryEval { return soft_power(c, label, 1.0); }".into()
    }
    fn parameters(&self) -> Vec<f32> {
        vec![]
    }
    fn class_link(&self) -> ClassLink {
        ClassLink::Softmax
    }
}

#[test]
fn an_objective_of_the_users_own_may_call_those_of_the_list() {
    for gpu in gpus() {
        let matrix = maps::matrix(Dtype::F32, 259);
        let labels = labels_of(&matrix, Dtype::F32, false);
        let power = listed("soft_power", &[1.0]);
        let setup = Setup::new(&matrix, &labels, &SoftDft);
        check("the user's own", &power, &setup, &run(gpu, &setup));
    }
}
