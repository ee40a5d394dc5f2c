//! Rows without a gradient cost nothing and get nothing; what a tolerance leaves out is bounded.

use super::truth::{self, Entry, entries};
use super::{Case, Gradients, gradients, levels, objective};
use tokenloss::cpu::Cpu;
use tokenloss::{
    Denominator, EvaluateLinear, LinearBackend, LinearGradients, LinearOptions, Outputs, Reduction,
    RowObjective, RowSummary, reference,
};

#[test]
fn rows_that_are_not_live_get_nothing() {
    let case = Case::<f32>::noise(60, 1100, 24, 1);
    for spec in ["thresholded:inner=nll,lo=0.2", "thresholded:inner=nll,hi=0.7", "power:alpha=10"] {
        let objective = objective(spec);
        for (cpu, reduction) in levels()
            .flat_map(|cpu| [Denominator::Valid, Denominator::Kept].map(|d| (cpu, Reduction::Mean(d))))
        {
            let options = LinearOptions { chunk_rows: Some(25), ..LinearOptions::default() };
            let (totals, got) = gradients::<f32, f32>(cpu, &objective, reduction, &case.linear(), &options);
            let mut summaries = vec![RowSummary::nan(); 60];
            cpu.summarise_linear(&case.linear(), &options, &mut summaries).expect("finite");
            let is_live =
                |row: usize| case.targets[row] >= 0 && objective.of_row(&summaries[row]).partials.is_live();
            let live = (0..60).filter(|row| is_live(*row)).count();
            assert!(live > 0 && live < case.batch().valid(), "{spec}: {live} rows are live");
            assert_eq!(totals.live, live, "{spec}, {}", cpu.level());
            for (row, dhidden) in got.dhidden.chunks_exact(24).enumerate() {
                let nothing = dhidden.iter().all(|d| d.to_bits() == 0);
                assert_eq!(nothing, !is_live(row), "{spec}, {}, row {row}", cpu.level());
            }
            // The same without a gradient.
            let none = LinearGradients::<f32>::default();
            let forward = cpu.evaluate_linear(
                &objective,
                reduction,
                &case.linear(),
                &options,
                none,
                Outputs::default(),
            );
            assert_eq!(forward, Ok(totals));
        }
    }
}

/// A row's own gradient is the same beside live rows and beside rows that are switched off.
#[test]
fn a_row_does_not_depend_on_who_else_is_live() {
    let mut case = Case::<f32>::noise(60, 1100, 24, 2);
    let nll = objective("nll");
    let truth = truth::truth(&case, &nll, Reduction::Sum);
    for cpu in levels() {
        case.weights.fill(1.0);
        let options = LinearOptions { chunk_rows: Some(25), ..LinearOptions::default() };
        let (_, all) = gradients::<f32, f32>(cpu, &nll, Reduction::Sum, &case.linear(), &options);
        (0..60).for_each(|row| case.weights[row] = if row % 3 == 1 { 1.0 } else { 0.0 });
        let (totals, some) = gradients::<f32, f32>(cpu, &nll, Reduction::Sum, &case.linear(), &options);
        assert!(totals.live < 21);
        let mut greatest = 0.0f32;
        for (row, (a, b)) in all.dhidden.chunks_exact(24).zip(some.dhidden.chunks_exact(24)).enumerate() {
            for (k, (a, b)) in a.iter().zip(b).enumerate() {
                let tolerance = truth.sums.dhidden[row * 24 + k].tolerance;
                if case.weights[row] == 0.0 {
                    assert_eq!(*b, 0.0, "row {row}");
                } else {
                    // The product of fewer rows may add in another order.
                    let off = f64::from((a - b).abs());
                    assert!(off <= 2.0 * tolerance, "{}, row {row}: {a:e} and {b:e}", cpu.level());
                    greatest = greatest.max(b.abs());
                }
            }
        }
        assert!(greatest > 0.1);
    }
}

/// What a tolerance left out of a gradient, entry by entry, beside the bound that its documentation states.
struct Cost {
    /// The largest error, as a share of the bound.
    share: f64,
    /// Entries with an error at all.
    off: usize,
}

