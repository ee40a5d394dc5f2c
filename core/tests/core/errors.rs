//! Every fault in a caller's data, provoked, with its message word for word.

use crate::draw::parsed;
use tokenloss_core::reference::{self, Results};
use tokenloss_core::{
    AnyToken, Batch, Denominator, Error, Focal, Huber, IGNORE_INDEX, Logits, Mix, Nll, Outputs, Power,
    Reduction, RowSummary, Shape, Thresholded, Unlikelihood,
};

fn shape(rows: usize, vocab: usize) -> Shape {
    Shape::new(rows, vocab).unwrap()
}

#[track_caller]
pub(crate) fn says<T: std::fmt::Debug>(result: Result<T, Error>, text: &str) {
    assert_eq!(result.expect_err(text).to_string(), text);
}

#[test]
fn shapes() {
    says(Shape::new(0, 8), "rows: expected at least 1, got 0");
    says(Shape::new(4, 0), "vocab: expected at least 2 classes, got 0");
    says(Shape::new(4, 1), "vocab: expected at least 2 classes, got 1");
    says(shape(4, 8).with_stride(7), "stride: expected at least the vocab of 8, got 7");
    says(
        Shape::new(usize::MAX, 8),
        "shape: 18446744073709551615 rows with a stride of 8 exceed what can be indexed",
    );
    says(
        Shape::new(2, 3_000_000_000),
        "shape: 2 rows with a stride of 3000000000 exceed what can be indexed",
    );
    says(
        shape(4, 8).with_stride(usize::MAX / 2),
        "shape: 4 rows with a stride of 9223372036854775807 exceed what can be indexed",
    );
    assert_eq!(shape(4, 8).with_stride(10).unwrap().elements(), 40);
}

