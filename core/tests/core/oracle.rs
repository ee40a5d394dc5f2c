//! `reference::evaluate`: weights, ignored rows, denominators, rows that are not finite, masks, padding.

use crate::draw::{cases, objective, parsed, row};
use proptest::prelude::*;
use tokenloss_core::reference::{self, Results};
use tokenloss_core::{
    Batch, Denominator, Error, IGNORE_INDEX, NonFinite, Objective, Reduction, RowObjective, RowSummary,
    Shape, Totals,
};

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

/// What `evaluate` wrote, into buffers that held NaN before.
#[derive(Debug, Clone)]
struct Got {
    losses: Vec<f64>,
    summaries: Vec<RowSummary<f64>>,
    dlogits: Vec<f64>,
    result: Result<Totals, Error>,
}

fn run(objective: &Objective, reduction: Reduction, batch: &Batch<'_>, logits: &[f64]) -> Got {
    let shape = batch.shape();
    let mut got = Got {
        losses: vec![NAN; shape.rows()],
        summaries: vec![RowSummary::nan(); shape.rows()],
        dlogits: vec![NAN; shape.elements()],
        result: Err(Error::NoRows),
    };
    let results =
        Results { losses: &mut got.losses, summaries: &mut got.summaries, dlogits: &mut got.dlogits };
    got.result = reference::evaluate(objective, reduction, batch, logits, results);
    got
}

fn shape(rows: usize, vocab: usize) -> Shape {
    Shape::new(rows, vocab).unwrap()
}

const LOGITS: [f64; 12] = [2.0, 0.0, -1.0, 0.5, 0.5, 0.5, -3.0, 4.0, 1.0, 0.0, 1.0, 2.0];
const TARGETS: [i32; 4] = [0, 2, IGNORE_INDEX, 1];

#[test]
fn denominators_divide_what_they_say() {
    let objective = parsed("thresholded:inner=nll,lo=0.5");
    let batch = Batch::new(shape(4, 3), &TARGETS).unwrap();
    // Rows 1 (p = 1/3) and 3 (p = .24) are dropped, row 2 is ignored.
    let sum = run(&objective, Reduction::Sum, &batch, &LOGITS);
    let totals = sum.result.unwrap();
    assert_eq!((totals.valid, totals.kept, totals.ignored), (3, 1, 1));
    assert_eq!((totals.weight_sum, totals.denominator), (3.0, 1.0));
    assert_eq!(totals.loss(), sum.losses[0]);
    for (reduction, denominator) in [
        (Reduction::Mean(Denominator::Valid), 3.0),
        (Reduction::Mean(Denominator::Kept), 1.0),
        (Reduction::Mean(Denominator::Given(8.0)), 8.0),
    ] {
        let got = run(&objective, reduction, &batch, &LOGITS);
        let totals = got.result.unwrap();
        assert_eq!(totals.denominator, denominator);
        assert_eq!(totals.loss(), sum.losses[0] / denominator);
        assert_eq!(got.losses, sum.losses, "row losses are before the reduction");
        for (got, sum) in got.dlogits.iter().zip(&sum.dlogits) {
            assert!((got - sum / denominator).abs() <= 2.0 * f64::EPSILON * sum.abs());
        }
    }
    assert_eq!(Reduction::default(), Reduction::Mean(Denominator::Valid));
    assert!(Reduction::Mean(Denominator::Kept).needs_kept() && !Reduction::default().needs_kept());
}

#[test]
fn dropped_and_ignored_rows_have_loss_0_and_gradient_0() {
    let batch = Batch::new(shape(4, 3), &TARGETS).unwrap();
    let got = run(&parsed("thresholded:inner=nll,lo=0.5"), Reduction::Sum, &batch, &LOGITS);
    assert_eq!(got.losses[1..], [0.0, 0.0, 0.0]);
    assert_eq!(got.dlogits[3..], [0.0; 9]);
    assert!(got.dlogits[..3].iter().all(|d| *d != 0.0));
    // A dropped row has been computed, an ignored one has not.
    assert!((got.summaries[1].target.log_p - (1.0f64 / 3.0).ln()).abs() < 1e-15);
    assert!(got.summaries[2].target.log_p.is_nan() && got.summaries[2].stats.lse().is_nan());
    assert_eq!(got.summaries[2].stats.argmax, u32::MAX);
}

