//! Every objective, level and storage type against the oracle. `cargo test --test suite linear::gradients -- --nocapture`
//! prints the largest errors as shares of what is granted.

use super::truth::{self, Entry, Truth, entries, share};
use super::{Case, Gradients, least, levels, objective};
use crate::inputs::objectives;
use crate::oracle::{self, FLUSH};
use tokenloss::cpu::Cpu;
use tokenloss::half::{bf16, f16};
use tokenloss::{
    Budget, Denominator, Diagnostics, Element, EvaluateLinear, LinearBackend, LinearOptions, NonFinite,
    Objective, Outputs, Reduction, RowPart, reference,
};

pub(super) const REDUCTIONS: [Reduction; 4] = [
    Reduction::Sum,
    Reduction::Mean(Denominator::Valid),
    Reduction::Mean(Denominator::Kept),
    Reduction::Mean(Denominator::Given(7.5)),
];

/// Ways through rows and vocabulary: with each number of runs, another.
pub(super) fn options(turn: usize, least: impl FnOnce() -> usize) -> LinearOptions {
    let of = |chunk_rows, chunk_vocab| LinearOptions { chunk_rows, chunk_vocab, ..LinearOptions::default() };
    match turn % 7 {
        0 => of(None, None),
        1 => of(Some(1), None),
        2 => of(Some(1000), Some(7)),
        3 => of(Some(3), Some(100)),
        4 => of(None, Some(1030)),
        5 => of(Some(5), Some(usize::MAX)),
        // Less than one row of logits, where the vocabulary is not tiny.
        _ => LinearOptions { budget: Budget(least()), ..LinearOptions::default() },
    }
}

fn least_of<E: Element>(case: &Case<E>) -> usize {
    least(&case.linear(), &LinearOptions::default())
}

/// The largest errors, as shares of what is granted.
#[derive(Default)]
struct Worst {
    rows: f64,
    dhidden: f64,
    dweight: f64,
    dbias: f64,
}

