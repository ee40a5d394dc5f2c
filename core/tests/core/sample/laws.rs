//! What the trait says of every objective.

use super::families::{Case, Family, families, for_each_family};
use proptest::prelude::*;
use tokenloss_core::{Error, Parameter};

#[test]
fn weights_that_are_to_sum_to_1_do() {
    let unit = f64::EPSILON;
    for_each_family(200, |family, objective, values, case| {
        let (_, weights) = objective.f64(&case).unwrap();
        let sum: f64 = weights.iter().sum();
        let size: f64 = weights.iter().map(|w| w.abs()).sum();
        // A weight of `rex` has the rounding of the mean risk, times 2 beta.
        let spread = 1.0 + 2.0 * family.value(values, "beta") * case.size();
        if family.sums_to_one {
            let bound = 8.0 * (case.losses.len() as f64) * unit * (size + spread);
            prop_assert!((sum - 1.0).abs() <= bound, "{values:?}: {sum}");
        }
        if family.name == "group_dro" {
            let want: f64 = case.group_weights.iter().sum();
            prop_assert!((sum - want).abs() <= 32.0 * unit, "{sum} and not {want}");
        }
        Ok(())
    });
}

#[test]
fn weights_that_are_never_to_be_negative_are_not_and_the_loss_is_monotone() {
    for_each_family(200, |family, objective, values, case| {
        let (loss, weights) = objective.f64(&case).unwrap();
        if !family.non_negative {
            return Ok(());
        }
        prop_assert!(weights.iter().all(|w| *w >= 0.0), "{values:?}: {weights:?}");
        let size = case.size() + family.value(values, "epsilon").abs() + 1.0;
        let terms = weights.iter().map(|w| w * size).sum::<f64>() + loss.abs();
        for i in 0..case.losses.len() {
            let mut worse = case.clone();
            worse.losses[i] += 0.5;
            let higher = objective.held(&case, &worse).unwrap();
            let before = objective.held(&case, &case).unwrap();
            prop_assert!(higher >= before - 1e-13 * terms, "{values:?}: {before} falls to {higher}");
        }
        Ok(())
    });
}

/// Objectives that are negative somewhere say so.
#[test]
fn weights_that_may_be_negative_are_somewhere() {
    for family in families().iter().filter(|family| !family.non_negative) {
        let values: Vec<f32> = family.parameters.iter().map(|p| p.default).collect();
        let mut case = Case::of(&[-3.0, -1.0, -1.0, -2.0, 2.0, 4.0, 3.0, 5.0]);
        (case.offsets, case.group_weights) = (vec![0, 4, 8], vec![0.5; 2]);
        case.proportions = vec![0.0, 1.0];
        let (_, weights) = family.make(&values).f64(&case).unwrap();
        assert!(weights.iter().any(|w| *w < 0.0), "{}: {weights:?}", family.name);
    }
}

/// Whether it is for the rounding of a mean to say which environment is the worst.
fn undecided(family: &Family, case: &Case) -> bool {
    let risk = |e: &[usize]| (e[0]..e[1]).map(|i| case.excess(i)).sum::<f64>() / (e[1] - e[0]) as f64;
    let risks: Vec<f64> = case.offsets.windows(2).map(risk).collect();
    family.name == "mm_rex" && risks.len() == 2 && (risks[0] - risks[1]).abs() <= 1e-12 * (1.0 + case.size())
}

#[test]
fn a_constant_on_all_losses_is_one_on_the_loss() {
    for_each_family(200, |family, objective, values, case| {
        if !family.sums_to_one {
            return Ok(());
        }
        // On a grid, so that the shifted losses and all their differences are exact.
        let grid = |x: f64| (x * 256.0).round() / 256.0;
        let mut case = case;
        case.losses.iter_mut().for_each(|l| *l = grid(*l));
        case.reference.iter_mut().flatten().for_each(|l| *l = grid(*l));
        if undecided(family, &case) {
            return Ok(());
        }
        let mut shifted = case.clone();
        shifted.losses.iter_mut().for_each(|l| *l += 64.0);
        let ((loss, weights), (higher, same)) =
            (objective.f64(&case).unwrap(), objective.f64(&shifted).unwrap());
        let size: f64 = weights.iter().map(|w| w.abs()).sum();
        let spread = size * (shifted.size() + 1.0) * (1.0 + family.value(values, "beta"));
        let bound = 16.0 * (case.losses.len() as f64) * f64::EPSILON * spread + f64::EPSILON * loss.abs();
        prop_assert!((higher - loss - 64.0).abs() <= bound, "{values:?}: {loss} becomes {higher}");
        for (a, b) in weights.iter().zip(&same) {
            prop_assert!((a - b).abs() <= bound, "{values:?}: {weights:?} become {same:?}");
        }
        Ok(())
    });
}

