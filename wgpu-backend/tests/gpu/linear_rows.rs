//! What the linear form tells of single rows, and which of them it pushes back.

use crate::linear::{Case, all_options};
use crate::machine::{baseline, gpus, low_limits, open, say};
use tokenloss_core::{
    Diagnostics, EvaluateLinear, LinearBackend, LinearGradients, LinearOptions, Nll, Objective, Outputs,
    Reduction, RowObjective, RowPart, RowPartials, RowSummary, reference as oracle,
};
use tokenloss_wgpu::{GpuError, Variant, wgpu};

const ROWS: usize = 20;
const DIM: usize = 19;
const VOCAB: usize = 333;

fn tiled() -> LinearOptions {
    LinearOptions { chunk_vocab: Some(64), ..LinearOptions::default() }
}

/// The share of the bound that is allowed: roundings cancel, and 0.05 of it was measured.
const SHARE: f64 = 0.125;

/// The rounding of a sum of `DIM` products, to the worst logit of each row: `DIM 2^-24 sum |h w|`.
fn worst(case: &Case<f32>) -> Vec<f64> {
    let size = |hidden: &[f32], weight: &[f32]| -> f64 {
        hidden.iter().zip(weight).map(|(h, w)| f64::from((h * w).abs())).sum()
    };
    let of_row = |hidden: &[f32]| case.weight.chunks(DIM).map(|w| size(hidden, w)).fold(1.0, f64::max);
    case.hidden.chunks(DIM).map(|hidden| DIM as f64 * 2f64.powi(-24) * of_row(hidden)).collect()
}

#[test]
fn outputs_are_the_oracles() {
    let objective = Objective::parse("focal").unwrap();
    let case = Case::<f32>::new(ROWS, DIM, VOCAB, true);
    let worst = worst(&case);
    let (linear, mut used) = (case.linear(), 0.0f64);
    let (mut logits, mut truth, mut expected) = (vec![0.0; VOCAB], vec![], Diagnostics::default());
    for row in 0..ROWS {
        let summary = linear.batch().target(row).map(|target| {
            oracle::logits_of_row::<f64, _>(&linear, row, &mut logits);
            let summary = oracle::summarise(&logits, target).unwrap();
            let weight = f64::from(linear.batch().weight(row));
            expected.add(&summary, &objective.of_row(&summary).partials.scaled(weight));
            summary
        });
        truth.push(summary);
    }
    for gpu in gpus() {
        for options in all_options() {
            let [mut losses, mut log_p, mut lse, mut entropy] = [(); 4].map(|()| vec![9.0f32; ROWS]);
            let (mut argmax, mut diagnostics) = (vec![9; ROWS], Diagnostics::default());
            diagnostics.sum_p = 9.0;
            let outputs = Outputs {
                losses: Some(&mut losses),
                log_p: Some(&mut log_p),
                lse: Some(&mut lse),
                entropy: Some(&mut entropy),
                argmax: Some(&mut argmax),
                diagnostics: Some(&mut diagnostics),
            };
            let forward = LinearGradients::<f32>::default();
            gpu.evaluate_linear(&objective, Reduction::Sum, &linear, &options, forward, outputs).unwrap();
            for (row, truth) in truth.iter().enumerate() {
                let Some(truth) = truth else {
                    assert!(log_p[row].is_nan() && lse[row].is_nan() && entropy[row].is_nan());
                    assert_eq!((losses[row], argmax[row]), (0.0, -1));
                    continue;
                };
                let (stats, entropies) = (truth.stats, 1.0 + truth.stats.entropy());
                // Logits off by d move lse by d, log_p by 2 d, the entropy by 2 d entropy; then a few roundings.
                for (got, truth, condition) in [
                    (lse[row], stats.lse(), 1.0),
                    (log_p[row], truth.target.log_p, 2.0),
                    (entropy[row], stats.entropy(), 2.0 * entropies),
                ] {
                    let allowed = SHARE * (condition * worst[row] + 4e-7 * (1.0 + truth.abs()));
                    let share = (f64::from(got) - truth).abs() / allowed;
                    assert!(
                        share <= 1.0,
                        "row {row} {options:?}: {got} for {truth}, {share} of what is allowed"
                    );
                    used = used.max(share);
                }
                assert_eq!(argmax[row], stats.argmax as i32, "row {row}");
            }
            assert_eq!((diagnostics.rows, diagnostics.live), (expected.rows, expected.live));
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs();
            assert!(
                near(diagnostics.sum_p, expected.sum_p) && near(diagnostics.sum_log_p, expected.sum_log_p)
            );
            assert!(near(diagnostics.sum_squares, expected.sum_squares));
            assert!(diagnostics.mass.iter().zip(expected.mass).all(|(got, mass)| near(*got, mass)));
        }
    }
    say(&format!("linear: outputs, {:.0} % of what is allowed", 100.0 * used));
}