fn check<E: Element, G: Element>(
    cpu: Cpu,
    objective: &Objective,
    reduction: Reduction,
    case: &Case<E>,
    truth: &Truth,
    turn: usize,
    worst: &mut Worst,
) {
    let options = options(turn, || least_of(case));
    let wanted = [1, 2, 4].map(|bit| turn & bit == 0);
    let with_entropy = turn.is_multiple_of(3);
    let linear = case.linear();
    let rows = case.rows();
    let mut gradients = Gradients::<G>::new(&linear);
    let at = || {
        let shape = format!("{} to {}, {} x {}", E::DTYPE, G::DTYPE, case.vocab, case.dim);
        format!("{objective}, {}, {shape}, {reduction:?}, {options:?}, wanted {wanted:?}", cpu.level())
    };
    for times in 1..=2 {
        let mut losses = vec![f32::NAN; rows];
        let (mut log_p, mut lse, mut entropy) = (losses.clone(), losses.clone(), losses.clone());
        let (mut argmax, mut diagnostics) = (vec![-7; rows], Diagnostics::default());
        let outputs = Outputs {
            losses: Some(&mut losses),
            log_p: Some(&mut log_p),
            lse: Some(&mut lse),
            // Asked for now and then: the moment is left out elsewhere.
            entropy: with_entropy.then_some(&mut entropy[..]),
            argmax: Some(&mut argmax),
            diagnostics: Some(&mut diagnostics),
        };
        gradients.dhidden.fill(G::from_f32(f32::NAN));
        let got = cpu
            .evaluate_linear(objective, reduction, &linear, &options, gradients.wanted(wanted), outputs)
            .expect("finite logits");

        let want = &truth.totals;
        let counts =
            |t: &tokenloss::Totals| (t.valid, t.kept, t.ignored, t.live, t.denominator, t.weight_sum);
        assert_eq!(counts(&got), counts(want), "{}", at());
        assert_eq!((diagnostics.count(), diagnostics.live), (want.valid, want.live), "{}", at());
        let mut sum_tolerance = 1e-12 * want.loss_sum.abs();
        for (row, of_row) in truth.rows.iter().enumerate() {
            let at = |what: &str| format!("{}, row {row} ({}): {what}", at(), case.what[row]);
            let Some(of_row) = of_row else {
                assert!(losses[row] == 0.0 && log_p[row].is_nan() && argmax[row] == -1, "{}", at("ignored"));
                continue;
            };
            let mut judge = |what: &str, got: f32, want: f64, tolerance: f64| {
                let rounding = want.abs() * f64::from(f32::EPSILON) / 2.0;
                worst.rows = worst.rows.max(share(got.into(), want, tolerance, rounding, || at(what)));
            };
            let stats = of_row.summary.stats;
            if !of_row.on_a_kink {
                judge("loss", losses[row], of_row.loss, of_row.loss_tolerance);
            }
            judge("lse", lse[row], stats.lse(), of_row.granted);
            judge("log_p", log_p[row], of_row.summary.target.log_p, of_row.granted);
            if with_entropy {
                let flushed = FLUSH * 90.0 * case.vocab as f64;
                judge("entropy", entropy[row], stats.entropy(), of_row.granted * stats.entropy() + flushed);
            }
            sum_tolerance += f64::from(case.weights[row]) * of_row.loss_tolerance;
            if argmax[row] as u32 != stats.argmax {
                // Two logits that differ by less than their errors may swap; equal ones must not.
                let mut z = vec![0.0; case.vocab];
                reference::logits_of_row(&linear, row, &mut z);
                let behind = stats.max - z[argmax[row] as usize];
                let may = truth.of_logits[row];
                assert!(may > 0.0 && behind <= 2.0 * may, "{}: {}", at("argmax"), argmax[row]);
            }
        }
        share(got.loss_sum, want.loss_sum, sum_tolerance, 0.0, || format!("{}: loss_sum", at()));

        let twice = f64::from(times);
        if wanted[0] {
            let at = |i| format!("{}: dhidden of row {}, element {}", at(), i / case.dim, i % case.dim);
            worst.dhidden = worst.dhidden.max(entries(&gradients.dhidden, &truth.sums.dhidden, 1.0, at));
        }
        if wanted[1] {
            let at = |i| {
                format!(
                    "{}, call {times}: dweight of column {}, element {}",
                    at(),
                    i / case.dim,
                    i % case.dim
                )
            };
            worst.dweight = worst.dweight.max(entries(&gradients.dweight, &truth.sums.dweight, twice, at));
        }
        if wanted[2] {
            let at = |i| format!("{}, call {times}: dbias of column {i}", at());
            worst.dbias = worst.dbias.max(entries(&gradients.dbias, &truth.sums.dbias, twice, at));
        }
    }
    // Where nothing is wanted or nothing is to come, nothing is written.
    let untouched = |d: &[f32]| d.iter().all(|d| *d == 0.0);
    assert!(wanted[0] || gradients.dhidden.iter().all(|d| d.to_f32().is_nan()), "{}", at());
    assert!(
        (wanted[1] || untouched(&gradients.dweight)) && (wanted[2] || untouched(&gradients.dbias)),
        "{}",
        at()
    );
    for (j, _) in case.bias.iter().flatten().enumerate().filter(|(_, b)| b.to_f32() == f32::NEG_INFINITY) {
        let of_column = &gradients.dweight[j * case.dim..][..case.dim];
        assert!(gradients.dbias[j] == 0.0 && untouched(of_column), "{}: masked column {j}", at());
    }
    if wanted[0] {
        for (row, dhidden) in gradients.dhidden.chunks_exact(case.dim).enumerate() {
            let nothing = truth.rows[row].is_none() || case.weights[row] == 0.0;
            assert!(!nothing || dhidden.iter().all(|d| d.to_f32() == 0.0), "{}: row {row}", at());
        }
    }
}

fn of_shape<E: Element, G: Element>(
    vocab: usize,
    dim: usize,
    list: &[Objective],
    turn: &mut usize,
    worst: &mut Worst,
) {
    for with_bias in [false, true] {
        let mut case = Case::<E>::new(vocab, dim, with_bias, (vocab + dim) as u64);
        let weights = case.weights.clone();
        for objective in list {
            let reduction = REDUCTIONS[*turn / 5 % 4];
            case.weights.copy_from_slice(&weights);
            let mut truth = truth::truth(&case, objective, reduction);
            // An error of the last place decides such a row's side: it weighs nothing, so that sums are of the others.
            let on_a_kink = |row: &Option<oracle::Truth>| row.as_ref().is_some_and(|row| row.on_a_kink);
            if truth.rows.iter().any(on_a_kink) {
                let of_row = case.weights.iter_mut().zip(&truth.rows);
                of_row.filter(|(_, row)| on_a_kink(row)).for_each(|(weight, _)| *weight = 0.0);
                truth = truth::truth(&case, objective, reduction);
            }
            for cpu in levels() {
                check::<E, G>(cpu, objective, reduction, &case, &truth, *turn, worst);
                *turn += 1;
            }
        }
    }
}

