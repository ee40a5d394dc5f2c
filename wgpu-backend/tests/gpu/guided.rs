//! Rows guided by a teacher's, in buffers of a caller's own and on host slices, against the oracle of the guided row.

use crate::agreement::{Worst, check, rows, tokens};
use crate::data::{Matrix, rounded};
use crate::machine::{baseline, gpus, low_limits, open, say};
use crate::maps::{self, Own};
use crate::pairs::teacher_of;
use crate::run::{Done, Guide, PLACES, Place, Setup, run};
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{
    AnyRow, AnyToken, Batch, Composite, Denominator, Dtype, Element, EvaluateGuided, Guidance, Logits, Nll,
    NonFinite, Outputs, Power, Reduction, RowObjective, Shape, Teacher, Thresholded, Totals,
};
use tokenloss_wgpu::shaders::{STATUS_NO_MASS, STATUS_TEACHER};
use tokenloss_wgpu::{Gpu, ShaderObjective, Variant, wgpu};

/// Of neither side alone, of either, beyond the student's, and so far beyond that most of the digits are gone.
const STRENGTHS: [f32; 7] = [0.25, 1.0, 0.0, 0.5, 3.0, 0.9375, 40.0];

fn strengths(rows: usize) -> Vec<f32> {
    (0..rows).map(|row| STRENGTHS[row % STRENGTHS.len()]).collect()
}

/// Every listed objective, by its defaults and at both ends of its parameters. A type changes how logits are read, and nothing of
/// what is made of them: types, strengths and places take turns.
fn compare<O: ShaderObjective + RowObjective>(name: &str, objectives: &[O]) {
    let mut worst = Worst::default();
    for gpu in gpus() {
        for (turn, objective) in objectives.iter().enumerate() {
            let [dtype, of_teacher] = [turn, turn / 3 + turn].map(|turn| Dtype::ALL[turn % 3]);
            let matrix = maps::matrix(dtype, 259);
            let teacher = teacher_of(&matrix, of_teacher);
            let each = strengths(matrix.rows());
            let guidance = if turn % 4 == 3 { Guidance::All(1.5) } else { Guidance::Each(&each) };
            for place in PLACES {
                let guide = Some(Guide::new(&teacher, guidance));
                let setup = Setup { place, guide, ..Setup::new(&matrix, objective) };
                let what = format!(
                    "{name} {:?} {dtype} from {of_teacher} {place:?} {}",
                    tokenloss_wgpu::shaders::parameters(objective).unwrap(),
                    gpu.kernels().variant()
                );
                worst.take(check(&what, objective, &setup, &run(gpu, &setup)));
            }
        }
    }
    if !gpus().is_empty() {
        say(&format!("{name:>14} guided: {:.0} % of what is allowed", 100.0 * worst.share));
    }
}

#[test]
fn every_objective_of_a_token() {
    for name in AnyToken::NAMES {
        compare(name, &tokens(name));
    }
}

#[test]
fn every_objective_of_a_row_and_sums() {
    for name in AnyRow::NAMES {
        compare(name, &rows(name));
    }
    let sums = ["focal + entropy:lambda=-0.1", "thresholded:inner=power,alpha=0.5,lo=0.2 + deft + logit_l2"];
    compare("sums", &sums.map(|spec| Composite::parse(spec).unwrap()));
}

/// A map acts on the guided logits.
#[test]
fn every_map() {
    let objectives = ["nll", "power:alpha=0.5 + entropy:lambda=-0.1", "label_smoothing + deft"];
    for gpu in gpus() {
        for (turn, dtype) in Dtype::ALL.into_iter().enumerate() {
            let matrix = maps::matrix(dtype, 259);
            let teacher = teacher_of(&matrix, Dtype::ALL[(turn + 1) % 3]);
            let (own, each) = (Own::of(&matrix), strengths(matrix.rows()));
            for (i, map) in own.maps().into_iter().enumerate() {
                if dtype != Dtype::F32 && i % 4 != turn {
                    continue;
                }
                let objective = Composite::parse(objectives[i % 3]).unwrap();
                let place = PLACES[(i + i / 3) % 3];
                let guidance = if i % 5 == 4 { Guidance::All(0.375) } else { Guidance::Each(&each) };
                let guide = Guide { offset: 5, ..Guide::new(&teacher, guidance) };
                let setup = Setup {
                    place,
                    map: Some(map),
                    guide: Some(guide),
                    offsets: [1, 2, 3, 4],
                    ..Setup::new(&matrix, &objective)
                };
                let what = format!("{map:?} {dtype} {place:?} {objective} {}", gpu.kernels().variant());
                check(&what, &objective, &setup, &run(gpu, &setup));
            }
        }
    }
}

