//! What every listed objective must be, whatever it is.

use super::{Judge, all, condition, double, for_each_line, numbers};
use proptest::prelude::*;
use std::cell::Cell;
use tokenloss_core::sequence::Response;
use tokenloss_core::{MAX_PARAMETERS, Parameter};

/// How a slope compares with the difference of order 4 of the loss, stop-gradient factors held.
#[derive(Debug, PartialEq)]
enum Difference {
    Agrees,
    Differs {
        slope: f64,
        difference: f64,
        step: f64,
    },
    /// A kink lies within the least step.
    Kink,
}

/// A loss may vary as fast as its parameters say, so the step is lowered until the two agree to the `noise`
/// of the loss, as long as that tells anything. Steps are powers of two: `log_p` and they are added exactly.
fn difference(judge: &dyn Judge, group: &[Response<f64>], gap: f64, at: usize, noise: f64) -> Difference {
    let (value, slopes) = judge.of(group, gap);
    let scale = slopes.iter().map(|slope| slope.abs()).sum::<f64>();
    let mut result = Difference::Kink;
    for halvings in (9..60).step_by(2) {
        let h = 2f64.powi(group[at].log_p.abs().min(1.0).log2().floor() as i32 - halvings);
        let tolerance = noise / h + 1e-9 * scale;
        if tolerance > 1e-5 * (scale + value.abs()) {
            break;
        }
        let moved = |steps: f64| {
            let mut live = group.to_vec();
            live[at].log_p += steps * h;
            live
        };
        let side = |steps: f64| judge.kink(&moved(steps)).map(|kink| kink > 0.0);
        if [-2.0, -1.0, 1.0, 2.0].iter().any(|&steps| side(steps) != side(0.0)) {
            continue;
        }
        let loss = |steps: f64| judge.held(group, &moved(steps), gap);
        let difference = (8.0 * (loss(1.0) - loss(-1.0)) - (loss(2.0) - loss(-2.0))) / (12.0 * h);
        if (slopes[at] - difference).abs() <= tolerance {
            return Difference::Agrees;
        }
        result = Difference::Differs { slope: slopes[at], difference, step: h };
    }
    result
}

#[test]
fn slopes_are_derivatives_of_the_loss() {
    for line in all() {
        let (tried, agreed) = (Cell::new(0), Cell::new(0));
        for_each_line(vec![line], 400, |line, (values, responses, gap)| {
            let judge = line.with(values).unwrap();
            let group = double(&responses);
            let noise = condition(line, values, &group, f64::from(gap), f64::EPSILON)[0];
            for at in (0..group.len()).filter(|&at| group[at].log_p < 0.0) {
                let result = difference(&*judge, &group, f64::from(gap), at, noise);
                prop_assert!(
                    !matches!(result, Difference::Differs { .. }),
                    "{judge:?} of {group:?} and gap {gap}: number {at}: {result:?}"
                );
                tried.set(tried.get() + 1);
                agreed.set(agreed.get() + usize::from(result == Difference::Agrees));
            }
            Ok(())
        });
        // Not where a slope is far below the last bits of a large loss.
        assert!(agreed.get() * 10 > tried.get() * 7, "{}: {agreed:?} of {tried:?} compared", line.name);
    }
}

/// Moves the first sequence until it meets a kink, and differentiates on both sides of it.
#[test]
fn slopes_are_derivatives_on_both_sides_of_every_kink() {
    for line in all() {
        let (declared, met) = (Cell::new(0), Cell::new(0));
        for_each_line(vec![line], 1000, |line, (values, responses, gap)| {
            let judge = line.with(values).unwrap();
            let mut group = double(&responses);
            if judge.kink(&group).is_none() {
                return Ok(());
            }
            declared.set(declared.get() + 1);
            // With more than two the nearest kink is not always the same one.
            group.truncate(2);
            let kink = |log_p: f64, group: &[Response<f64>]| {
                let mut moved = group.to_vec();
                moved[0].log_p = log_p;
                judge.kink(&moved).unwrap()
            };
            let (mut below, mut above) = (-5000.0, -1e-3);
            if (kink(below, &group) > 0.0) == (kink(above, &group) > 0.0) {
                return Ok(());
            }
            for _ in 0..60 {
                let middle = 0.5 * (below + above);
                if (kink(middle, &group) > 0.0) == (kink(below, &group) > 0.0) {
                    below = middle;
                } else {
                    above = middle;
                }
            }
            for side in [-1e-6, 1e-6] {
                let mut group = group.clone();
                group[0].log_p = below + side * below.abs();
                let noise = condition(line, values, &group, f64::from(gap), f64::EPSILON)[0];
                let (result, nearest) = (difference(&*judge, &group, f64::from(gap), 0, noise), below);
                prop_assert!(
                    !matches!(result, Difference::Differs { .. }),
                    "{judge:?} of {group:?} beside {nearest}: {result:?}"
                );
                met.set(met.get() + usize::from(result == Difference::Agrees));
            }
            Ok(())
        });
        assert!(declared.get() == 0 || met.get() > 100, "{}: {} kinks met", line.name, met.get());
    }
}

