//! Every fault of a caller's data on the CPU backend: the message names the thing and both numbers.

use tokenloss::cpu::Cpu;
use tokenloss::{Batch, Denominator, Error, Evaluate, Logits, Nll, NonFinite, Outputs, Reduction, Shape};

const INF: f32 = f32::INFINITY;

fn evaluate(logits: &[f32], targets: &[i32], vocab: usize) -> Result<Vec<f32>, Error> {
    let batch = Batch::new(Shape::new(targets.len(), vocab)?, targets)?;
    let mut dlogits = vec![7.0; logits.len()];
    let logits = Logits::OutOfPlace { logits, dlogits: &mut dlogits };
    Cpu::new().evaluate(&Nll, Reduction::Sum, &batch, logits, Outputs::default())?;
    Ok(dlogits)
}

fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.expect_err("a fault").to_string()
}

#[test]
fn lengths() {
    let (z, t) = ([0.0f32; 6], [0, 1]);
    let shape = Shape::new(2, 3).expect("a shape");
    let batch = Batch::new(shape, &t).expect("a batch");
    assert_eq!(message(Batch::new(shape, &t[..1])), "targets: expected 2 values, got 1");
    assert_eq!(message(Batch::new(shape, &[0, 1, 2])), "targets: expected 2 values, got 3");
    assert_eq!(message(batch.with_weights(&[1.0])), "weights: expected 2 values, got 1");
    assert_eq!(message(evaluate(&z[..5], &t, 3)), "logits: expected 6 values, got 5");
    fn run(
        batch: &Batch<'_>,
        logits: Logits<'_, f32>,
        outputs: Outputs<'_>,
    ) -> Result<tokenloss::Totals, Error> {
        Cpu::new().evaluate(&Nll, Reduction::Sum, batch, logits, outputs)
    }
    let mut short = [0.0f32; 5];
    let logits = Logits::OutOfPlace { logits: &z, dlogits: &mut short };
    assert_eq!(message(run(&batch, logits, Outputs::default())), "dlogits: expected 6 values, got 5");
    for (what, pick) in [("losses", 0), ("log_p", 1), ("lse", 2), ("entropy", 3)] {
        let mut one = [0.0f32];
        let mut outputs = Outputs::default();
        *[&mut outputs.losses, &mut outputs.log_p, &mut outputs.lse, &mut outputs.entropy][pick] =
            Some(&mut one);
        assert_eq!(
            message(run(&batch, Logits::Read(&z), outputs)),
            format!("{what}: expected 2 values, got 1")
        );
    }
    let outputs = Outputs { argmax: Some(&mut [0; 3]), ..Outputs::default() };
    assert_eq!(message(run(&batch, Logits::Read(&z), outputs)), "argmax: expected 2 values, got 3");
}

#[test]
fn shapes_and_targets() {
    assert_eq!(message(Shape::new(0, 3)), "rows: expected at least 1, got 0");
    assert_eq!(message(Shape::new(1, 0)), "vocab: expected at least 2 classes, got 0");
    assert_eq!(message(Shape::new(1, 1)), "vocab: expected at least 2 classes, got 1");
    assert_eq!(
        message(evaluate(&[0.0; 6], &[0, 3], 3)),
        "targets: row 1 has target 3, expected -100 (ignored) or 0 to 2 for a vocab of 3"
    );
    assert!(message(evaluate(&[0.0; 6], &[-101, 0], 3)).contains("row 0 has target -101"));
    assert!(message(evaluate(&[0.0; 6], &[0, -1], 3)).contains("row 1 has target -1"));
}

#[test]
fn weights_and_denominators() {
    let batch = Batch::new(Shape::new(2, 3).expect("a shape"), &[0, 1]).expect("a batch");
    for weight in [-1.0, f32::NAN, INF] {
        assert_eq!(
            message(batch.with_weights(&[1.0, weight])),
            format!("weights: row 1 has weight {weight}, expected a finite number of at least 0")
        );
    }
    for denominator in [0.0, -2.0, f64::NAN, f64::INFINITY] {
        let reduction = Reduction::Mean(Denominator::Given(denominator));
        let got =
            Cpu::new().evaluate(&Nll, reduction, &batch, Logits::Read(&[0.0f32; 6]), Outputs::default());
        assert_eq!(
            message(got),
            format!("denominator: expected a positive finite number, got {denominator}")
        );
    }
}

#[test]
fn nan_and_infinity_name_row_and_column_and_leave_the_other_rows_whole() {
    for bad in [f32::NAN, INF] {
        for column in 0..300 {
            let mut z = [0.5f32; 900];
            (z[300 + column], z[600]) = (bad, bad);
            assert_eq!(
                message(evaluate(&z, &[0, 1, 2], 300)),
                format!("logits: row 1, column {column} is {bad}, expected a finite number or -inf")
            );
        }
    }
    let z = [0.0, 1.0, f32::NAN, 0.0, 2.0, 2.0];
    let batch = Batch::new(Shape::new(3, 2).expect("a shape"), &[0, 0, 1]).expect("a batch");
    for (non_finite, in_place) in [
        (NonFinite::Error, false),
        (NonFinite::NanRow, false),
        (NonFinite::Error, true),
        (NonFinite::NanRow, true),
    ] {
        for denominator in [Denominator::Valid, Denominator::Kept] {
            let mut dlogits = z;
            let mut losses = [9.0; 3];
            let logits = if in_place {
                Logits::InPlace(&mut dlogits)
            } else {
                Logits::OutOfPlace { logits: &z, dlogits: &mut dlogits }
            };
            let outputs = Outputs { losses: Some(&mut losses), ..Outputs::default() };
            let batch = batch.with_non_finite(non_finite);
            let got = Cpu::new().evaluate(&Nll, Reduction::Mean(denominator), &batch, logits, outputs);
            match non_finite {
                NonFinite::Error => assert!(got.is_err()),
                NonFinite::NanRow => assert!(got.expect("no error").loss().is_nan()),
            }
            assert!(dlogits[2].is_nan() && dlogits[3].is_nan() && losses[1].is_nan());
            assert!((dlogits[0] + 1.0 / (1.0 + (-1.0f32).exp()) / 3.0).abs() < 1e-6);
            assert!((dlogits[5] + 0.5 / 3.0).abs() < 1e-7 && (losses[2] - 2f32.ln()).abs() < 1e-6);
        }
    }
}

#[test]
fn masks() {
    let all = [0.0, 1.0, -INF, -INF];
    assert_eq!(
        message(evaluate(&all, &[0, 1], 2)),
        "logits: row 1 is -inf in all 2 columns, so that no class has probability"
    );
    // A NaN among masks is a NaN.
    assert!(message(evaluate(&[-INF, f32::NAN], &[0], 2)).contains("row 0, column 1 is NaN"));
    // A masked target has no probability: nll's loss is infinite, and its gradient is that of p = 0.
    let batch = Batch::new(Shape::new(1, 3).expect("a shape"), &[2]).expect("a batch");
    let z = [0.0f32, 0.0, -INF];
    let mut dlogits = [9.0f32; 3];
    let logits = Logits::OutOfPlace { logits: &z, dlogits: &mut dlogits };
    let totals = Cpu::new()
        .evaluate(&Nll, Reduction::Sum, &batch, logits, Outputs::default())
        .expect("a mask is allowed");
    assert_eq!((totals.loss(), dlogits), (f64::INFINITY, [0.5, 0.5, -1.0]));
}
