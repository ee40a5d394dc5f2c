//! Every objective, level and storage type against the oracle. `cargo test --test suite accuracy -- --nocapture`
//! prints the figures of the README's accuracy table.

use crate::inputs::{self, Matrix, objectives};
use crate::oracle::{self, Grant, Truth};
use crate::runner::Runner;
use std::collections::BTreeMap;
use tokenloss::cpu::Level;
use tokenloss::half::{bf16, f16};
use tokenloss::{Batch, Dtype, Element, Logits, Objective, Outputs, Reduction, Shape};

/// The largest error, as a share of what is granted, by runner and objective.
type Worst = BTreeMap<String, BTreeMap<String, f64>>;

/// One objective over one matrix by several runners, each against the same truth.
fn check<E: Element>(
    runners: &[Runner],
    objective: &Objective,
    matrix: &Matrix<E>,
    in_place: bool,
    worst: &mut Worst,
) {
    for grant in [Grant::CPU, Grant::GPU] {
        let of_grant: Vec<_> = runners.iter().filter(|runner| runner.grant() == grant).collect();
        if of_grant.is_empty() {
            continue;
        }
        let truths: Vec<_> =
            (0..matrix.targets.len()).map(|row| oracle::truth(matrix, row, objective, 1.0, grant)).collect();
        for runner in of_grant {
            let share = check_one(runner, objective, matrix, in_place, &truths);
            let of_runner = worst.entry(format!("{runner}, {}", E::DTYPE)).or_default();
            let so_far = of_runner.entry(objective.to_string()).or_default();
            *so_far = so_far.max(share);
        }
    }
}

fn check_one<E: Element>(
    runner: &Runner,
    objective: &Objective,
    matrix: &Matrix<E>,
    in_place: bool,
    truths: &[Truth],
) -> f64 {
    let rows = truths.len();
    let shape =
        Shape::new(rows, matrix.vocab).and_then(|shape| shape.with_stride(matrix.stride)).expect("a shape");
    let batch = Batch::new(shape, &matrix.targets).expect("a batch");
    // Whoever leaves an entry out shows it.
    let mut dlogits = vec![E::from_f32(f32::NAN); matrix.logits.len()];
    let mut losses = vec![f32::NAN; rows];
    let (mut log_p, mut lse, mut entropy) = (losses.clone(), losses.clone(), losses.clone());
    let mut argmax = vec![-7; rows];
    let outputs = Outputs {
        losses: Some(&mut losses),
        log_p: Some(&mut log_p),
        lse: Some(&mut lse),
        entropy: Some(&mut entropy),
        argmax: Some(&mut argmax),
        ..Outputs::default()
    };
    let logits = if in_place {
        dlogits.copy_from_slice(&matrix.logits);
        Logits::InPlace(&mut dlogits)
    } else {
        Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut dlogits }
    };
    let totals = runner.evaluate(objective, Reduction::Sum, &batch, logits, outputs);

    let mut worst = 0.0f64;
    let mut loss_sum = 0.0;
    for (row, truth) in truths.iter().enumerate() {
        if truth.on_a_kink {
            loss_sum += f64::from(losses[row]);
            continue;
        }
        loss_sum += truth.loss;
        let at = || {
            let what = matrix.what[row];
            format!("{objective}, {runner}, {}, vocab {}, row {row} ({what})", E::DTYPE, matrix.vocab)
        };
        let mut judge = |what: &str, got: f64, want: f64, tolerance: f64, rounding: f64| {
            let share = ((got - want).abs() - rounding).max(0.0) / tolerance;
            assert!(
                share <= 1.0,
                "{}: {what} is {got:e}, expected {want:e}, off by {share:.2} of what is granted",
                at()
            );
            worst = worst.max(share);
        };
        judge("loss", losses[row].into(), truth.loss, truth.loss_tolerance, 0.0);
        let summary = truth.summary;
        // Rounded once to f32, beside the sums' own error.
        let round = |x: f64| x.abs() * f64::from(f32::EPSILON) / 2.0;
        let (lse_want, entropy_want) = (summary.stats.lse(), summary.stats.entropy());
        judge("lse", lse[row].into(), lse_want, truth.granted, round(lse_want));
        judge("log_p", log_p[row].into(), summary.target.log_p, truth.granted, round(summary.target.log_p));
        let granted = truth.granted * entropy_want + oracle::FLUSH * 90.0 * matrix.vocab as f64;
        judge("entropy", entropy[row].into(), entropy_want, granted, round(entropy_want));
        assert_eq!(argmax[row] as u32, summary.stats.argmax, "{}: argmax", at());
        for j in 0..matrix.vocab {
            let got = f64::from(dlogits[row * matrix.stride + j].to_f32());
            let want = truth.dlogits[j];
            if matrix.logits[row * matrix.stride + j].to_f32() == f32::NEG_INFINITY {
                assert_eq!(got, 0.0, "{}: the gradient of masked column {j}", at());
            }
            if E::from_f32(want as f32).to_f32().is_infinite() {
                // Beyond what the storage type holds: f16 ends at 65,504.
                assert_eq!(got, f64::INFINITY.copysign(want), "{}: column {j}", at());
                continue;
            }
            judge("a gradient entry", got, want, truth.tolerances[j], oracle::half_spacing::<E>(want));
        }
        for j in matrix.vocab..matrix.stride {
            let padding = dlogits[row * matrix.stride + j].to_f32();
            assert!(padding.is_nan(), "{}: padding {j} was written: {padding}", at());
        }
    }
    let off = (totals.loss_sum - loss_sum).abs();
    assert!(off <= 1e-5 * loss_sum.abs() + 1e-5, "{objective}, {runner}: {totals:?}, expected {loss_sum}");
    worst
}