#[test]
fn types_strides_and_offsets() {
    let objective = Power::new(1.0).unwrap();
    for gpu in gpus() {
        for (dtype, of_teacher) in
            Dtype::ALL.into_iter().flat_map(|dtype| Dtype::ALL.map(|teacher| (dtype, teacher)))
        {
            let matrix = maps::matrix(dtype, 263);
            let teacher = teacher_of(&matrix, of_teacher);
            let each = strengths(matrix.rows());
            let places = [Place::Over, Place::Into, Place::None];
            for ((stride, of_teacher, offsets, offset), place) in [
                (264, 263, [0; 4], 0),
                (264, 264, [1, 1, 1, 1], 1),
                (268, 301, [2, 6, 3, 5], 3),
                (300, 263, [64, 128, 9, 64], 70),
            ]
            .into_iter()
            .zip(places.into_iter().cycle())
            {
                let guidance = Guidance::Each(&each);
                let guide = Guide { stride: of_teacher, offset, ..Guide::new(&teacher, guidance) };
                let guide = Some(guide);
                let setup = Setup { place, stride, offsets, guide, ..Setup::new(&matrix, &objective) };
                let what = format!("{dtype} from {}, {stride} {offsets:?} {place:?}", teacher.dtype);
                check(&what, &objective, &setup, &run(gpu, &setup));
            }
        }
    }
}

#[test]
fn weights_and_denominators() {
    let objective = Thresholded::new(Nll, 0.05, 1.0).unwrap();
    for gpu in gpus() {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let matrix = maps::matrix(dtype, 37);
            let teacher = teacher_of(&matrix, Dtype::F16);
            let each = strengths(matrix.rows());
            let weights: Vec<f32> = (0..matrix.rows()).map(|row| (row % 5) as f32 * 0.75).collect();
            let denominators = [Denominator::Valid, Denominator::Kept, Denominator::Given(12.5)];
            for reduction in denominators.map(Reduction::Mean).into_iter().chain([Reduction::Sum]) {
                for weights in [None, Some(&weights[..])] {
                    for place in PLACES {
                        let guide = Some(Guide::new(&teacher, Guidance::Each(&each)));
                        let setup =
                            Setup { place, weights, reduction, guide, ..Setup::new(&matrix, &objective) };
                        let what = format!("{reduction:?}, weights {}, {place:?}", weights.is_some());
                        check(&what, &objective, &setup, &run(gpu, &setup));
                    }
                }
            }
        }
    }
}

/// At 1 every bit is that of the row alone, with whatever the teacher holds; at 0 the row is the teacher's, without a gradient.
#[test]
fn strengths_of_1_and_0() {
    for gpu in gpus() {
        for dtype in Dtype::ALL {
            let matrix = Matrix::mixture(dtype, 259, 8);
            let mut teacher = teacher_of(&matrix, dtype);
            let place = Place::Over;
            let alone = |matrix: &Matrix| run(gpu, &Setup { place, ..Setup::new(matrix, &Nll) });
            let guided = |teacher: &Matrix, strength| {
                let guide = Some(Guide::new(teacher, Guidance::All(strength)));
                run(gpu, &Setup { place, guide, ..Setup::new(&matrix, &Nll) })
            };
            // What is masked on one side only would differ.
            let both = teacher.logits.iter_mut().zip(&matrix.logits);
            both.filter(|(_, z)| **z == f32::NEG_INFINITY).for_each(|(u, z)| *u = *z);
            let of_teacher = Matrix { targets: matrix.targets.clone(), ..teacher.clone() };
            let at_0 = guided(&teacher, 0.0);
            assert!(at_0.record_words == alone(&of_teacher).record_words, "{dtype}");
            let ignored_or_0 = |(row, gradient): (usize, &[f32])| {
                at_0.records[row].status != 0 || gradient.iter().all(|g| *g == 0.0)
            };
            assert!(at_0.dlogits.chunks(259).enumerate().all(ignored_or_0), "{dtype}");
            teacher.logits[5] = f32::NAN;
            let (at_1, own) = (guided(&teacher, 1.0), alone(&matrix));
            assert!(at_1.record_words == own.record_words && at_1.totals == own.totals, "{dtype}");
            assert!(same(&at_1.dlogits, &own.dlogits), "{dtype}");
        }
    }
}

