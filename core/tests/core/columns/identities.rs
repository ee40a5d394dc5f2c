//! What objectives are of each other, and of objectives of whole rows.

use super::{Drawn, evaluate};
use crate::draw::{cases, row};
use proptest::prelude::*;
use tokenloss_core::columns::*;
use tokenloss_core::divergence::{ForwardKl, ReverseKl};
use tokenloss_core::{Nll, RowObjective, reference};

/// The log-sum-exp of what is not listed.
fn rest(logits: &[f64], listed: &[usize]) -> f64 {
    let others = || (0..logits.len()).filter(|j| !listed.contains(j)).map(|j| logits[j]);
    let max = others().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY { max } else { max + others().map(|z| (z - max).exp()).sum::<f64>().ln() }
}

fn drawn(logits: &[f64], listed: &[usize], sides: Vec<f64>) -> Drawn {
    let mut classes: Vec<_> = listed.iter().map(|&j| logits[j]).collect();
    classes.push(rest(logits, listed));
    Drawn { classes, sides }
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mass: f64 = logits.iter().map(|z| (z - max).exp()).sum();
    logits.iter().map(|z| (z - max).exp() / mass).collect()
}

fn close(a: f64, b: f64, scale: f64) -> Result<(), TestCaseError> {
    prop_assert!((a - b).abs() <= 1e-12 * (1.0 + scale), "{a:e} and {b:e}");
    Ok(())
}

