//! Host slices, and the two moves apart.

use crate::agreement::oracle;
use crate::data::{Matrix, rounded};
use crate::machine::gpus;
use crate::tolerance::Row;
use num_traits::Float;
use tokenloss_core::divergence::{Distillation, ForwardKl};
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{
    AnyRow, Backend, Batch, Composite, Dtype, Element, Evaluate, Logits, Nll, Outputs, Power, Reduction,
    RowEval, RowObjective, RowPartials, RowSummary, Shape, reference,
};
use tokenloss_wgpu::{Gpu, ShaderDivergence, TimedGradient};

/// Odd vocab and odd stride: what `encode` refuses in 16 bits, host slices take.
fn slices<E: Element + PartialEq>(gpu: &Gpu) {
    let matrix = Matrix::mixture(E::DTYPE, 259, 21);
    let (rows, vocab, stride) = (matrix.rows(), 259, 263);
    let marker = E::from_f32(123.0);
    let mut logits = vec![marker; rows * stride];
    for row in 0..rows {
        for (into, z) in logits[row * stride..].iter_mut().zip(matrix.row(row)) {
            *into = E::from_f32(*z);
        }
    }
    let shape = Shape::new(rows, vocab).unwrap().with_stride(stride).unwrap();
    let batch = Batch::new(shape, &matrix.targets).unwrap();
    let objective = Power::new(0.5).unwrap();
    let reduction = Reduction::default();
    let truth = oracle(&objective, reduction, &matrix, None, None);

    let mut dlogits = vec![marker; logits.len()];
    let (mut losses, mut log_p, mut lse) = (vec![9.0; rows], vec![9.0; rows], vec![9.0; rows]);
    let (mut entropy, mut argmax) = (vec![9.0; rows], vec![9; rows]);
    let outputs = Outputs {
        losses: Some(&mut losses),
        log_p: Some(&mut log_p),
        lse: Some(&mut lse),
        entropy: Some(&mut entropy),
        argmax: Some(&mut argmax),
        ..Outputs::default()
    };
    let out = Logits::OutOfPlace { logits: &logits, dlogits: &mut dlogits };
    let totals = gpu.evaluate(&objective, reduction, &batch, out, outputs).unwrap();
    assert_eq!((totals.valid, totals.ignored), (truth.totals.valid, truth.totals.ignored));
    assert!((totals.loss_sum - truth.totals.loss_sum).abs() < 1e-5 * truth.totals.loss_sum.abs());

    let scale = 1.0 / totals.denominator;
    for row in 0..rows {
        let gradient = &dlogits[row * stride..][..stride];
        assert!(gradient[vocab..].iter().all(|g| *g == marker), "padding was written");
        if matrix.targets[row] < 0 {
            assert!(losses[row] == 0.0 && log_p[row].is_nan() && argmax[row] == -1 && entropy[row].is_nan());
            assert!(gradient[..vocab].iter().all(|g| g.to_f32() == 0.0));
            continue;
        }
        let summary = &truth.summaries[row];
        let allowed = Row::new(&objective, matrix.row(row), matrix.targets[row] as usize, summary);
        assert!((f64::from(losses[row]) - truth.losses[row]).abs() <= allowed.loss);
        assert!((f64::from(lse[row]) - summary.stats.lse()).abs() <= allowed.lse);
        assert_eq!(argmax[row] as u32, summary.stats.argmax);
        for (column, got) in gradient[..vocab].iter().enumerate() {
            let expected = truth.dlogits[row * vocab + column];
            let allowed = allowed.gradient(E::DTYPE, column, scale, expected);
            assert!((f64::from(got.to_f32()) - expected).abs() <= allowed, "{row}, {column}");
        }
    }

    // In place gives the same bits.
    let before = logits.clone();
    let place = Logits::InPlace(&mut logits);
    gpu.evaluate(&objective, reduction, &batch, place, Outputs::default()).unwrap();
    assert!(logits == dlogits);

    // So do the two moves apart, to one rounding of what goes through the host.
    let mut summaries = vec![RowSummary::nan(); rows];
    gpu.summarise(&batch, &before, &mut summaries).unwrap();
    let partials: Vec<RowPartials<f64>> =
        summaries.iter().map(|summary| objective.of_row(summary).partials.scaled(scale)).collect();
    let mut apart = before;
    gpu.push_back(&batch, Logits::InPlace(&mut apart), &summaries, &partials).unwrap();
    for (a, b) in apart.iter().zip(&dlogits) {
        let (a, b) = (f64::from(a.to_f32()), f64::from(b.to_f32()));
        let storage = 2.0 * crate::tolerance::rounding(E::DTYPE, a);
        assert!((a - b).abs() <= 2e-6 * a.abs() + storage + 1e-37, "{a:e} {b:e}");
    }
}