#[test]
fn targets_and_weights() {
    says(Batch::new(shape(3, 8), &[0, 1]), "targets: expected 3 values, got 2");
    says(Batch::new(shape(3, 8), &[0, 1, 2, 3]), "targets: expected 3 values, got 4");
    for (bad, row) in [(8, 2), (-1, 2), (-101, 2), (i32::MAX, 2), (i32::MIN, 2)] {
        says(
            Batch::new(shape(3, 8), &[0, IGNORE_INDEX, bad]),
            &format!(
                "targets: row {row} has target {bad}, expected -100 (ignored) or 0 to 7 for a vocab of 8"
            ),
        );
    }
    let batch = Batch::new(shape(3, 8), &[0, 7, IGNORE_INDEX]).unwrap();
    assert_eq!((batch.valid(), batch.target(1), batch.target(2), batch.weight(0)), (2, Some(7), None, 1.0));
    says(batch.with_weights(&[1.0]), "weights: expected 3 values, got 1");
    for (bad, text) in [(-0.5, "-0.5"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        says(
            batch.with_weights(&[1.0, bad, bad]),
            &format!("weights: row 1 has weight {text}, expected a finite number of at least 0"),
        );
    }
    assert!(batch.with_weights(&[0.0, -0.0, f32::MAX]).is_ok());
}

#[test]
fn denominators() {
    for (bad, text) in [(0.0, "0"), (-1.0, "-1"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let reduction = Reduction::Mean(Denominator::Given(bad));
        let text = format!("denominator: expected a positive finite number, got {text}");
        says(reduction.check(), &text);
        // And it is checked before anything is written.
        let mut losses = [7.0];
        let batch = Batch::new(shape(1, 2), &[0]).unwrap();
        let results =
            Results { losses: &mut losses, summaries: &mut [RowSummary::nan()], dlogits: &mut [0.0; 2] };
        says(reference::evaluate(&Nll, reduction, &batch, &[0.0; 2], results), &text);
        assert_eq!(losses, [7.0]);
    }
}

#[test]
fn lengths_of_everything() {
    let batch = Batch::new(shape(2, 3), &[0, 1]).unwrap();
    let run = |logits: usize, losses: usize, summaries: usize, dlogits: usize| {
        let (mut losses, mut dlogits) = (vec![0.0; losses], vec![0.0; dlogits]);
        let mut summaries = vec![RowSummary::nan(); summaries];
        let results = Results { losses: &mut losses, summaries: &mut summaries, dlogits: &mut dlogits };
        reference::evaluate(&Nll, Reduction::Sum, &batch, &vec![0.0f64; logits], results)
    };
    says(run(5, 2, 2, 6), "logits: expected 6 values, got 5");
    says(run(6, 3, 2, 6), "losses: expected 2 values, got 3");
    says(run(6, 2, 0, 6), "summaries: expected 2 values, got 0");
    says(run(6, 2, 2, 7), "dlogits: expected 6 values, got 7");
    assert!(run(6, 2, 2, 6).is_ok());

    let (logits, mut dlogits) = ([0f32; 6], [0f32; 5]);
    says(Logits::Read(&logits[..4]).check(shape(2, 3)), "logits: expected 6 values, got 4");
    says(Logits::InPlace(&mut dlogits).check(shape(2, 3)), "logits: expected 6 values, got 5");
    let out_of_place = Logits::OutOfPlace { logits: &logits, dlogits: &mut dlogits };
    says(out_of_place.check(shape(2, 3)), "dlogits: expected 6 values, got 5");

    for what in ["losses", "log_p", "lse", "entropy"] {
        let mut values = [0f32; 3];
        let mut outputs = Outputs::default();
        let output = match what {
            "losses" => &mut outputs.losses,
            "log_p" => &mut outputs.log_p,
            "lse" => &mut outputs.lse,
            _ => &mut outputs.entropy,
        };
        *output = Some(&mut values);
        says(outputs.check(2), &format!("{what}: expected 2 values, got 3"));
        assert!(outputs.check(3).is_ok());
    }
    let mut argmax = [0; 1];
    says(
        Outputs { argmax: Some(&mut argmax), ..Outputs::default() }.check(2),
        "argmax: expected 2 values, got 1",
    );
    assert!(Outputs::default().check(2).is_ok());
}

#[test]
fn logits() {
    let summarise = |logits: &[f64]| reference::summarise(logits, 0).map_err(|e| e.in_row(41));
    says(summarise(&[0.0, f64::NAN]), "logits: row 41, column 1 is NaN, expected a finite number or -inf");
    says(
        summarise(&[f64::INFINITY, 0.0]),
        "logits: row 41, column 0 is inf, expected a finite number or -inf",
    );
    says(
        summarise(&[f64::NEG_INFINITY; 4]),
        "logits: row 41 is -inf in all 4 columns, so that no class has probability",
    );
    assert_eq!(Error::NoRows.in_row(3), Error::NoRows);
}

#[test]
fn parameters() {
    says(Power::new(17.0), "power: alpha = 17 lies outside its domain -1 to 16");
    says(Power::new(f32::NAN), "power: alpha = NaN lies outside its domain -1 to 16");
    says(Unlikelihood::new(0.0), "unlikelihood: eps = 0 lies outside its domain 0.000001 to 1");
    says(Focal::new(-0.1), "focal: gamma = -0.1 lies outside its domain 0 to 16");
    says(Huber::new(0.0), "huber: delta = 0 lies outside its domain 0.001 to 1");
    says(Mix::new(f32::INFINITY), "mix: lambda = inf lies outside its domain 0 to 1");
    says(Thresholded::new(Nll, -0.1, 1.0), "thresholded: lo = -0.1 lies outside its domain 0 to 1");
    says(Thresholded::new(Nll, 0.0, 1.5), "thresholded: hi = 1.5 lies outside its domain 0 to 1");
    says(
        Thresholded::new(Nll, 0.6, 0.4),
        "thresholded: lo = 0.6 lies above hi = 0.4, so that no row would be kept",
    );
}

/// Both ends of every declared domain are in, and the next float is out.
#[test]
fn domains_end_where_they_are_declared_to() {
    for name in AnyToken::NAMES {
        let parameters = AnyToken::parameters_of(name).unwrap();
        for (at, parameter) in parameters.iter().enumerate() {
            let with = |value: f32| {
                let mut values = [0.0; 4];
                for (value, parameter) in values.iter_mut().zip(parameters) {
                    *value = parameter.default;
                }
                values[at] = value;
                AnyToken::with_parameters(name, values).unwrap()
            };
            assert!(
                with(parameter.min).is_ok() && with(parameter.max).is_ok() && with(parameter.default).is_ok()
            );
            for outside in [parameter.min.next_down(), parameter.max.next_up(), f32::NAN, f32::NEG_INFINITY] {
                let error = with(outside).unwrap_err();
                assert!(
                    matches!(error, Error::Parameter { objective, parameter: p, .. } if objective == *name && p == parameter.name),
                    "{error}"
                );
            }
        }
    }
    assert!(
        AnyToken::with_parameters("nothing", [0.0; 4]).is_none()
            && AnyToken::parameters_of("nothing").is_none()
    );
}

#[test]
fn errors_are_errors() {
    let error: Box<dyn std::error::Error> = Box::new(Error::NoRows);
    assert_eq!(error.to_string(), "rows: expected at least 1, got 0");
    assert_eq!(parsed("nll").to_string(), "nll");
}