#[test]
fn ignored_rows_are_not_read() {
    let mut logits = LOGITS;
    logits[6..9].fill(NAN);
    let batch = Batch::new(shape(4, 3), &TARGETS).unwrap();
    let got = run(&parsed("nll"), Reduction::default(), &batch, &logits);
    assert_eq!(got.result, run(&parsed("nll"), Reduction::default(), &batch, &LOGITS).result);
    assert!(got.result.unwrap().loss().is_finite() && got.dlogits[6..9] == [0.0; 3]);
}

#[test]
fn nothing_but_ignored_rows_is_0_and_not_nan() {
    let targets = [IGNORE_INDEX; 4];
    let batch = Batch::new(shape(4, 3), &targets).unwrap();
    assert_eq!(batch.valid(), 0);
    for denominator in [Denominator::Valid, Denominator::Kept, Denominator::Given(3.0)] {
        let got = run(&parsed("nll"), Reduction::Mean(denominator), &batch, &LOGITS);
        let totals = got.result.unwrap();
        assert_eq!((totals.loss(), totals.valid, totals.kept, totals.ignored), (0.0, 0, 0, 4));
        assert_eq!(got.losses, [0.0; 4]);
        assert_eq!(got.dlogits, [0.0; 12]);
    }
    // The same where a threshold drops every row.
    let all = [1; 4];
    let batch = Batch::new(shape(4, 3), &all).unwrap();
    let got = run(&parsed("thresholded:lo=1,inner=nll"), Reduction::Mean(Denominator::Kept), &batch, &LOGITS);
    let totals = got.result.unwrap();
    assert_eq!((totals.loss(), totals.kept, totals.valid, totals.denominator), (0.0, 0, 4, 0.0));
    assert_eq!(got.dlogits, [0.0; 12]);
}

#[test]
fn weights_multiply_loss_and_gradient_and_nothing_else() {
    let weights = [0.5f32, 0.0, 7.0, 2.0];
    let plain = Batch::new(shape(4, 3), &TARGETS).unwrap();
    let weighted = plain.with_weights(&weights).unwrap();
    let (plain, got) = (
        run(&parsed("nll"), Reduction::default(), &plain, &LOGITS),
        run(&parsed("nll"), Reduction::default(), &weighted, &LOGITS),
    );
    let totals = got.result.unwrap();
    assert_eq!(got.losses, plain.losses, "row losses are before the weights");
    assert_eq!(
        (totals.weight_sum, totals.denominator),
        (2.5, 3.0),
        "the weight of an ignored row does not count"
    );
    let want = 0.5 * got.losses[0] + 2.0 * got.losses[3];
    assert!((totals.loss_sum - want).abs() < 1e-15);
    for (j, (got, plain)) in got.dlogits.iter().zip(&plain.dlogits).enumerate() {
        let want = f64::from(weights[j / 3]) * plain;
        assert!((got - want).abs() <= 2.0 * f64::EPSILON * want.abs(), "column {j}");
    }
}

proptest! {
    #![proptest_config(cases(300))]

    /// A batch is its rows: whatever the row, its results are those of the three moves on it alone.
    #[test]
    fn a_batch_is_its_rows(f in objective(), (logits, target) in row(), weight in 0.0f32..3.0) {
        prop_assume!(logits[target].is_finite());
        let (vocab, targets, weights) = (logits.len(), [IGNORE_INDEX, target as i32], [1.0, weight]);
        let both: Vec<f64> = logits.iter().chain(&logits).copied().collect();
        let batch = Batch::new(shape(2, vocab), &targets).unwrap().with_weights(&weights).unwrap();
        let got = run(&f, Reduction::Sum, &batch, &both);
        let summary = reference::summarise(&logits, target).unwrap();
        let eval = f.of_row(&summary);
        let mut dlogits = vec![NAN; vocab];
        reference::push_back(&logits, target, &summary, eval.partials.scaled(weight.into()), &mut dlogits);
        prop_assert_eq!(got.losses[1], eval.loss);
        prop_assert_eq!(&got.dlogits[vocab..], &dlogits[..]);
        let totals = got.result.unwrap();
        prop_assert_eq!(totals.kept, usize::from(eval.kept));
        prop_assert_eq!(totals.loss_sum, if weight == 0.0 { 0.0 } else { f64::from(weight) * eval.loss });
        prop_assert_eq!(&got.dlogits[..vocab], &vec![0.0; vocab][..]);
    }
}

