//! The surrogates of policies: every listed one under the same suites, and what is known of each.

mod errors;
mod identities;
mod judged;

use crate::difference::derivative;
use crate::draw::{cases, within};
use crate::listed::{Build, domains, ends_of, number, numbers};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use std::fmt::Debug;
use tokenloss_core::policy::{self, *};
use tokenloss_core::sequence::Sequences;
use tokenloss_core::{AnyToken, Error, Listed, Segments, TokenObjective, for_each_objective};

/// Every suite for every line of the list.
macro_rules! suites {
    ($($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => { $(
        mod $module {
            use super::*;

            #[allow(unused_mut, unused_variables)]
            fn build(values: &[f32]) -> Result<policy::$type, Error> {
                let mut values = values.iter().copied();
                $(let $param = values.next().unwrap();)*
                policy::$type::new($($param),*)
            }

            #[test]
            fn slopes_are_derivatives_of_what_is_held() {
                differences(parameters::<policy::$type>().prop_map(|values| build(&values).unwrap()));
            }

            #[test]
            fn slopes_are_right_on_both_sides_of_every_kink() {
                both_sides(parameters::<policy::$type>().prop_map(|values| build(&values).unwrap()));
            }

            #[test]
            fn single_precision_agrees_with_double() {
                precision(build);
            }

            #[test]
            fn extreme_inputs_stay_finite() {
                extremes(build);
            }

            #[test]
            fn golden_vectors_agree() {
                golden(build);
            }

            #[test]
            fn domains_end_where_they_are_declared_to() {
                domains(build);
            }
        }
    )* };
}
for_each_objective!(policies, suites);

/// A rollout that owns its rows.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    log_p: Vec<f64>,
    old: Vec<f64>,
    reference: Vec<f64>,
    /// One, or one for each token.
    advantages: Vec<f64>,
}

impl Rows {
    /// The rollout to `test`, in another float type if asked.
    fn with<T: num_traits::Float, R>(&self, test: impl FnOnce(&Rollout<'_, T>) -> R) -> R {
        let cast = |values: &[f64]| values.iter().map(|value| T::from(*value).unwrap()).collect::<Vec<T>>();
        let (log_p, old, reference) = (cast(&self.log_p), cast(&self.old), cast(&self.reference));
        let advantages = cast(&self.advantages);
        let offsets = [0, log_p.len()];
        let sequences = Sequences::new(Segments::new(&offsets, log_p.len()).unwrap());
        let of = if advantages.len() == 1 {
            Advantages::Sequences(&advantages)
        } else {
            Advantages::Rows(&advantages)
        };
        let rollouts =
            Rollouts::new(sequences, &log_p, &old, of).unwrap().with_reference(&reference).unwrap();
        test(&rollouts.rollout(0))
    }

    /// Loss, slopes and clipped tokens in a float type.
    pub(crate) fn eval_as<T: num_traits::Float>(
        &self,
        objective: &impl PolicyObjective,
    ) -> (f64, Vec<f64>, usize) {
        let mut slopes = vec![T::zero(); self.log_p.len()];
        let eval = self.with(|rollout| objective.of_rollout(rollout, &mut slopes));
        let slopes = slopes.iter().map(|slope| slope.to_f64().unwrap()).collect();
        (eval.loss.to_f64().unwrap(), slopes, eval.clipped)
    }

    pub(crate) fn eval(&self, objective: &impl PolicyObjective) -> (f64, Vec<f64>, usize) {
        self.eval_as::<f64>(objective)
    }

    /// With one token's log-probability moved.
    fn moved(&self, token: usize, by: f64) -> Self {
        let mut moved = self.clone();
        moved.log_p[token] += by;
        moved
    }

    fn held(&self, live: &Self, objective: &impl PolicyObjective) -> f64 {
        self.with(|frozen| live.with(|live| objective.held(frozen, live)))
    }

    fn log_ratios(&self) -> Vec<f64> {
        self.log_p.iter().zip(&self.old).map(|(log_p, old)| log_p - old).collect()
    }

    /// How far a token may move before it or the whole sequence meets a kink.
    fn room(&self, token: usize, objective: &impl PolicyObjective) -> f64 {
        let log_ratios = self.log_ratios();
        let mean = log_ratios.iter().sum::<f64>() / log_ratios.len() as f64;
        let kinks = objective.kinks().into_iter().flatten().map(f64::from);
        kinks
            .map(|kink| (log_ratios[token] - kink).abs().min((mean - kink).abs()))
            .fold(f64::INFINITY, f64::min)
    }
}

fn parameters<O: Listed>() -> impl Strategy<Value = Vec<f32>> {
    O::PARAMETERS.iter().map(within).collect::<Vec<_>>()
}

/// Rollouts with log-ratios near the small clips, near the wide ones and beyond, all of them values of an `f32`.
pub(crate) fn rollout() -> impl Strategy<Value = Rows> {
    let log_ratio =
        || prop_oneof![2 => -1.5f32..1.5, 1 => -1e-3f32..1e-3, 1 => -6.0f32..4.0, 1 => Just(0.0f32)];
    // Quarters, whose sums are exact in both float types: a mean of advantages may be 0, and is then.
    let advantage = || (-12i8..=12).prop_map(|quarters| f32::from(quarters) / 4.0);
    let token = (-12.0f32..-0.001, log_ratio(), log_ratio(), advantage());
    (prop::collection::vec(token, 1..7), advantage(), any::<bool>()).prop_map(|(tokens, one, of_tokens)| {
        type Token = (f32, f32, f32, f32);
        let all = |of: fn(&Token) -> f32| tokens.iter().map(|t| f64::from(of(t))).collect::<Vec<_>>();
        Rows {
            log_p: all(|t| t.0),
            old: all(|t| t.0 - t.1),
            reference: all(|t| t.0 - t.2),
            advantages: if of_tokens { all(|t| t.3) } else { vec![f64::from(one)] },
        }
    })
}

fn for_all<V: Debug>(
    count: u32,
    strategy: impl Strategy<Value = V>,
    test: impl Fn(V) -> Result<(), TestCaseError>,
) {
    TestRunner::new(cases(count)).run(&strategy, test).unwrap_or_else(|error| panic!("{error}"));
}

/// Whether a token's slope is the difference; `false` where a kink leaves no room to tell.
fn slope_is_difference(
    objective: &(impl PolicyObjective + Debug),
    rows: &Rows,
    token: usize,
) -> Result<bool, TestCaseError> {
    let step = (0.9 * rows.room(token, objective)).min(0.1);
    if step < 1e-6 {
        return Ok(false);
    }
    let (want, error) = derivative(|by| rows.held(&rows.moved(token, by), objective), step);
    let (loss, slopes, _) = rows.eval(objective);
    let got = slopes[token];
    prop_assert!(
        (got - want).abs() <= 4.0 * error + 1e-9 * got.abs() + 1e-12,
        "{objective:?} on {rows:?}: token {token} has slope {got:e}, the difference is {want:e} up to {error:e}"
    );
    // A difference that knows nothing is no test: it may know what the rounding of the loss leaves of it.
    let noise = 64.0 * f64::EPSILON * loss.abs() / step;
    prop_assert!(error <= 1e-4 * got.abs() + noise + 1e-9, "error {error:e} of {got:e}");
    Ok(true)
}

fn differences<O: PolicyObjective + Debug>(objective: impl Strategy<Value = O>) {
    let told = std::cell::Cell::new(0);
    for_all(400, (objective, rollout()), |(objective, rows)| {
        for token in 0..rows.log_p.len() {
            told.set(told.get() + usize::from(slope_is_difference(&objective, &rows, token)?));
        }
        let held = rows.held(&rows, &objective);
        let (loss, _, _) = rows.eval(&objective);
        prop_assert!((held - loss).abs() <= 1e-12 * loss.abs().max(1.0), "held {held}, loss {loss}");
        Ok(())
    });
    assert!(told.get() > 600, "only {} slopes were compared", told.get());
}

/// All tokens at the same log-ratio, so that the ratio of the sequence is that of each token.
fn both_sides<O: PolicyObjective + Debug>(objective: impl Strategy<Value = O>) {
    let tokens = 1usize..4;
    for_all(300, (objective, tokens, -3.0f64..3.0), |(objective, tokens, advantage)| {
        for kink in objective.kinks().into_iter().flatten().map(f64::from) {
            if kink.abs() > 20.0 {
                continue;
            }
            let mut clipped = [0, 0];
            for (side, clipped) in [-1e-4, 1e-4].into_iter().zip(&mut clipped) {
                let log_ratio = kink + side;
                let log_p = vec![-0.25; tokens];
                let old = log_p.iter().map(|p| p - log_ratio).collect();
                let rows = Rows { reference: log_p.clone(), log_p, old, advantages: vec![advantage] };
                for token in 0..tokens {
                    slope_is_difference(&objective, &rows, token)?;
                }
                *clipped = rows.eval(&objective).2;
            }
            // Whatever a side does, it does to all tokens.
            prop_assert!(clipped.into_iter().all(|clipped| clipped == 0 || clipped == tokens));
        }
        Ok(())
    });
}

/// How much loss and slopes change, relative to what the log-probabilities change: what their own rounding makes of them.
fn condition(objective: &impl PolicyObjective, rows: &Rows) -> (f64, Vec<f64>) {
    const BY: f64 = 1e-7;
    let (loss, slopes, _) = rows.eval(objective);
    let (mut loss_by, mut slopes_by) = (0.0f64, vec![0.0f64; slopes.len()]);
    // Up, down, and to and fro, so that neither a side of a clip nor a mean hides anything.
    for sign in [|_| 1.0, |_| -1.0, |t: usize| if t.is_multiple_of(2) { 1.0 } else { -1.0 }] {
        let mut moved = rows.clone();
        for (t, log_p) in moved.log_p.iter_mut().enumerate() {
            *log_p += BY * sign(t);
        }
        let (moved_loss, moved_slopes, _) = moved.eval(objective);
        loss_by = loss_by.max((moved_loss - loss).abs() / BY);
        for (by, (moved, slope)) in slopes_by.iter_mut().zip(moved_slopes.iter().zip(&slopes)) {
            *by = by.max((moved - slope).abs() / BY);
        }
    }
    (loss_by, slopes_by)
}

/// Tolerance: the log-ratio is one subtraction, a mean of them `n` more and a division, each off by half an ulp of what it
/// amounts to; the objective makes of that what [`condition`] says, and rounds a few times itself. Losses are summed, so
/// that their magnitude is that of the sum of their tokens'.
fn close(
    rows: &Rows,
    condition: (f64, Vec<f64>),
    epsilon: f64,
    got: (f64, &[f64]),
    want: (f64, &[f64]),
) -> f64 {
    let tokens = rows.log_p.len() as f64;
    let depth =
        rows.log_p.iter().chain(&rows.old).chain(&rows.reference).fold(0.0f64, |most, x| most.max(x.abs()));
    let advantage = rows.advantages.iter().fold(0.0f64, |most, a| most.max(a.abs()));
    let log_ratio = epsilon * (tokens + 2.0) * depth;
    let mut worst = 0.0f64;
    let mut compare = |got: f64, want: f64, by: f64, magnitude: f64| {
        let tolerance = log_ratio * by + 8.0 * epsilon * magnitude + f64::from(f32::MIN_POSITIVE);
        worst = worst.max((got - want).abs() / tolerance);
    };
    // A loss may be a small sum of large tokens.
    let magnitude = want.0.abs()
        + want.1.iter().map(|slope| slope.abs()).sum::<f64>()
        + tokens * advantage * (1.0 + depth);
    compare(got.0, want.0, condition.0, magnitude);
    for ((got, want), by) in got.1.iter().zip(want.1).zip(&condition.1) {
        compare(*got, *want, *by, want.abs() + advantage * f64::from(f32::MIN_POSITIVE));
    }
    worst
}

fn precision<O: PolicyObjective + Listed + Debug>(build: Build<O>) {
    for_all(1500, (parameters::<O>(), rollout()), |(values, rows)| {
        let objective = build(&values).unwrap();
        // Near a kink the two may choose different sides.
        let near = |token| {
            rows.room(token, &objective)
                < 1e-5 * (1.0 + rows.log_p.iter().fold(0.0f64, |m, p| m.max(p.abs())))
        };
        if (0..rows.log_p.len()).any(near) {
            return Ok(());
        }
        let (single, double) = (rows.eval_as::<f32>(&objective), rows.eval(&objective));
        let condition = condition(&objective, &rows);
        let worst =
            close(&rows, condition, f64::from(f32::EPSILON), (single.0, &single.1), (double.0, &double.1));
        prop_assert!(
            worst <= 1.0,
            "{objective:?} on {rows:?}: {single:?} instead of {double:?}, {worst} of the tolerance"
        );
        prop_assert_eq!(single.2, double.2);
        Ok(())
    });
}

/// Certain and hopeless tokens, on and far off the old policy, in both float types.
fn extremes<O: PolicyObjective + Listed + Debug>(build: Build<O>) {
    let ends = [-0.0, -1e-30, -1e-7, -1.0, -80.0, -1e4, -1e30];
    for values in ends_of::<O>() {
        let objective = build(&values).unwrap();
        for log_p in ends {
            for old in ends {
                for reference in [-1e-7, old] {
                    for advantage in [0.0, 1.0, -1.0, 1e6, -1e6] {
                        let rows = Rows {
                            log_p: vec![log_p, -1.0, log_p],
                            old: vec![old, -1.0, -0.5],
                            reference: vec![reference, -1.5, -1.0],
                            advantages: vec![advantage],
                        };
                        for (loss, slopes, _) in [rows.eval_as::<f32>(&objective), rows.eval(&objective)] {
                            // The square of 1e30 is no f32.
                            let square = O::NAME == "k2" && log_p.min(reference) == -1e30;
                            assert!(loss.is_finite() || square, "{objective:?} on {rows:?}: loss {loss}");
                            assert!(
                                slopes.iter().all(|s| s.is_finite()),
                                "{objective:?} on {rows:?}: slopes {slopes:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}

fn golden<O: PolicyObjective + Listed + Debug>(build: Build<O>) {
    let golden: Value = serde_json::from_str(include_str!("../../golden/policy.json")).unwrap();
    let of_list = |entry: &&Value| entry["objective"] == O::NAME;
    let mut compared = 0;
    for entry in golden["policies"].as_array().unwrap().iter().filter(of_list) {
        let values: Vec<f32> = numbers(&entry["parameters"]).into_iter().map(|value| value as f32).collect();
        let objective = build(&values).unwrap();
        let rollouts = golden["rollouts"].as_array().unwrap();
        for (rollout, result) in rollouts.iter().zip(entry["results"].as_array().unwrap()) {
            if result.is_null() {
                continue;
            }
            let of = |key: &str| numbers(&rollout[key]);
            let rows = Rows {
                log_p: of("log_p"),
                old: of("old"),
                reference: of("reference"),
                advantages: of("advantages"),
            };
            let (loss, slopes, _) = rows.eval(&objective);
            let want = numbers(&result[1]);
            let worst = close(
                &rows,
                condition(&objective, &rows),
                f64::EPSILON,
                (loss, &slopes),
                (number(&result[0]), &want),
            );
            assert!(
                worst <= 1.0,
                "{objective:?} on {}: {loss} and {slopes:?} instead of {result}",
                rollout["name"]
            );
            compared += 1;
        }
    }
    assert!(compared >= 8, "core/golden/policy.py knows no {}; add its formula and run it", O::NAME);
}

/// The composition of any token objective with any divisor is under the same suites.
#[test]
fn the_unified_estimator_passes_for_every_token_objective() {
    let divisor = prop::sample::select(vec![Divisor::One, Divisor::Old, Divisor::Current]);
    // A threshold has kinks of its own, and an exponent of 16 makes every probability hopeless.
    let reshape =
        crate::draw::token().prop_filter("smooth", |token| token.kinks().iter().all(Option::is_none));
    let masked = (reshape, divisor, prop::option::of((0.0f32..1.0, 0.0f32..2.0)));
    let unified = masked.prop_map(|(reshape, divisor, mask)| {
        let unified: Unified<AnyToken> = Unified::new(reshape, divisor);
        mask.map_or(unified, |(low, high)| unified.with_mask(low, high).unwrap())
    });
    for_all(600, (unified, rollout()), |(unified, rows)| {
        for token in 0..rows.log_p.len() {
            let step = (0.9 * rows.room(token, &unified)).min(0.05 * rows.log_p[token].abs());
            if step < 1e-6 {
                continue;
            }
            let (want, error) = derivative(|by| rows.held(&rows.moved(token, by), &unified), step);
            let got = rows.eval(&unified).1[token];
            prop_assert!(
                (got - want).abs() <= 4.0 * error + 1e-9 * got.abs() + 1e-12,
                "{unified:?} on {rows:?}: token {token} has slope {got:e}, the difference is {want:e} up to {error:e}"
            );
        }
        Ok(())
    });
}
