//! Every objective, level and storage type against the oracle; the figures of the README's accuracy table are
//! printed by `cargo test --test suite accuracy -- --nocapture`.

use crate::inputs::{self, Matrix, objectives};
use crate::oracle::{self, Grant};
use std::collections::BTreeMap;
use tokenloss::cpu::{Cpu, Level};
use tokenloss::half::{bf16, f16};
use tokenloss::{Batch, Element, Evaluate, Logits, Objective, Outputs, Reduction, Shape};

/// The largest error, as a share of what is granted, by objective.
type Worst = BTreeMap<String, f64>;

fn check<E: Element>(
    level: Level,
    objective: &Objective,
    matrix: &Matrix<E>,
    in_place: bool,
    worst: &mut Worst,
) {
    let rows = matrix.targets.len();
    let shape =
        Shape::new(rows, matrix.vocab).and_then(|shape| shape.with_stride(matrix.stride)).expect("a shape");
    let batch = Batch::new(shape, &matrix.targets).expect("a batch");
    let cpu = Cpu::with_level(level);
    let sentinel = E::from_f32(f32::NAN);
    let mut dlogits = vec![sentinel; matrix.logits.len()];
    let mut losses = vec![f32::NAN; rows];
    let (mut log_p, mut lse, mut entropy) = (losses.clone(), losses.clone(), losses.clone());
    let mut argmax = vec![-7; rows];
    let outputs = Outputs {
        losses: Some(&mut losses),
        log_p: Some(&mut log_p),
        lse: Some(&mut lse),
        entropy: Some(&mut entropy),
        argmax: Some(&mut argmax),
    };
    let logits = if in_place {
        dlogits.copy_from_slice(&matrix.logits);
        Logits::InPlace(&mut dlogits)
    } else {
        Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut dlogits }
    };
    let totals = cpu.evaluate(objective, Reduction::Sum, &batch, logits, outputs).expect("finite logits");

    let mut loss_sum = 0.0;
    for row in 0..rows {
        let truth = oracle::truth(matrix, row, objective, 1.0, Grant::CPU);
        if truth.on_a_kink {
            loss_sum += f64::from(losses[row]);
            continue;
        }
        loss_sum += truth.loss;
        let at = || {
            format!(
                "{objective}, {level}, {}, vocab {}, row {row} ({})",
                E::DTYPE,
                matrix.vocab,
                matrix.what[row]
            )
        };
        let mut judge = |what: &str, got: f64, want: f64, tolerance: f64, rounding: f64| {
            let share = ((got - want).abs() - rounding).max(0.0) / tolerance;
            assert!(
                share <= 1.0,
                "{}: {what} is {got:e}, expected {want:e}, off by {share:.2} of what is granted",
                at()
            );
            let worst = worst.entry(objective.to_string()).or_default();
            *worst = worst.max(share);
        };
        judge("loss", losses[row].into(), truth.loss, truth.loss_tolerance, 0.0);
        let summary = truth.summary;
        // Rounded once to f32, and the sums' own error beside it.
        let round = |x: f64| x.abs() * f64::from(f32::EPSILON) / 2.0;
        judge("lse", lse[row].into(), summary.stats.lse(), 1e-6, round(summary.stats.lse()));
        judge("log_p", log_p[row].into(), summary.target.log_p, 1e-6, round(summary.target.log_p));
        judge(
            "entropy",
            entropy[row].into(),
            summary.stats.entropy(),
            4e-6 * summary.stats.entropy().max(1e-30),
            round(summary.stats.entropy()),
        );
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
    assert!(
        (totals.loss_sum - loss_sum).abs() <= 1e-5 * loss_sum.abs() + 1e-5,
        "{objective}: {totals:?}, expected {loss_sum}"
    );
}

fn report(title: &str, worst: &Worst) {
    println!("{title}: largest error as a share of what is granted");
    for (objective, share) in worst {
        println!("  {objective:55} {share:.3}");
    }
}

fn every_objective<E: Element>() {
    // Two classes; a vector more or less than one of any level; a block and one more.
    for level in Level::available() {
        let mut worst = Worst::new();
        for (seed, vocab) in [2, 3, 4, 7, 8, 9, 15, 16, 17, 33, 257, 4095, 4096, 4097].into_iter().enumerate()
        {
            let matrix = Matrix::<E>::new(&inputs::rows(vocab, seed as u64), seed % 3);
            for (i, objective) in objectives().iter().enumerate() {
                check(level, objective, &matrix, i % 2 == 0, &mut worst);
            }
        }
        report(&format!("{level}, {}", E::DTYPE), &worst);
    }
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
    for level in Level::available() {
        let mut worst = Worst::new();
        for vocab in [50_257, 128_256, 262_144] {
            let rows = inputs::rows(vocab, 7);
            for spec in ["nll", "power:alpha=10", "thresholded:inner=focal,lo=0.2"] {
                let objective = Objective::parse(spec).expect("a spec");
                check::<f32>(level, &objective, &Matrix::new(&rows, 0), false, &mut worst);
            }
            check::<bf16>(
                level,
                &Objective::parse("p").expect("a key"),
                &Matrix::new(&rows[..6], 1),
                true,
                &mut worst,
            );
        }
        report(&format!("{level}, real vocabularies"), &worst);
    }
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