fn cost(what: &str, exact: &[Entry], got: &[f32], bounds: impl Fn(usize) -> f64) -> Cost {
    let mut cost = Cost { share: 0.0, off: 0 };
    for (i, (Entry { want, tolerance }, got)) in exact.iter().zip(got).enumerate() {
        let off = (want - f64::from(*got)).abs();
        // What an exact gradient may be off by, and its rounding.
        let rounding = tolerance + want.abs() * 2f64.powi(-24);
        let bound = bounds(i);
        assert!(off <= bound + rounding, "{what} {i}: off by {off:e}, the bound is {bound:e}");
        if off > rounding {
            cost.off += 1;
            cost.share = cost.share.max(off / bound);
        }
    }
    cost
}

#[test]
fn row_tolerance() {
    let case = Case::<f32>::noise(120, 1100, 24, 3);
    let nll = objective("nll");
    let reduction = Reduction::default();
    let truth = truth::truth(&case, &nll, reduction);
    for cpu in levels() {
        let exact = LinearOptions { chunk_rows: Some(50), ..LinearOptions::default() };
        // Of a row with p near 1, and below 2 / 109 of one with p near 0.
        let tolerance = 3e-4;
        let rough = LinearOptions { row_tolerance: tolerance, ..exact };
        let (all, want) = gradients::<f32, f32>(cpu, &nll, reduction, &case.linear(), &exact);
        let (some, got) = gradients::<f32, f32>(cpu, &nll, reduction, &case.linear(), &rough);
        let is_nothing = |d: &[f32]| d.iter().all(|d| *d == 0.0);
        let dropped: Vec<_> = (0..120)
            .filter(|row| {
                is_nothing(&got.dhidden[row * 24..][..24]) && !is_nothing(&want.dhidden[row * 24..][..24])
            })
            .collect();
        assert!(dropped.len() > 3 && some.live == all.live - dropped.len(), "{dropped:?}");
        assert_eq!((some.loss_sum, some.kept), (all.loss_sum, all.kept), "losses are exact");

        let tolerance = f64::from(tolerance);
        let widest = case.weight.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        let of_hidden = cost("dhidden", &truth.sums.dhidden, &got.dhidden, |i| {
            if dropped.contains(&(i / 24)) { tolerance * f64::from(widest) } else { 0.0 }
        });
        let left_out =
            |k: usize| dropped.iter().map(|row| f64::from(case.hidden[row * 24 + k].abs())).sum::<f64>();
        let sums: Vec<_> = (0..24).map(left_out).collect();
        let of_weight = cost("dweight", &truth.sums.dweight, &got.dweight, |i| tolerance * sums[i % 24]);
        assert!(of_hidden.off > 0 && of_weight.off > 0, "a tolerance that left nothing out");
        println!(
            "row tolerance, {}: {} of {} rows left out; of the bounds, dhidden {:.3}, dweight {:.3}",
            cpu.level(),
            dropped.len(),
            all.live,
            of_hidden.share,
            of_weight.share
        );
    }
}