/// Measured: of what is granted, rows use at most 0.41, dhidden 0.41, dweight 0.61, dbias 0.58.
fn every_objective<E: Element, G: Element>() {
    let (mut turn, mut worst) = (0, Worst::default());
    // Two classes, and fewer than a vector of them; dims of one element, of less than a vector, and of a vector and one.
    for (vocab, dim) in [(2, 3), (17, 1), (17, 65), (1000, 3)] {
        of_shape::<E, G>(vocab, dim, &objectives(), &mut turn, &mut worst);
    }
    // One column more than a block, and more blocks.
    let some = ["nll", "power:alpha=10", "thresholded:inner=focal,lo=0.2"].map(objective);
    for (vocab, dim) in [(1000, 16), (1025, 65), (2050, 130), (5000, 16)] {
        of_shape::<E, G>(vocab, dim, &some, &mut turn, &mut worst);
    }
    of_shape::<E, G>(5000, 130, &some[..1], &mut turn, &mut worst);
    let Worst { rows, dhidden, dweight, dbias } = worst;
    println!(
        "linear, {} to {}, {turn} runs: of what is granted, rows {rows:.3}, dhidden {dhidden:.3}, dweight {dweight:.3}, \
         dbias {dbias:.3}",
        E::DTYPE,
        G::DTYPE
    );
}

#[test]
fn every_objective_f32() {
    every_objective::<f32, f32>();
}

#[test]
fn every_objective_f16() {
    every_objective::<f16, f16>();
}

#[test]
fn every_objective_bf16() {
    every_objective::<bf16, bf16>();
}

#[test]
fn every_objective_of_bf16_with_a_gradient_in_f32() {
    every_objective::<bf16, f32>();
}

/// A logit by itself, as the target's: dims of small models and of large ones. Measured: at most 0.40 of what is
/// granted.
fn logits<E: Element>() {
    let mut worst = 0.0f64;
    for (vocab, dim) in [(17, 1), (40, 16), (300, 130), (1100, 64), (200, 576), (40, 4096)] {
        for with_bias in [false, true] {
            let mut case = Case::<E>::new(vocab, dim, with_bias, 3);
            let valid: Vec<_> = (0..case.rows()).filter(|row| case.targets[*row] >= 0).collect();
            let truths: Vec<_> = (valid.iter())
                .map(|&row| {
                    let mut z = vec![0.0; vocab];
                    reference::logits_of_row(&case.linear(), row, &mut z);
                    (z, truth::of_logits(&case, row))
                })
                .collect();
            for shift in 0..3 {
                valid.iter().for_each(|&row| case.targets[row] = ((row * 131 + shift * 17) % vocab) as i32);
                for cpu in levels() {
                    for turn in 0..7 {
                        let mut parts = vec![RowPart::empty(); case.rows()];
                        cpu.parts_linear(&case.linear(), &options(turn, || least_of(&case)), &mut parts)
                            .expect("parts");
                        for (&row, (z, tolerance)) in valid.iter().zip(&truths) {
                            let j = case.targets[row] as usize;
                            let got = parts[row].target_logit.expect("the whole vocabulary");
                            if got == z[j] {
                                continue;
                            }
                            let at = || format!("{}, {vocab} x {dim}, row {row}, column {j}", E::DTYPE);
                            worst = worst.max(share(got, z[j], *tolerance, 0.0, at));
                        }
                    }
                }
            }
        }
    }
    println!("linear, logits of {}: {worst:.3} of what is granted", E::DTYPE);
}

#[test]
fn logits_are_sums_of_products() {
    logits::<f32>();
    logits::<f16>();
    logits::<bf16>();
}

/// What is bad in one row stays there, whatever the way through.
#[test]
fn bad_rows_leave_the_others_whole() {
    let power = objective("power:alpha=0.5");
    for reduction in REDUCTIONS {
        let mut case = Case::<f32>::new(1100, 5, true, 9);
        let truth = {
            // The bad row weighs nothing and misses nothing: its share of the sums is 0.
            case.weights[4] = 0.0;
            truth::truth(&case, &power, reduction)
        };
        case.weights[4] = 1.0;
        let good = case.hidden[4 * 5 + 2];
        for (turn, non_finite) in (0..14).map(|i| (i % 7, [NonFinite::Error, NonFinite::NanRow][i / 7])) {
            case.hidden[4 * 5 + 2] = f32::NAN;
            let linear = case.of_batch(case.batch().with_non_finite(non_finite));
            let options = options(turn, || least_of(&case));
            let mut gradients = Gradients::<f32>::new(&linear);
            let mut losses = vec![0.0; case.rows()];
            let outputs = Outputs { losses: Some(&mut losses), ..Outputs::default() };
            let got =
                Cpu::new().evaluate_linear(&power, reduction, &linear, &options, gradients.all(), outputs);
            assert_eq!(got.is_err(), non_finite == NonFinite::Error);
            assert!(
                losses[4].is_nan() && gradients.dhidden[4 * 5..5 * 5].iter().all(|d| d.is_nan()),
                "{options:?}"
            );
            gradients.dhidden[4 * 5..5 * 5].fill(0.0);
            let at = |i| format!("{reduction:?}, {options:?}, {non_finite:?}: entry {i}");
            entries(&gradients.dhidden, &truth.sums.dhidden, 1.0, at);
            if non_finite == NonFinite::Error {
                entries(&gradients.dweight, &truth.sums.dweight, 1.0, at);
                entries(&gradients.dbias, &truth.sums.dbias, 1.0, at);
            } else {
                assert!(got.is_ok_and(|totals| totals.loss().is_nan()));
                assert!(gradients.dweight.iter().chain(&gradients.dbias).all(|d| d.is_nan()));
            }
            case.hidden[4 * 5 + 2] = good;
        }
    }
}