fn report(worst: &Worst) {
    for (runner, objectives) in worst {
        println!("{runner}: largest error as a share of what is granted");
        for (objective, share) in objectives {
            println!("  {objective:55} {share:.3}");
        }
    }
}

fn every_objective<E: Element>() {
    let runners: Vec<_> = Level::available().into_iter().map(Runner::cpu).collect();
    let mut worst = Worst::new();
    // Two classes; a vector more or less than one of any level; a block and one more.
    let sizes = [2, 3, 4, 7, 8, 9, 15, 16, 17, 33, 257, 4095, 4096, 4097];
    for (seed, vocab) in sizes.into_iter().enumerate() {
        let matrix = Matrix::<E>::new(&inputs::rows(vocab, seed as u64), seed % 3);
        for (i, objective) in objectives().iter().enumerate() {
            check(&runners, objective, &matrix, i % 2 == 0, &mut worst);
        }
    }
    report(&worst);
}

#[test]
fn every_objective_f32() {
    every_objective::<f32>();
}

#[test]
fn every_objective_bf16() {
    every_objective::<bf16>();
}

#[test]
fn every_objective_f16() {
    every_objective::<f16>();
}

/// GPT-2's odd vocabulary, Llama 3's, and Gemma's.
#[test]
fn real_vocabularies() {
    let runners: Vec<_> = Level::available().into_iter().map(Runner::cpu).collect();
    let mut worst = Worst::new();
    for vocab in [50_257, 128_256, 262_144] {
        let rows = inputs::rows(vocab, 7);
        for spec in ["nll", "power:alpha=10", "thresholded:inner=focal,lo=0.2"] {
            let objective = Objective::parse(spec).expect("a spec");
            check::<f32>(&runners, &objective, &Matrix::new(&rows, 0), false, &mut worst);
        }
        let objective = Objective::parse("p").expect("a key");
        check::<bf16>(&runners, &objective, &Matrix::new(&rows[..6], 1), true, &mut worst);
    }
    report(&worst);
}