/// `sum q log(q / p)` by itself.
fn kl(q: &[f64], p: &[f64]) -> f64 {
    q.iter().zip(p).filter(|(q, _)| **q > 0.0).map(|(q, p)| q * (q / p).ln()).sum()
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn one_column_with_coefficient_1_is_nll((logits, target) in row()) {
        prop_assume!(logits[target].is_finite());
        let summary = reference::summarise(&logits, target).unwrap();
        let want = Nll.of_row(&summary);
        let one = drawn(&logits, &[target], vec![1.0, 0.0]);
        for (loss, d) in [evaluate(&SoftLabels, &one), evaluate(&SubsetMass, &one), evaluate(&Purified, &one)] {
            let odds = summary.target.one_minus_p;
            prop_assert!((loss - want.loss).abs() <= 1e-13 * (want.loss + odds * logits[target].abs()));
            prop_assert!((d[0] + odds).abs() <= 1e-13 * odds * (1.0 + logits[target].abs() + summary.stats.max.abs()));
            prop_assert_eq!(d[1], -d[0]);
        }
    }

    #[test]
    fn a_teacher_of_all_columns_is_the_whole_divergence(
        (logits, _) in row(), teacher in prop::collection::vec(-10.0f64..10.0, 12)) {
        prop_assume!(logits.iter().all(|z| z.is_finite()));
        let (p, q) = (softmax(&logits), softmax(&teacher[..logits.len()]));
        prop_assume!(p.iter().all(|p| *p > 1e-30));
        let listed: Vec<_> = (0..logits.len()).rev().collect();
        let mut sides: Vec<_> = listed.iter().map(|&j| teacher[j]).collect();
        sides.push(f64::NEG_INFINITY);
        let all = drawn(&logits, &listed, sides);
        let (loss, d) = evaluate(&Topk(ForwardKl::new().unwrap()), &all);
        close(loss, kl(&q, &p), 1.0)?;
        for (at, &j) in listed.iter().enumerate() {
            close(d[at], p[j] - q[j], 1.0)?;
        }
        prop_assert_eq!(d[listed.len()], 0.0);
        close(evaluate(&Topk(ReverseKl::new().unwrap()), &all).0, kl(&p, &q), 20.0)?;
    }

    #[test]
    fn a_lumped_rest_is_the_divergence_of_lumped_distributions(
        (logits, first) in row(), teacher in prop::collection::vec(-10.0f64..10.0, 12), k in 1usize..4) {
        prop_assume!(logits.iter().all(|z| z.is_finite()) && logits.len() > k);
        let (p, q) = (softmax(&logits), softmax(&teacher[..logits.len()]));
        prop_assume!(p.iter().all(|p| *p > 1e-30));
        let listed: Vec<_> = (0..k).map(|i| (first + i) % logits.len()).collect();
        let lump = |p: &[f64]| {
            let rest = (0..p.len()).filter(|j| !listed.contains(j)).map(|j| p[j]).sum();
            listed.iter().map(|&j| p[j]).chain([rest]).collect::<Vec<f64>>()
        };
        let (p, q) = (lump(&p), lump(&q));
        let mut sides: Vec<_> = listed.iter().map(|&j| teacher[j]).collect();
        sides.push(rest(&teacher[..logits.len()], &listed));
        let some = drawn(&logits, &listed, sides);
        close(evaluate(&Topk(ForwardKl::new().unwrap()), &some).0, kl(&q, &p), 1.0)?;
        close(evaluate(&Topk(ReverseKl::new().unwrap()), &some).0, kl(&p, &q), 20.0)?;

        // Log-probabilities say the same as logits.
        let log_q: Vec<_> = q[..k].iter().map(|q| q.ln()).collect();
        let left = rest_of_log_p(&log_q, f64::NEG_INFINITY).unwrap();
        let of_log_p = Drawn { sides: log_q.into_iter().chain([left]).collect(), ..some.clone() };
        prop_assume!(q[k] > 1e-3);
        close(evaluate(&Topk(ForwardKl::new().unwrap()), &of_log_p).0, kl(&q, &p), 20.0)?;
    }

    #[test]
    fn a_subset_of_everything_costs_nothing((logits, _) in row()) {
        let listed: Vec<_> = (0..logits.len()).collect();
        let (loss, d) = evaluate(&SubsetMass, &drawn(&logits, &listed, vec![]));
        prop_assert_eq!(loss, 0.0);
        prop_assert!(d.iter().all(|d| *d == 0.0));
    }

    #[test]
    fn purified_is_subset_mass_and_the_entropy_of_its_weights((logits, first) in row(), k in 1usize..4) {
        prop_assume!(logits.len() > k && logits[first].is_finite());
        let listed: Vec<_> = (0..k).map(|i| (first + i) % logits.len()).collect();
        let some = drawn(&logits, &listed, vec![]);
        let mut weights = vec![f64::NAN; k];
        // A momentum of 0 does not look at what was there.
        weights.fill(7.0);
        Purified.weights(some.row(), 0.0, &mut weights);
        close(weights.iter().sum(), 1.0, 1.0)?;
        let entropy: f64 = weights.iter().filter(|w| **w > 0.0).map(|w| -w * w.ln()).sum();
        let (purified, mass) = (evaluate(&Purified, &some), evaluate(&SubsetMass, &some));
        close(purified.0, mass.0 + entropy, mass.0)?;
        prop_assert_eq!(&purified.1, &mass.1);
        // And it is cross-entropy with these weights.
        let mut sides = weights.clone();
        sides.push(0.0);
        let labels = evaluate(&SoftLabels, &Drawn { sides, ..some });
        close(labels.0, purified.0, purified.0)?;
        for (a, b) in labels.1.iter().zip(&purified.1) {
            close(*a, *b, 1.0)?;
        }
        let half = weights.clone();
        Purified.weights(drawn(&logits, &listed, vec![]).row(), 0.5, &mut weights);
        for (a, b) in weights.iter().zip(&half) {
            close(*a, *b, 1.0)?;
        }
    }

    #[test]
    fn a_subset_softmax_is_that_of_the_listed_alone((logits, first) in row(), k in 2usize..4) {
        prop_assume!(logits.len() >= k && logits[first].is_finite());
        let listed: Vec<_> = (0..k).map(|i| (first + i) % logits.len()).collect();
        let some = drawn(&logits, &listed, vec![]);
        let (loss, d) = evaluate(&SubsetSoftmax, &some);
        let mut alone = Drawn { sides: vec![0.0; k + 1], ..some };
        alone.classes[k] = f64::NEG_INFINITY;
        alone.sides[0] = 1.0;
        let labels = evaluate(&SoftLabels, &alone);
        close(loss, labels.0, labels.0)?;
        for (a, b) in d.iter().zip(&labels.1) {
            close(*a, *b, 1.0)?;
        }
    }

    #[test]
    fn unlikelihood_is_the_sum_over_candidates((logits, first) in row(), k in 1usize..4) {
        prop_assume!(logits.len() > k && logits.iter().filter(|z| z.is_finite()).count() > 1);
        let listed: Vec<_> = (0..k).map(|i| (first + i) % logits.len()).collect();
        let (loss, _) = evaluate(&CandidateUnlikelihood, &drawn(&logits, &listed, vec![]));
        let each: f64 = listed
            .iter()
            .map(|&j| {
                let mut others = logits.clone();
                others[j] = f64::NEG_INFINITY;
                rest(&logits, &[]) - rest(&others, &[])
            })
            .sum();
        close(loss, each, each + logits[first].abs().min(2000.0))?;
    }

    #[test]
    fn the_moments_have_derivatives((logits, _) in row(), values in prop::collection::vec(-5.0f64..5.0, 12)) {
        let values = &values[..logits.len()];
        let of = |z: &[f64]| Moments::of(ColumnRow { logits: z, rest: 0.0 }, values);
        let here = of(&logits);
        let (mut by_mean, mut by_variance) = (vec![0.0; values.len()], vec![0.0; values.len()]);
        let row = ColumnRow { logits: &logits, rest: 0.0 };
        here.push_back(row, values, 1.0, 0.0, &mut by_mean);
        here.push_back(row, values, 0.0, 1.0, &mut by_variance);
        for j in (0..values.len()).filter(|&j| logits[j].is_finite()) {
            const STEP: f64 = 3e-4;
            let at = |steps: f64| {
                let mut z = logits.clone();
                z[j] += steps * STEP;
                of(&z)
            };
            let [a, b, c, d] = [1.0, -1.0, 2.0, -2.0].map(at);
            let difference = |a: f64, b: f64, c: f64, d: f64| (8.0 * (a - b) - (c - d)) / (12.0 * STEP);
            // Scores to 5, their squares to 100: truncation and rounding as of derivatives everywhere else.
            prop_assert!((by_mean[j] - difference(a.mean, b.mean, c.mean, d.mean)).abs() <= 3e-8);
            let want = difference(a.variance, b.variance, c.variance, d.variance);
            prop_assert!((by_variance[j] - want).abs() <= 5e-7, "{} and {want}", by_variance[j]);
        }
    }
}