/// Samples in another order have their weights in that order: bit for bit where they are sorted, but for the order of
/// sums elsewhere. Groups keep their samples.
#[test]
fn the_order_of_samples_does_not_matter() {
    for_each_family(200, |family, objective, values, case| {
        // What depends on places by definition.
        if ["irm_unbiased", "easy_llp"].contains(&family.name.as_str()) || undecided(family, &case) {
            return Ok(());
        }
        let n = case.losses.len();
        let mut order: Vec<usize> = (0..n).collect();
        for group in case.offsets.windows(2) {
            order[group[0]..group[1]].rotate_left(1);
            order[group[0]..group[1]].reverse();
        }
        let moved = |column: &[f64]| order.iter().map(|&i| column[i]).collect::<Vec<_>>();
        let other = Case {
            losses: moved(&case.losses),
            reference: case.reference.as_deref().map(moved),
            weights: moved(&case.weights),
            propensities: moved(&case.propensities),
            duals: moved(&case.duals),
            difficulties: moved(&case.difficulties),
            ..case.clone()
        };
        let ((loss, weights), (same, others)) =
            (objective.f64(&case).unwrap(), objective.f64(&other).unwrap());
        let weights = moved(&weights);
        if family.sorts {
            prop_assert_eq!((loss, weights), (same, others));
            return Ok(());
        }
        let size: f64 = weights.iter().map(|w| w.abs()).sum();
        let spread = 1.0 + family.value(values, "beta") * (1.0 + case.size());
        let bound = 16.0 * (n as f64) * f64::EPSILON * (size + 1.0) * spread;
        let terms = size * (case.size() + family.value(values, "epsilon").abs()) + loss.abs();
        prop_assert!((same - loss).abs() <= bound * (1.0 + terms), "{values:?}: {loss} becomes {same}");
        for (a, b) in weights.iter().zip(&others) {
            prop_assert!((a - b).abs() <= bound, "{values:?}: {weights:?} become {others:?}");
        }
        Ok(())
    });
}

/// Of risks, the mean and the maximum are bounds; a radius adds to both.
#[test]
fn a_risk_lies_between_the_least_and_the_greatest_loss() {
    for_each_family(200, |family, objective, values, case| {
        if !(family.sums_to_one && family.non_negative) {
            return Ok(());
        }
        let radius = if family.name == "kl_dro" {
            family.value(values, "tau") * family.value(values, "rho")
        } else {
            0.0
        };
        let loss = objective.f64(&case).unwrap().0;
        let (lo, hi) = case.extremes();
        let slack = 32.0 * f64::EPSILON * (case.size() + radius);
        prop_assert!(loss >= lo + radius - slack && loss <= hi + radius + slack, "{lo} <= {loss} <= {hi}");
        Ok(())
    });
}

/// Losses at the ends of both float types: risks stay finite, and nothing is ever NaN.
#[test]
fn extreme_losses_give_no_nan() {
    let f32s = [
        0.0, -0.0, 1e-45, 1e-38, -1e-30, 1e-7, 1.0, -80.0, 88.0, 1e4, 1e30, -1e30, 1e37, -1e37, 1.0e38, -1e38,
    ];
    let f64s = f32s.map(|x: f64| if x.abs() >= 1e30 { x.powi(8) * x.signum() } else { x });
    for family in families() {
        let settings = |pick: fn(&Parameter) -> f32| -> Vec<f32> {
            let at = |p: &Parameter| if p.name == "k" { pick(p).min(2.0) } else { pick(p) };
            family.parameters.iter().map(at).collect()
        };
        for values in [settings(|p| p.min), settings(|p| p.default), settings(|p| p.max)] {
            let objective = family.make(&values);
            for shift in 0..16 {
                for (double, losses) in [(false, f32s), (true, f64s)] {
                    // Windows of 2 to 16 neighbours, so that each meets others.
                    let mut losses = losses.to_vec();
                    losses.rotate_left(shift);
                    losses.truncate(if shift < 8 { 16 } else { 2 });
                    let mut case = Case::of(&losses);
                    case.group_weights = vec![1.0];
                    // Beyond any that a step leads to, and so an error at the most.
                    case.log_u = Some(1e30);
                    let result = if double {
                        objective.f64(&case)
                    } else {
                        let wide =
                            |(l, w): (f32, Vec<f32>)| (f64::from(l), w.into_iter().map(f64::from).collect());
                        objective.f32(&case).map(wide)
                    };
                    if let (Err(Error::Input { what: "log_u", .. }), "running_kl") = (&result, &*family.name)
                    {
                        continue;
                    }
                    let (loss, weights) = result.unwrap();
                    let context = format!("{} {values:?} of {losses:?}: {loss} and {weights:?}", family.name);
                    assert!(!weights.iter().any(|w| w.is_nan()), "{context}");
                    if family.sums_to_one && family.non_negative {
                        assert!(loss.is_finite(), "{context}");
                        let sum: f64 = weights.iter().sum();
                        assert!((sum - 1.0).abs() < 1e-5, "{context}: {sum}");
                    } else if !losses.iter().any(|l| l.abs() >= 1e30) {
                        assert!(loss.is_finite(), "{context}");
                    }
                }
            }
        }
    }
}

#[test]
fn one_sample_is_itself() {
    for family in families() {
        if !(family.sums_to_one && family.non_negative) {
            continue;
        }
        let values: Vec<f32> = family.parameters.iter().map(|p| p.default).collect();
        let (loss, weights) = family.make(&values).f64(&Case::of(&[2.5])).unwrap();
        assert_eq!((loss, weights), (2.5, vec![1.0]), "{}", family.name);
    }
}