/// The same rows and the same objectives on the GPU: the two backends meet at the oracle. The GPU backend's own
/// suite goes through sizes and variants.
#[test]
fn the_gpu_agrees() {
    let Some(gpu) = Runner::gpu() else { return };
    let runners = [gpu];
    let mut worst = Worst::new();
    for (seed, vocab) in [3, 257, 4097].into_iter().enumerate() {
        let rows = inputs::rows(vocab, seed as u64);
        for objective in objectives() {
            check::<f32>(&runners, &objective, &Matrix::new(&rows, 1), false, &mut worst);
        }
    }
    let rows = inputs::rows(50_257, 7);
    let objective = Objective::parse("p").expect("a key");
    check::<bf16>(&runners, &objective, &Matrix::new(&rows, 1), true, &mut worst);
    check::<f16>(&runners, &objective, &Matrix::new(&rows, 0), false, &mut worst);
    report(&worst);
}

/// What a softmax in plain f32 makes of a confident row, as every framework computes it: the loss as `lse - z_t`
/// and the target's gradient as `p - 1`.
fn plain_f32(logits: &[f32], target: usize) -> (f32, f32) {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f32 = logits.iter().map(|z| (z - max).exp()).sum();
    let loss = sum.ln() - (logits[target] - max);
    let p = (logits[target] - max).exp() / sum;
    (loss, p - 1.0)
}

/// The README's table: one logit ahead of one other by a margin, nll, relative errors of the loss and of the
/// target's gradient.
#[test]
fn accuracy_by_margin() {
    let mut runners: Vec<_> = Level::available().into_iter().map(Runner::cpu).collect();
    runners.extend(Runner::gpu());
    let nll = Objective::parse("nll").expect("a spec");
    let mut table: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    let margins = [1.0f32, 5.0, 10.0, 15.0, 17.0, 40.0, 80.0];
    for margin in margins {
        let logits = vec![margin, 0.0];
        let row = inputs::Row { what: "confident", logits: logits.clone(), target: 0 };
        let matrix = Matrix::<f32>::new(&[row], 0);
        let truth = oracle::truth(&matrix, 0, &nll, 1.0, Grant::CPU);
        let errors = |loss: f32, gradient: f32| {
            let relative = |got: f32, want: f64| ((f64::from(got) - want) / want).abs();
            (relative(loss, truth.loss), relative(gradient, truth.dlogits[0]))
        };
        for runner in &runners {
            let batch = Batch::new(Shape::new(1, 2).expect("a shape"), &[0]).expect("a batch");
            let (mut dlogits, mut losses) = ([0.0f32; 2], [0.0f32]);
            let outputs = Outputs { losses: Some(&mut losses), ..Outputs::default() };
            let io = Logits::OutOfPlace { logits: &logits, dlogits: &mut dlogits };
            runner.evaluate(&nll, Reduction::Sum, &batch, io, outputs);
            let (loss, gradient) = errors(losses[0], dlogits[0]);
            let granted = runner.grant().at(f64::from(margin));
            assert!(loss <= granted && gradient <= granted, "{runner} at {margin}: {loss:e}, {gradient:e}");
            table.entry(runner.to_string()).or_default().push((loss, gradient));
        }
        let (loss, gradient) = plain_f32(&logits, 0);
        table.entry("plain f32".into()).or_default().push(errors(loss, gradient));
    }
    println!("relative error of the loss / of the target's gradient, nll, {}", Dtype::F32);
    println!("{:28} {}", "margin", margins.map(|margin| format!("{margin:>17}")).join(" "));
    for (runner, errors) in &table {
        let cells: Vec<_> = errors.iter().map(|(a, b)| format!("{a:8.1e}/{b:8.1e}")).collect();
        println!("{runner:28} {}", cells.join(" "));
    }
    // The table is worth its place only while the plain form does fail.
    let plain = &table["plain f32"];
    assert!(plain[3].1 > 0.1 && plain[4] == (1.0, 1.0), "{plain:?}");
}

/// The levels that this machine lacks are named, not passed over.
#[test]
fn levels_that_did_not_run() {
    let available = Level::available();
    for name in Level::known() {
        if !available.iter().any(|level| level.name() == *name) {
            println!("level {name}: not tested, this machine does not have it");
        }
    }
    assert!(available.iter().any(|level| level.name() == "portable"));
}