/// What a row holds beside numbers, on either side: the status says which and where, and the row is NaN throughout.
#[test]
fn faults_and_masks() {
    let (inf, nan, masked) = (f32::INFINITY, f32::NAN, f32::NEG_INFINITY);
    // Strength, the logits at column 1 of student and teacher, and the status.
    let cases = [
        (0.5, nan, 0.0, 2),
        (0.5, inf, 0.0, 2),
        (0.5, nan, nan, 2),
        (0.5, 0.0, nan, STATUS_TEACHER + 2),
        (2.0, 0.0, inf, STATUS_TEACHER + 2),
        (0.5, masked, nan, STATUS_TEACHER + 2),
        (0.5, masked, inf, STATUS_TEACHER + 2),
        (0.0, masked, nan, STATUS_TEACHER + 2),
        (2.0, 0.0, masked, 2),
        (0.5, 0.0, masked, 0),
        (0.0, 0.0, masked, 0),
        (2.0, masked, masked, 0),
        (2.0, masked, 1.0, 0),
        (1.0, 0.0, nan, 0),
        (1.0, masked, masked, 0),
    ];
    for gpu in gpus() {
        for (dtype, vocab) in
            Dtype::ALL.into_iter().flat_map(|dtype| [3, 259, 2000].map(|vocab| (dtype, vocab)))
        {
            let (mut matrix, mut teacher) = (Matrix::new(dtype, vocab), Matrix::new(dtype, vocab));
            for (_, z, u, _) in cases {
                matrix.push(0, |j| if j == 1 { z } else { (j % 7) as f32 });
                teacher.push(0, |j| if j == 1 { u } else { (j % 5) as f32 });
            }
            // Nothing but masks, of one side or of both.
            matrix.push(0, |j| if j % 2 == 0 { masked } else { 1.0 });
            teacher.push(0, |j| if j % 2 == 0 { 1.0 } else { masked });
            let mut strengths: Vec<f32> = cases.map(|(strength, ..)| strength).to_vec();
            strengths.push(0.5);
            for place in PLACES {
                let guide = Some(Guide::new(&teacher, Guidance::Each(&strengths)));
                let setup = Setup { place, guide, ..Setup::new(&matrix, &Nll) };
                let done = run(gpu, &setup);
                for (row, (strength, z, u, status)) in cases.into_iter().enumerate() {
                    assert_eq!(done.records[row].status, status, "{dtype} {vocab}: {strength}, {z}, {u}");
                }
                assert_eq!(done.records[cases.len()].status, STATUS_NO_MASS);
                check(&format!("{dtype} {vocab} {place:?}"), &Nll, &setup, &done);
            }
        }
    }
}

/// What a guided logit that is no f32 is reported as, and what the bad rows leave alone.
fn on_host<E: Element, U: Element, O: ShaderObjective + RowObjective>(
    gpu: &Gpu,
    setup: &Setup<'_>,
    objective: &O,
) -> (Totals, Vec<f32>, Vec<f32>) {
    let (matrix, guide) = (setup.matrix, setup.guide.unwrap());
    let [shape, of_teacher] = [matrix.vocab + 1, matrix.vocab]
        .map(|stride| Shape::new(matrix.rows(), matrix.vocab).unwrap().with_stride(stride).unwrap());
    let mut batch = Batch::new(shape, &matrix.targets).unwrap().with_non_finite(NonFinite::NanRow);
    if let Some(weights) = setup.weights {
        batch = batch.with_weights(weights).unwrap();
    }
    let mut z = vec![E::from_f32(9.0); shape.elements()];
    for row in 0..matrix.rows() {
        let into = z[row * shape.stride()..].iter_mut();
        into.zip(matrix.row(row)).for_each(|(into, z)| *into = E::from_f32(*z));
    }
    let u: Vec<U> = guide.teacher.logits.iter().map(|u| U::from_f32(*u)).collect();
    let mut losses = vec![0.0; matrix.rows()];
    let outputs = Outputs { losses: Some(&mut losses), ..Outputs::default() };
    let (logits, teacher) = (Logits::InPlace(&mut z), Teacher::new(of_teacher, &u).unwrap());
    let totals = gpu
        .evaluate_guided(objective, guide.guidance, setup.reduction, &batch, logits, teacher, outputs)
        .unwrap();
    let rows = z.chunks(shape.stride());
    assert!(rows.clone().all(|row| row.get(matrix.vocab).is_none_or(|z| z.to_f32() == 9.0)));
    let dlogits = rows.flat_map(|row| &row[..matrix.vocab]).map(|z| z.to_f32()).collect();
    (totals, losses, dlogits)
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan())
}