/// A NaN partial is a gradient too: it must be seen, not dropped.
#[test]
fn partials_that_are_nan_are_live() {
    let Some(gpu) = baseline() else { return };
    let case = Case::<f32>::new(ROWS, DIM, VOCAB, false);
    let linear = case.linear();
    let mut summaries = vec![RowSummary::nan(); ROWS];
    gpu.summarise_linear(&linear, &LinearOptions::default(), &mut summaries).unwrap();
    let mut partials: Vec<_> = summaries.iter().map(|summary| Nll.of_row(summary).partials).collect();
    // One row alone is live, and NaN.
    partials.iter_mut().for_each(|partials| *partials = partials.scaled(0.0));
    let nan = f64::NAN;
    let zero = RowPartials::zero();
    for nan in [
        RowPartials { d_target: nan, ..zero },
        RowPartials { d_lse: nan, ..zero },
        RowPartials { d_entropy: nan, ..zero },
        RowPartials { d_mean: nan, ..zero },
        RowPartials { d_energy: nan, ..zero },
    ] {
        partials[2] = nan;
        for row_tolerance in [0.0, 1.0] {
            let options = LinearOptions { row_tolerance, ..tiled() };
            let mut dhidden = vec![9.0f32; ROWS * DIM];
            let gradients = LinearGradients { dhidden: Some(&mut dhidden[..]), ..Default::default() };
            let live = gpu.push_back_linear(&linear, &options, &summaries, &partials, gradients).unwrap();
            assert_eq!(live, 1, "{nan:?}");
            for (row, dhidden) in dhidden.chunks(DIM).enumerate() {
                let nothing_else = dhidden.iter().all(|d| if row == 2 { d.is_nan() } else { *d == 0.0 });
                assert!(nothing_else, "{nan:?}, row {row}");
            }
        }
    }
}

/// A negative zero is a tolerance of zero.
#[test]
fn a_tolerance_of_minus_zero_leaves_nothing_out() {
    let Some(gpu) = baseline() else { return };
    let case = Case::<f32>::new(ROWS, DIM, VOCAB, false);
    let run = |row_tolerance: f32| {
        let options = LinearOptions { row_tolerance, ..LinearOptions::default() };
        let mut dhidden = vec![9.0f32; ROWS * DIM];
        let gradients = LinearGradients { dhidden: Some(&mut dhidden[..]), ..Default::default() };
        let none = Outputs::default();
        gpu.evaluate_linear(&Nll, Reduction::Sum, &case.linear(), &options, gradients, none).unwrap();
        dhidden
    };
    let exact = run(0.0);
    assert!(exact.iter().all(|d| *d != 0.0) && exact == run(-0.0));
}

#[test]
fn a_bad_column_is_named_wherever_the_vocabulary_is_cut() {
    let Some(gpu) = baseline() else { return };
    for options in [LinearOptions::default(), tiled()] {
        let mut case = Case::<f32>::new(ROWS, DIM, VOCAB, true);
        let message = |case: &Case<f32>| {
            let forward = LinearGradients::<f32>::default();
            let none = Outputs::default();
            gpu.evaluate_linear(&Nll, Reduction::Sum, &case.linear(), &options, forward, none)
                .unwrap_err()
                .to_string()
        };
        let bias = |case: &mut Case<f32>, column: usize, value: f32| {
            if let Some(bias) = &mut case.bias {
                bias[column] = value;
            }
        };
        bias(&mut case, 300, f32::NAN);
        assert_eq!(message(&case), "logits: row 0, column 300 is NaN, expected a finite number or -inf");
        // The first of two.
        bias(&mut case, 177, f32::INFINITY);
        assert_eq!(message(&case), "logits: row 0, column 177 is inf, expected a finite number or -inf");
        let mut parts = vec![RowPart::empty(); ROWS];
        gpu.parts_linear(&case.shard(200..VOCAB), &options, &mut parts).unwrap();
        for (row, part) in parts.iter().enumerate() {
            let column = part.fault.map(|(column, value)| (column, value.is_nan()));
            assert_eq!(column, case.linear().batch().target(row).map(|_| (300, true)));
        }
        if let Some(bias) = &mut case.bias {
            bias.fill(f32::NEG_INFINITY);
        }
        assert_eq!(
            message(&case),
            "logits: row 0 is -inf in all 333 columns, so that no class has probability"
        );
    }
}

#[test]
fn hidden_states_larger_than_a_buffer_are_an_error_with_both_numbers() {
    let limits = wgpu::Limits { max_buffer_size: 1 << 20, ..low_limits() };
    let Some(gpu) = open(Some(Variant::Baseline), Some(limits)).map(Result::unwrap) else { return };
    let case = Case::<f32>::new(70_000, 5, 7, false);
    let (forward, none) = (LinearGradients::<f32>::default(), Outputs::default());
    let options = LinearOptions::default();
    let error = gpu.evaluate_linear(&Nll, Reduction::Sum, &case.linear(), &options, forward, none);
    let (limit, needed, has) = ("max_buffer_size", 1_400_000, 1 << 20);
    assert_eq!(error.unwrap_err(), GpuError::MissingLimit { limit, needed, has });
}