#[test]
fn host_slices_of_every_type() {
    for gpu in gpus() {
        slices::<f32>(gpu);
        slices::<f16>(gpu);
        slices::<bf16>(gpu);
    }
}

/// Partials that no GPU computes.
struct Given(RowPartials<f32>);

impl RowObjective for Given {
    fn of_row<T: Float>(&self, _: &RowSummary<T>) -> RowEval<T> {
        let wide = |partial: f32| T::from(partial).unwrap();
        let RowPartials { d_target, d_lse, d_entropy, d_mean, d_energy } = self.0;
        let partials = RowPartials {
            d_target: wide(d_target),
            d_lse: wide(d_lse),
            d_entropy: wide(d_entropy),
            d_mean: wide(d_mean),
            d_energy: wide(d_energy),
        };
        RowEval { loss: T::zero(), partials, kept: true }
    }
}

/// Summaries come to the host whole, and every partial is pushed back, each by itself and all at once.
fn both_moves<E: Element>(gpu: &Gpu, vocab: usize) -> f64 {
    let mut matrix = Matrix::mixture(E::DTYPE, vocab, 4);
    // A masked target, and a mask beside it.
    matrix.push(3, |j| if j == 3 || j == 4 { f32::NEG_INFINITY } else { (j % 7) as f32 });
    let rows = matrix.rows();
    let batch = Batch::new(Shape::new(rows, vocab).unwrap(), &matrix.targets).unwrap();
    let logits: Vec<E> = matrix.logits.iter().map(|z| E::from_f32(*z)).collect();
    let mut summaries = vec![RowSummary::nan(); rows];
    gpu.summarise(&batch, &logits, &mut summaries).unwrap();
    let zero = RowPartials::zero();
    let each = [
        RowPartials { d_target: 0.25, d_lse: -0.125, d_entropy: -1.5, d_mean: 0.75, d_energy: -0.03125 },
        RowPartials { d_target: 0.25, ..zero },
        RowPartials { d_lse: -0.125, ..zero },
        RowPartials { d_entropy: -1.5, ..zero },
        RowPartials { d_mean: 0.75, ..zero },
        RowPartials { d_energy: -0.03125, ..zero },
    ];
    let mut used = 0.0f64;
    let mut near = |what: &str, got: f64, expected: f64, allowed: f64| {
        if got != expected && allowed.is_finite() {
            let share = (got - expected).abs() / allowed;
            assert!(share <= 1.0, "{what}: got {got:e}, expected {expected:e}, allowed {allowed:e}");
            used = used.max(share);
        }
    };
    for given in each.map(Given) {
        let partials = vec![given.of_row(&RowSummary::<f64>::nan()).partials; rows];
        let mut dlogits = vec![E::from_f32(f32::NAN); logits.len()];
        let out = Logits::OutOfPlace { logits: &logits, dlogits: &mut dlogits };
        gpu.push_back(&batch, out, &summaries, &partials).unwrap();
        for row in 0..rows {
            let dlogits = &dlogits[row * vocab..][..vocab];
            let Some(target) = batch.target(row) else {
                assert!(dlogits.iter().all(|g| g.to_f32() == 0.0) && summaries[row].stats.max.is_nan());
                continue;
            };
            let z: Vec<f64> = matrix.row(row).iter().map(|z| f64::from(*z)).collect();
            let summary = reference::summarise(&z, target).unwrap();
            let allowed = Row::new(&given, matrix.row(row), target, &summary);
            let (got, stats) = (&summaries[row].stats, &summary.stats);
            assert_eq!((got.count, got.argmax, got.max), (stats.count, stats.argmax, stats.max));
            let what = format!("{} of {vocab}, row {row}", E::DTYPE);
            near(&what, got.entropy(), stats.entropy(), allowed.entropy);
            let [collision, spread, energy] = allowed.moments;
            near(&what, got.collision, stats.collision, collision);
            // Beyond what f32 holds.
            let held = |value: f64, allowed: f64| {
                if value.abs() < f32::MAX.into() { allowed } else { f64::INFINITY }
            };
            near(&what, got.spread, stats.spread, held(stats.spread, spread));
            near(&what, got.energy, stats.energy, held(stats.energy, energy));
            let mut expected = vec![0.0; vocab];
            reference::push_back(&z, target, &summary, partials[row], &mut expected);
            for (column, (got, expected)) in dlogits.iter().zip(expected).enumerate() {
                let allowed = allowed.gradient(E::DTYPE, column, 1.0, expected);
                near(
                    &format!("{what}, column {column}, {:?}", given.0),
                    got.to_f32().into(),
                    expected,
                    allowed,
                );
            }
        }
    }
    used
}