/// Host slices give the bits of buffers.
#[test]
fn host_slices() {
    for gpu in gpus() {
        for (dtype, of_teacher) in
            Dtype::ALL.into_iter().flat_map(|dtype| Dtype::ALL.map(|teacher| (dtype, teacher)))
        {
            let matrix = maps::matrix(dtype, 259);
            let teacher = teacher_of(&matrix, of_teacher);
            let each = strengths(matrix.rows());
            for guidance in [Guidance::Each(&each), Guidance::All(0.75)] {
                let guide = Some(Guide::new(&teacher, guidance));
                let setup = Setup { stride: 264, place: Place::Over, guide, ..Setup::new(&matrix, &Nll) };
                let done = run(gpu, &setup);
                let on_host = match (dtype, of_teacher) {
                    (Dtype::F32, Dtype::F32) => on_host::<f32, f32, _>,
                    (Dtype::F32, Dtype::F16) => on_host::<f32, f16, _>,
                    (Dtype::F32, Dtype::Bf16) => on_host::<f32, bf16, _>,
                    (Dtype::F16, Dtype::F32) => on_host::<f16, f32, _>,
                    (Dtype::F16, Dtype::F16) => on_host::<f16, f16, _>,
                    (Dtype::F16, Dtype::Bf16) => on_host::<f16, bf16, _>,
                    (Dtype::Bf16, Dtype::F32) => on_host::<bf16, f32, _>,
                    (Dtype::Bf16, Dtype::F16) => on_host::<bf16, f16, _>,
                    (Dtype::Bf16, Dtype::Bf16) => on_host::<bf16, bf16, _>,
                };
                let (totals, losses, dlogits) = on_host(gpu, &setup, &Nll);
                let of_records: Vec<f32> = done.records.iter().map(|record| record.loss).collect();
                assert!(same(&losses, &of_records), "{dtype} from {of_teacher}");
                assert!(same(&dlogits, &done.dlogits), "{dtype} from {of_teacher}");
                let counts = [totals.valid, totals.kept, totals.ignored, totals.live];
                assert_eq!([2, 3, 4, 8].map(|at| done.totals[at] as usize), counts);
            }
        }
    }
}

/// Over bindings of 1 MiB, of which the teacher's are the first to be full, and over slices of as much.
#[test]
fn splitting_changes_no_bit() {
    let with = |limits| open(Some(Variant::Baseline), Some(limits)).map(Result::unwrap);
    let (Some(low), Some(high)) = (with(low_limits()), baseline()) else { return };
    let Some(slices) = with(wgpu::Limits { max_buffer_size: 1 << 20, ..low_limits() }) else { return };
    let objective = Thresholded::new(Nll, 1e-4, 1.0).unwrap();
    let mut matrix = Matrix::uniform(Dtype::Bf16, 700, 1001, 8);
    matrix.targets[13] = -100;
    let teacher = teacher_of(&matrix, Dtype::F32);
    let each = strengths(700);
    let weights: Vec<f32> = (0..700).map(|row| (row % 3) as f32).collect();
    for denominator in [Denominator::Valid, Denominator::Kept, Denominator::Given(9.0)] {
        let setup = Setup {
            stride: 1008,
            place: Place::Over,
            reduction: Reduction::Mean(denominator),
            weights: Some(&weights),
            guide: Some(Guide::new(&teacher, Guidance::Each(&each))),
            ..Setup::new(&matrix, &objective)
        };
        let (a, b) = (run(&low, &setup), run(high, &setup));
        let bits = |done: &Done| (done.record_words.clone(), done.dlogits.clone());
        assert!(bits(&a).0 == bits(&b).0 && same(&bits(&a).1, &bits(&b).1), "{denominator:?}");
        check(&format!("{denominator:?}"), &objective, &setup, &a);
        let (totals, losses, dlogits) = on_host::<bf16, f32, _>(&slices, &setup, &objective);
        let of_records: Vec<f32> = a.records.iter().map(|record| record.loss).collect();
        assert!(same(&losses, &of_records), "{denominator:?}");
        assert_eq!(
            [totals.valid, totals.kept, totals.ignored].map(|n| n as u32),
            [a.totals[2], a.totals[3], 1]
        );
        // The host counts in f64, the GPU in f32: their reciprocals may differ by a rounding, and that is a unit of bf16 where
        // it decides.
        for (a, b) in a.dlogits.iter().zip(&dlogits) {
            assert!(
                a.is_nan() && b.is_nan() || (a - b).abs() <= (2e-7 + 1.0 / 128.0) * a.abs(),
                "{a:e} and {b:e}"
            );
        }
    }
}

/// Real vocabularies, one of them odd.
#[test]
fn vocabularies_from_two_to_real_ones() {
    for gpu in gpus() {
        for (turn, vocab) in [2, 5, 8, 256, 1025, 50_257, 128_256].into_iter().enumerate() {
            let dtype = Dtype::ALL[turn % 3];
            let (matrix, mut teacher) =
                (Matrix::uniform(dtype, 3, vocab, 3), Matrix::new(Dtype::Bf16, vocab));
            for row in 0..3 {
                teacher.push(0, |j| rounded(Dtype::Bf16, (j * 7 % (11 + row)) as f32 - 5.0));
            }
            for place in [Place::Over, Place::Into] {
                let guide = Some(Guide::new(&teacher, Guidance::Each(&[0.25, 0.75, 1.75])));
                let setup = Setup { place, guide, ..Setup::new(&matrix, &Nll) };
                check(&format!("vocab {vocab} {dtype} {place:?}"), &Nll, &setup, &run(gpu, &setup));
            }
        }
    }
}