#[test]
fn padding_is_neither_read_nor_written() {
    let padded = shape(4, 3).with_stride(5).unwrap();
    let mut logits = vec![INF; 20];
    for row in 0..4 {
        logits[5 * row..5 * row + 3].copy_from_slice(&LOGITS[3 * row..3 * row + 3]);
        logits[5 * row + 4] = NAN;
    }
    let (batch, plain) = (Batch::new(padded, &TARGETS).unwrap(), Batch::new(shape(4, 3), &TARGETS).unwrap());
    let (got, want) = (
        run(&parsed("focal"), Reduction::default(), &batch, &logits),
        run(&parsed("focal"), Reduction::default(), &plain, &LOGITS),
    );
    assert_eq!((got.result, got.losses), (want.result, want.losses));
    for row in 0..4 {
        assert_eq!(got.dlogits[5 * row..5 * row + 3], want.dlogits[3 * row..3 * row + 3]);
        assert!(
            got.dlogits[5 * row + 3..5 * row + 5].iter().all(|d| d.is_nan()),
            "the guard of row {row} is gone"
        );
    }
}

/// Each kind of bad row, where it stands, and the error that names it.
fn bad_rows() -> [([f64; 3], Error); 4] {
    [
        ([1.0, NAN, 2.0], Error::NonFinite { row: 1, column: 1, value: f32::NAN }),
        ([1.0, 0.0, INF], Error::NonFinite { row: 1, column: 2, value: f32::INFINITY }),
        ([INF, NAN, 0.0], Error::NonFinite { row: 1, column: 0, value: f32::INFINITY }),
        ([-INF, -INF, -INF], Error::NoMass { row: 1, vocab: 3 }),
    ]
}

#[test]
fn a_row_that_is_not_finite_is_an_error_that_names_it_after_all_others_are_done() {
    for (bad, error) in bad_rows() {
        for spec in ["nll", "power", "thresholded:inner=nll,lo=0.9"] {
            let mut logits = LOGITS;
            logits[3..6].copy_from_slice(&bad);
            let batch = Batch::new(shape(4, 3), &TARGETS).unwrap();
            let (got, clean) = (
                run(&parsed(spec), Reduction::default(), &batch, &logits),
                run(&parsed(spec), Reduction::default(), &batch, &LOGITS),
            );
            // NaN is no equal of itself; its text is.
            assert_eq!(got.result.unwrap_err().to_string(), error.to_string());
            check_nan_row(&got, &clean);
        }
    }
}

#[test]
fn a_row_that_is_not_finite_is_nan_by_option() {
    for (bad, _) in bad_rows() {
        let mut logits = LOGITS;
        logits[3..6].copy_from_slice(&bad);
        let batch = Batch::new(shape(4, 3), &TARGETS).unwrap().with_non_finite(NonFinite::NanRow);
        let (got, clean) = (
            run(&parsed("nll"), Reduction::default(), &batch, &logits),
            run(&parsed("nll"), Reduction::default(), &batch, &LOGITS),
        );
        let totals = got.result.unwrap();
        assert!(totals.loss().is_nan(), "the total is poisoned, too");
        assert_eq!((totals.valid, totals.ignored), (3, 1));
        check_nan_row(&got, &clean);
        // A weight of 0 switches the row off, for the total.
        let weights = [1.0, 0.0, 1.0, 1.0];
        let off = run(&parsed("nll"), Reduction::default(), &batch.with_weights(&weights).unwrap(), &logits);
        assert!(off.result.unwrap().loss().is_finite());
    }
}

/// All of row 1 is NaN, and every other row is what it is without it.
fn check_nan_row(got: &Got, clean: &Got) {
    assert!(got.losses[1].is_nan() && got.summaries[1].target.log_p.is_nan());
    assert!(got.dlogits[3..6].iter().all(|d| d.is_nan()));
    for row in [0, 2, 3] {
        assert_eq!(got.losses[row], clean.losses[row]);
        assert_eq!(got.dlogits[3 * row..3 * row + 3], clean.dlogits[3 * row..3 * row + 3]);
    }
}