#[test]
fn block_tolerance() {
    let (rows, vocab, dim) = (50, 5000, 24);
    let case = Case::<f32>::noise(rows, vocab, dim, 4);
    let nll = objective("nll");
    let block = LinearOptions::BLOCK_COLUMNS;
    for (chunk_vocab, reduction) in [(None, Reduction::Sum), (Some(2048), Reduction::Mean(Denominator::Kept))]
    {
        let exact = LinearOptions { chunk_vocab, ..LinearOptions::default() };
        let tolerance = 2e-2 * reduction.scale(45, 45) as f32;
        let rough = LinearOptions { block_tolerance: tolerance, ..exact };
        let truth = truth::truth(&case, &nll, reduction);
        let (all, _) = gradients::<f32, f32>(Cpu::new(), &nll, reduction, &case.linear(), &exact);
        let (some, got) = gradients::<f32, f32>(Cpu::new(), &nll, reduction, &case.linear(), &rough);
        assert_eq!(all, some, "the filter leaves losses and counts alone");

        // What is left once the same blocks are left out in f64: the gradient to be had.
        let tolerance = f64::from(tolerance);
        let (mut dhidden, mut dweight, mut dbias) =
            (truth.sums.dhidden.clone(), truth.sums.dweight.clone(), truth.sums.dbias.clone());
        let mut left_out = vec![false; rows * vocab.div_ceil(block)];
        let mut z = vec![0.0; vocab];
        for row in (0..rows).filter(|row| case.targets[*row] >= 0) {
            reference::logits_of_row(&case.linear(), row, &mut z);
            let target = case.targets[row] as usize;
            let summary = reference::summarise(&z, target).expect("finite");
            let partials = nll.of_row(&summary).partials.scaled(reduction.scale(all.valid, all.kept));
            let mut dlogits = vec![0.0; vocab];
            reference::push_back(&z, target, &summary, partials, &mut dlogits);
            for (i, dlogits) in dlogits.chunks(block).enumerate() {
                let greatest = dlogits.iter().fold(0.0f64, |m, d| m.max(d.abs()));
                assert!((greatest / tolerance - 1.0).abs() > 1e-3, "f32 may decide the other way");
                if greatest >= tolerance {
                    continue;
                }
                left_out[row * vocab.div_ceil(block) + i] = true;
                for (j, d) in dlogits.iter().enumerate().map(|(j, d)| (i * block + j, d)) {
                    dbias[j].want -= d;
                    for k in 0..dim {
                        dhidden[row * dim + k].want -= d * f64::from(case.weight[j * dim + k]);
                        dweight[j * dim + k].want -= d * f64::from(case.hidden[row * dim + k]);
                    }
                }
            }
        }
        let at = |what| move |i: usize| format!("{chunk_vocab:?}: {what} {i}");
        entries(&got.dhidden, &dhidden, 1.0, at("dhidden"));
        entries(&got.dweight, &dweight, 1.0, at("dweight"));
        entries(&got.dbias, &dbias, 1.0, at("dbias"));

        // And how far that is from all of it.
        let is_out = |row: usize, j: usize| left_out[row * vocab.div_ceil(block) + j / block];
        let weight = |row: usize, k: usize| {
            let columns = (0..vocab).filter(|j| is_out(row, *j));
            columns.map(|j| f64::from(case.weight[j * dim + k].abs())).sum::<f64>()
        };
        let hidden = |j: usize, k: usize| {
            let rows = (0..rows).filter(|row| is_out(*row, j));
            rows.map(|row| f64::from(case.hidden[row * dim + k].abs())).sum::<f64>()
        };
        let of_hidden =
            cost("dhidden", &truth.sums.dhidden, &got.dhidden, |i| tolerance * weight(i / dim, i % dim));
        let of_weight =
            cost("dweight", &truth.sums.dweight, &got.dweight, |i| tolerance * hidden(i / dim, i % dim));
        let of_bias = cost("dbias", &truth.sums.dbias, &got.dbias, |j| {
            tolerance * (0..rows).filter(|row| is_out(*row, j)).count() as f64
        });
        assert!(of_hidden.off > 0 && of_weight.off > 0 && of_bias.off > 0, "a filter that left nothing out");
        assert!(left_out.iter().any(|out| !out));
        println!(
            "block tolerance, {chunk_vocab:?}: {} of {} blocks are left out; of the bounds, dhidden {:.3}, dweight {:.3}, dbias {:.3}",
            left_out.iter().filter(|out| **out).count(),
            left_out.len(),
            of_hidden.share,
            of_weight.share,
            of_bias.share
        );
    }
}

/// Where all rows are off, there is nothing to divide by and nothing to push back.
#[test]
fn no_live_row_at_all() {
    let mut case = Case::<f32>::new(1100, 5, true, 9);
    let nothing = |case: &Case<f32>, spec: &str| {
        for cpu in levels() {
            for denominator in [Denominator::Valid, Denominator::Kept, Denominator::Given(2.0)] {
                for chunk_vocab in [None, Some(300)] {
                    let options = LinearOptions { chunk_vocab, ..LinearOptions::default() };
                    let reduction = Reduction::Mean(denominator);
                    let (totals, got): (_, Gradients<f32>) =
                        gradients(cpu, &objective(spec), reduction, &case.linear(), &options);
                    assert_eq!((totals.loss(), totals.live), (0.0, 0), "{spec}");
                    assert!(got.bits().iter().all(|bits| *bits == 0), "{spec}");
                }
            }
        }
    };
    nothing(&case, "thresholded:inner=nll,lo=1");
    case.targets.fill(tokenloss::IGNORE_INDEX);
    nothing(&case, "nll");
    // With all rows ignored, nothing is read.
    case.hidden.fill(f32::NAN);
    nothing(&case, "nll");
}