#[test]
fn every_partial_is_pushed_back() {
    for gpu in gpus() {
        for vocab in [130, 1500] {
            let used =
                [both_moves::<f32>, both_moves::<f16>, both_moves::<bf16>].map(|moves| moves(gpu, vocab));
            let [f32, f16, bf16] = used.map(|share| 100.0 * share);
            crate::machine::say(&format!(
                "both moves: {f32:.0} %, {f16:.0} %, {bf16:.0} % of what is allowed"
            ));
        }
    }
}

#[test]
fn runs_are_timed_beside_a_copy() {
    let shape = Shape::new(8, 1000).unwrap();
    for gpu in gpus() {
        for gradient in [TimedGradient::None, TimedGradient::InPlace, TimedGradient::OutOfPlace] {
            let seconds = gpu.time_evaluate(&Nll, shape, Dtype::Bf16, gradient, 3).unwrap();
            assert!(seconds.len() == 3 && seconds.iter().all(|s| *s > 0.0));
            let divergence = ForwardKl::new().unwrap();
            let distillation = Distillation::new(&divergence as &dyn ShaderDivergence, 1.0).unwrap();
            let seconds =
                gpu.time_evaluate_pair(&Nll, distillation, shape, Dtype::Bf16, gradient, 2).unwrap();
            assert!(seconds.len() == 2 && seconds.iter().all(|s| *s > 0.0));
        }
        assert_eq!(gpu.time_copy(shape, Dtype::F32, 2).unwrap().len(), 2);
    }
}

#[test]
fn adapters_are_listed_with_what_they_run() {
    let adapters = Gpu::adapters();
    if gpus().is_empty() {
        return;
    }
    assert!(!adapters.is_empty());
    for adapter in adapters {
        crate::machine::say(&format!(
            "gpu: {} ({}, {}, {:?}) runs {:?}",
            adapter.name, adapter.backend, adapter.driver, adapter.kind, adapter.variants
        ));
    }
    assert_eq!(rounded(Dtype::F32, 1.0), 1.0);
}

#[test]
#[ignore = "prints timings, checks nothing"]
fn timings() {
    for vocab in [32_768, 128_256] {
        let shape = Shape::new(8_388_608 / vocab, vocab).unwrap();
        for gpu in gpus() {
            for dtype in Dtype::ALL {
                let median = |mut seconds: Vec<f64>| {
                    seconds.sort_by(f64::total_cmp);
                    1000.0 * seconds[seconds.len() / 2]
                };
                let objective = Power::new(1.0).unwrap();
                let time =
                    |gradient| median(gpu.time_evaluate(&objective, shape, dtype, gradient, 7).unwrap());
                let copy = median(gpu.time_copy(shape, dtype, 7).unwrap());
                let [read, place, out] =
                    [TimedGradient::None, TimedGradient::InPlace, TimedGradient::OutOfPlace].map(time);
                crate::machine::say(&format!(
                    "{} x {vocab} {dtype:>4} {:>9}: copy {copy:.1} ms, losses {read:.1}, in place {place:.1}, \
                     out of place {out:.1} ({:.1} copies)",
                    shape.rows(),
                    gpu.kernels().variant(),
                    out / copy
                ));
            }
        }
    }
}

/// Each row objective beside nll, in the same rounds.
#[test]
#[ignore = "prints timings, checks nothing"]
fn costs() {
    let shape = Shape::new(64, 128_256).unwrap();
    let specs = ["nll"].into_iter().chain(AnyRow::NAMES.iter().copied()).chain(["nll + z_loss + logit_l2"]);
    let objectives: Vec<_> = specs.map(|spec| (spec, Composite::parse(spec).unwrap())).collect();
    for gpu in gpus() {
        let mut least = vec![[f64::INFINITY; 2]; objectives.len()];
        for _ in 0..5 {
            for (least, (_, objective)) in least.iter_mut().zip(&objectives) {
                for (least, gradient) in
                    least.iter_mut().zip([TimedGradient::None, TimedGradient::OutOfPlace])
                {
                    let seconds = gpu.time_evaluate(objective, shape, Dtype::F32, gradient, 3).unwrap();
                    *least = seconds.into_iter().fold(*least, f64::min);
                }
            }
        }
        for ([read, out], (spec, _)) in least.iter().zip(&objectives) {
            crate::machine::say(&format!(
                "{} x 128256 f32 {:>9} {spec:>24}: losses {:6.1} ms ({:.2} of nll), out of place {:6.1} ({:.2})",
                shape.rows(),
                gpu.kernels().variant(),
                1e3 * read,
                read / least[0][0],
                1e3 * out,
                out / least[0][1],
            ));
        }
    }
}