#[test]
fn the_first_of_several_bad_rows_is_named() {
    let mut logits = LOGITS;
    (logits[5], logits[11]) = (NAN, NAN);
    let batch = Batch::new(shape(4, 3), &TARGETS).unwrap();
    let error = run(&parsed("nll"), Reduction::default(), &batch, &logits).result.unwrap_err();
    assert!(matches!(error, Error::NonFinite { row: 1, column: 2, .. }), "{error}");
}

#[test]
fn masked_columns_have_no_gradient_and_no_mass() {
    let masked = [2.0, -INF, -1.0];
    let targets = [0];
    let batch = Batch::new(shape(1, 3), &targets).unwrap();
    for spec in ["nll", "power:alpha=10", "focal", "mix", "huber", "dft", "unlikelihood"] {
        let got = run(&parsed(spec), Reduction::default(), &batch, &masked);
        let without = Batch::new(shape(1, 2), &targets).unwrap();
        let want = run(&parsed(spec), Reduction::default(), &without, &[2.0, -1.0]);
        assert_eq!(got.result, want.result, "{spec}");
        assert_eq!(got.dlogits, [want.dlogits[0], 0.0, want.dlogits[1]], "{spec}");
        assert!(got.dlogits[1].is_sign_positive());
    }
}

/// A masked target: the loss is that of p = 0 and the gradient that of its slope, which for nll is 1 on the
/// target and leaves the rest as they are, as in PyTorch.
#[test]
fn a_masked_target_has_the_documented_loss_and_gradient() {
    let targets = [1];
    let batch = Batch::new(shape(1, 3), &targets).unwrap();
    let logits = [0.5, -INF, 0.5];
    for (spec, loss, dlogits) in [
        ("nll", INF, [0.5, -1.0, 0.5]),
        ("mix:lambda=0.5", INF, [0.25, -0.5, 0.25]),
        ("focal:gamma=2", INF, [0.5, -1.0, 0.5]),
        ("power:alpha=1", 1.0, [0.0, 0.0, 0.0]),
        ("power:alpha=4", 0.25, [0.0, 0.0, 0.0]),
        ("huber:delta=0.5", 0.375, [0.0, 0.0, 0.0]),
        ("dft", 0.0, [0.0, 0.0, 0.0]),
        ("thresholded:inner=nll,lo=0.1", 0.0, [0.0, 0.0, 0.0]),
    ] {
        let got = run(&parsed(spec), Reduction::default(), &batch, &logits);
        assert_eq!(got.losses, [loss], "{spec}");
        for (got, want) in got.dlogits.iter().zip(dlogits) {
            assert!((got - want).abs() <= f64::EPSILON, "{spec}: {:?}", got);
        }
        assert_eq!(got.result.unwrap().loss(), loss, "{spec}");
    }
}

#[test]
fn the_same_in_f32() {
    // The generic code is what a backend in f32 is compared with; one batch through it.
    let logits = LOGITS.map(|z| z as f32);
    let batch = Batch::new(shape(4, 3), &TARGETS).unwrap();
    let (mut losses, mut summaries, mut dlogits) = ([f32::NAN; 4], [RowSummary::nan(); 4], [f32::NAN; 12]);
    let results = Results { losses: &mut losses, summaries: &mut summaries, dlogits: &mut dlogits };
    let totals =
        reference::evaluate(&parsed("focal"), Reduction::default(), &batch, &logits, results).unwrap();
    let want = run(&parsed("focal"), Reduction::default(), &batch, &LOGITS);
    let near = |x: f32, y: f64| (f64::from(x) - y).abs() <= 1e-6 * y.abs();
    assert!((totals.loss() - want.result.unwrap().loss()).abs() <= 1e-6);
    assert!(losses.into_iter().zip(want.losses).all(|(x, y)| near(x, y)));
    assert!(dlogits.into_iter().zip(want.dlogits).all(|(x, y)| near(x, y)));
}

#[test]
fn argmax_is_the_first_of_equals() {
    for (logits, argmax) in [([1.0, 3.0, 3.0], 1), ([2.0, 2.0, 2.0], 0), ([-INF, -5.0, -5.0], 1)] {
        assert_eq!(reference::summarise(&logits, 0).unwrap().stats.argmax, argmax);
    }
}