/// In f32, on numbers that both float types hold.
///
/// A loss that subtracts large numbers is only as good as they are: see [`condition`].
#[test]
fn single_precision_agrees_with_double() {
    for_each_line(all(), 400, |line, (values, responses, gap)| {
        let judge = line.with(values).unwrap();
        let group = double(&responses);
        let side = judge.kink(&group).map(|kink| kink > 0.0);
        if side != judge.kink_single(&responses).map(|kink| kink > 0.0) {
            return Ok(());
        }
        let (loss, slopes) = judge.of_single(&responses, gap);
        let want = judge.of(&group, f64::from(gap));
        let tolerance = condition(line, values, &group, f64::from(gap), f64::from(f32::EPSILON));
        for (i, (got, want)) in numbers(f64::from(loss), slopes.iter().map(|&s| f64::from(s)))
            .zip(numbers(want.0, want.1.iter().copied()))
            .enumerate()
        {
            let tolerance = tolerance[i] + 4.0 * f64::from(f32::MIN_POSITIVE);
            prop_assert!(
                (got - want).abs() <= tolerance,
                "{judge:?} of {group:?} and gap {gap}: number {i} is {got:e} instead of {want:e}, tolerance {tolerance:e}"
            );
        }
        Ok(())
    });
}

/// Every combination of extreme inputs, at every end of every domain, in both float types.
#[test]
fn extreme_inputs_give_finite_numbers() {
    let sums = [0.0f32, -1e-45, -1e-30, -1.0, -1e3, -1e6];
    let mut extreme = Vec::new();
    for (i, log_p) in sums.into_iter().enumerate() {
        for (j, reference) in sums.into_iter().enumerate() {
            for length in [1.0, 1e6] {
                let reward = [1e3, 1.0][(i + j) % 2];
                extreme.push(Response { log_p, length, reference, reward, baseline: 0.0 });
            }
        }
    }
    for line in all() {
        let choices = |p: &Parameter| [p.min, p.default, p.max];
        let mut settings = vec![[0.0; MAX_PARAMETERS]];
        for (at, parameter) in line.parameters.iter().enumerate() {
            settings = settings
                .into_iter()
                .flat_map(|setting| {
                    choices(parameter).map(|value| {
                        let mut s = setting;
                        s[at] = value;
                        s
                    })
                })
                .collect();
        }
        for values in settings {
            let judge = line.with(values).unwrap();
            for first in &extreme {
                for second in &extreme {
                    if second.reward > first.reward {
                        continue;
                    }
                    for gap in [0.0, 1e4, -1e4] {
                        let group = [*first, Response { reward: second.reward - 1.0, ..*second }];
                        let (loss, slopes) = judge.of_single(&group, gap);
                        let finite = loss.is_finite() && slopes.iter().all(|slope| slope.is_finite());
                        assert!(finite, "{judge:?} of {group:?} and gap {gap}: {loss}, {slopes:?} in f32");
                        let (loss, slopes) = judge.of(&double(&group), f64::from(gap));
                        let finite = loss.is_finite() && slopes.iter().all(|slope| slope.is_finite());
                        assert!(finite, "{judge:?} of {group:?} and gap {gap}: {loss}, {slopes:?} in f64");
                        if !judge.needs().gap {
                            break;
                        }
                    }
                }
            }
        }
    }
}

/// What an objective does not ask for, it does not look at.
#[test]
fn what_is_not_needed_is_not_looked_at() {
    for_each_line(all(), 100, |line, (values, responses, gap)| {
        let judge = line.with(values).unwrap();
        let group = double(&responses);
        let needs = judge.needs();
        let known = |needed: bool, value: f64| if needed { value } else { f64::NAN };
        let bare: Vec<_> = group
            .iter()
            .map(|r| Response {
                reference: known(needs.reference, r.reference),
                reward: known(needs.reward, r.reward),
                baseline: known(needs.baseline, r.baseline),
                ..*r
            })
            .collect();
        prop_assert_eq!(
            judge.of(&bare, known(needs.gap, f64::from(gap))),
            judge.of(&group, f64::from(gap)),
            "{:?}",
            judge
        );
        Ok(())
    });
}

#[test]
fn every_parameter_is_held_to_its_domain() {
    for line in all() {
        let defaults = |at: usize, value: f32| {
            let mut values = [0.0; MAX_PARAMETERS];
            for (i, parameter) in line.parameters.iter().enumerate() {
                values[i] = if i == at { value } else { parameter.default };
            }
            values
        };
        for (at, &Parameter { name, min, max, default }) in line.parameters.iter().enumerate() {
            assert!(min <= default && default <= max, "{}: {name}", line.name);
            for value in [min, max] {
                assert!(line.with(defaults(at, value)).is_ok());
            }
            let above = max + (max - min).abs();
            for value in [min - (max - min).abs(), above, f32::NAN, f32::INFINITY] {
                assert_eq!(
                    line.with(defaults(at, value)).unwrap_err().to_string(),
                    format!("{}: {name} = {value} lies outside its domain {min} to {max}", line.name)
                );
            }
        }
    }
}