#[test]
fn a_masked_subset_is_infinitely_far() {
    let masked = Drawn { classes: vec![f64::NEG_INFINITY, f64::NEG_INFINITY, 1.0], sides: vec![] };
    for (loss, d) in [evaluate(&SubsetMass, &masked), evaluate(&Purified, &masked)] {
        assert_eq!((loss, &d[..]), (f64::INFINITY, &[0.0, 0.0, 1.0][..]));
    }
    let mut weights = [0.25, 0.75];
    Purified.weights(masked.row(), 0.0, &mut weights);
    assert_eq!(weights, [0.25, 0.75]);
    // A candidate that alone has mass cannot lose it.
    let alone = Drawn { classes: vec![1.0, f64::NEG_INFINITY, f64::NEG_INFINITY], sides: vec![] };
    let (loss, d) = evaluate(&CandidateUnlikelihood, &alone);
    assert_eq!((loss, &d[..]), (f64::INFINITY, &[0.0; 3][..]));
    // And without candidates nothing is lost.
    let none = Drawn { classes: vec![1.0], sides: vec![] };
    assert_eq!(evaluate(&CandidateUnlikelihood, &none), (0.0, vec![0.0]));
}

#[test]
fn the_weights_of_entropies() {
    let eaft = Eaft::new(1.0, 3.0).unwrap();
    assert_eq!(eaft.weight(&[0.0f64, f64::NEG_INFINITY]), 0.0);
    assert_eq!(Eaft::new(0.0, 3.0).unwrap().weight(&[0.0f64, -1e4]), 1.0);
    assert!(eaft.weight(&[f64::NAN, 0.0]).is_nan() && eaft.weight(&[f64::NEG_INFINITY; 3]).is_nan());
    assert!((eaft.weight(&[1.5f32; 20]) - 0.998_577_4).abs() < 1e-6, "{}", eaft.weight(&[1.5f32; 20]));
}
