//! Host slices, and the two moves apart.

use crate::agreement::oracle;
use crate::data::{Matrix, rounded};
use crate::machine::gpus;
use crate::tolerance::Row;
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{
    Backend, Batch, Dtype, Element, Evaluate, Logits, Nll, Outputs, Power, Reduction, RowObjective,
    RowPartials, RowSummary, Shape, reference,
};
use tokenloss_wgpu::{Gpu, TimedGradient};

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
    let truth = oracle(&objective, reduction, &matrix, None);

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
        let allowed = Row::new(&objective, matrix.row(row), summary);
        assert!((f64::from(losses[row]) - truth.losses[row]).abs() <= allowed.loss);
        assert!((f64::from(lse[row]) - summary.stats.lse()).abs() <= allowed.lse);
        assert_eq!(argmax[row] as u32, summary.stats.argmax);
        for (column, got) in gradient[..vocab].iter().enumerate() {
            let expected = truth.dlogits[row * vocab + column];
            let is_target = column == matrix.targets[row] as usize;
            let allowed = allowed.gradient(E::DTYPE, matrix.row(row)[column], is_target, scale, expected);
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

/// A row objective that no GPU knows, judged on the host: -H, pushed back through its entropy partial.
#[test]
fn an_entropy_partial_is_pushed_back() {
    for gpu in gpus() {
        for (dtype, vocab) in [(Dtype::F32, 130), (Dtype::F32, 1500)] {
            let matrix = Matrix::mixture(dtype, vocab, 4);
            let rows = matrix.rows();
            let batch = Batch::new(Shape::new(rows, vocab).unwrap(), &matrix.targets).unwrap();
            let mut summaries = vec![RowSummary::nan(); rows];
            gpu.summarise(&batch, &matrix.logits, &mut summaries).unwrap();
            let partials =
                vec![
                    RowPartials { d_target: 0.25, d_lse: -0.125, d_entropy: -1.5, ..RowPartials::zero() };
                    rows
                ];
            let mut dlogits = vec![f32::NAN; matrix.logits.len()];
            let out = Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut dlogits };
            gpu.push_back(&batch, out, &summaries, &partials).unwrap();
            for row in 0..rows {
                let Some(target) = batch.target(row) else {
                    assert!(dlogits[row * vocab..][..vocab].iter().all(|g| *g == 0.0));
                    continue;
                };
                let logits: Vec<f64> = matrix.row(row).iter().map(|z| f64::from(*z)).collect();
                let summary = reference::summarise(&logits, target).unwrap();
                let mut expected = vec![0.0; vocab];
                reference::push_back(&logits, target, &summary, partials[row], &mut expected);
                // The terms cancel where log p is near -H, so the error is measured against their sizes.
                let sizes: f64 = expected.iter().map(|g| g.abs()).sum();
                for (column, expected) in expected.iter().enumerate() {
                    let got = f64::from(dlogits[row * vocab + column]);
                    let p = (logits[column] - summary.stats.lse()).exp();
                    let size = p * (0.125 + 1.5 * (f64::from(summary.stats.lse().abs() as f32) + 20.0));
                    let allowed =
                        3e-5 * (expected.abs() + size) + 1e-6 * f64::from(u8::from(column == target)) + 1e-37;
                    assert!(
                        (got - expected).abs() <= allowed,
                        "{row}, {column}: {got:e} {expected:e} of {sizes:e}"
                    );
                }
            }
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

#[test]
#[ignore = "prints timings, checks nothing"]
fn costs() {
    use tokenloss_wgpu::ShaderObjective;
    let shape = Shape::new(64, 128_256).unwrap();
    for gpu in gpus() {
        let least = |objective: &dyn ShaderObjective, gradient| {
            let seconds = gpu.time_evaluate(objective, shape, Dtype::F32, gradient, 9).unwrap();
            1000.0 * seconds.into_iter().fold(f64::INFINITY, f64::min)
        };
        let gradients = [TimedGradient::None, TimedGradient::OutOfPlace];
        let [read, out] = gradients.map(|gradient| least(&Nll, gradient));
        let variant = gpu.kernels().variant();
        crate::machine::say(&format!("nll {variant:>9}: losses {read:.1} ms, out of place {out:.1}"));
    }
}