/// The weighted loss itself, changed entry by entry, in f64: what the gradients are the derivatives of.
#[test]
fn gradients_are_finite_differences_of_the_weighted_loss() {
    use tokenloss::{RowSummary, TargetProb, TokenObjective, reference::LinearResults};
    let of = |case: &Case<f32>, objective: &Objective, reduction: Reduction| {
        let (rows, vocab, dim) = (case.rows(), case.vocab, case.dim);
        let results = LinearResults {
            losses: &mut vec![0.0; rows],
            summaries: &mut vec![RowSummary::nan(); rows],
            dhidden: &mut vec![0.0; rows * dim],
            dweight: &mut vec![0.0; vocab * dim],
            dbias: &mut vec![0.0; vocab],
            scratch: &mut vec![0.0; 2 * vocab],
        };
        let totals = reference::evaluate_linear::<f64, _, _>(objective, reduction, &case.linear(), results);
        totals.expect("finite logits").loss()
    };
    // Where a factor is held, the gradient is no derivative of the loss.
    let (a, b) = (TargetProb::from_log_p(-0.5), TargetProb::from_log_p(-1.5));
    let is_derivative = |o: &Objective| o.held(a, b) == o.of_target(b).loss;
    let mut worst = 0.0f64;
    let mut count = 0;
    for (i, objective) in objectives().iter().enumerate().filter(|(_, o)| is_derivative(o)) {
        let mut case = Case::<f32>::new(23, 4, true, 5);
        // Only noise: a confident row's loss hardly changes.
        case.targets[6..].fill(tokenloss::IGNORE_INDEX);
        case.weights = (0..case.rows()).map(|row| [0.0, 0.5, 3.0][row % 3]).collect();
        let reduction = REDUCTIONS[i % 4];
        let truth = truth::truth(&case, objective, reduction);
        let (_, got) = super::gradients::<f32, f32>(
            Cpu::new(),
            objective,
            reduction,
            &case.linear(),
            &LinearOptions::default(),
        );
        let mut check = |what: &str, got: f32, entry: Entry, change: &dyn Fn(&mut Case<f32>, f32)| {
            let at = |step: f32| {
                let mut changed = Case {
                    bias: case.bias.clone(),
                    hidden: case.hidden.clone(),
                    ..Case::new(23, 4, true, 5)
                };
                (changed.targets, changed.weights) = (case.targets.clone(), case.weights.clone());
                change(&mut changed, step);
                of(&changed, objective, reduction)
            };
            // Five points: truncation is of the fourth order. The steps are exact in f32, entries being multiples of 2^-24.
            let h = 2f32.powi(-9);
            let near = at(h) - at(-h);
            let far = at(2.0 * h) - at(-2.0 * h);
            let difference = (8.0 * near - far) / (12.0 * f64::from(h));
            let tolerance = entry.tolerance + 1e-6 * entry.want.abs() + 1e-8;
            let place = || format!("{objective}, {reduction:?}: {what}");
            worst = worst.max(share(got.into(), difference, tolerance, 0.0, place));
            count += 1;
        };
        for row in 0..6 {
            if case.targets[row] >= 0 {
                let i = row * 4 + row % 4;
                check("hidden", got.dhidden[i], truth.sums.dhidden[i], &|case, step| case.hidden[i] += step);
            }
        }
        for j in [0, 5, 22].into_iter().chain(case.targets[..2].iter().map(|t| *t as usize)) {
            let i = j * 4 + j % 4;
            check("weight", got.dweight[i], truth.sums.dweight[i], &|case, step| case.weight[i] += step);
            let to_bias =
                |case: &mut Case<f32>, step: f32| case.bias.iter_mut().for_each(|bias| bias[j] += step);
            check("bias", got.dbias[j], truth.sums.dbias[j], &to_bias);
        }
    }
    println!("linear: {count} finite differences, {worst:.3} of what is granted");
}
