//! Advantages from rewards: every listed estimator under the same suites, and what is known of each.

mod errors;
mod tracker;

use crate::draw::{cases, within};
use crate::listed::{Build, domains, ends_of, numbers};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use std::fmt::Debug;
use tokenloss_core::advantage::{self, *};
use tokenloss_core::{Error, Listed, Segments, for_each_objective};

/// Every suite for every line of the list.
macro_rules! suites {
    ($($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => { $(
        mod $module {
            use super::*;

            #[allow(unused_mut, unused_variables)]
            fn build(values: &[f32]) -> Result<advantage::$type, Error> {
                let mut values = values.iter().copied();
                $(let $param = values.next().unwrap();)*
                advantage::$type::new($($param),*)
            }

            #[test]
            fn advantages_are_centred_and_know_no_order() {
                structure(build);
            }

            #[test]
            fn equal_outcomes_have_no_advantage() {
                equal(build);
            }

            #[test]
            fn single_precision_agrees_with_double() {
                precision(build);
            }

            #[test]
            fn extreme_rewards_stay_finite() {
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

            #[test]
            fn small_groups_are_errors() {
                errors::small_groups(build);
            }
        }
    )* };
}
for_each_objective!(advantages, suites);

/// Outcomes that own their slices.
#[derive(Debug, Clone)]
struct Batch {
    offsets: Vec<usize>,
    rewards: Vec<f64>,
    strata: Vec<u32>,
    baselines: Vec<f64>,
}

impl Batch {
    fn estimate_as<T: num_traits::Float>(
        &self,
        estimator: &impl AdvantageEstimator,
    ) -> Result<Vec<f64>, Error> {
        let cast = |values: &[f64]| values.iter().map(|value| T::from(*value).unwrap()).collect::<Vec<T>>();
        let (rewards, baselines) = (cast(&self.rewards), cast(&self.baselines));
        let outcomes = Outcomes::new(&rewards, Segments::new(&self.offsets, rewards.len())?)?
            .with_strata(&self.strata)?
            .with_baselines(&baselines)?;
        let mut advantages = vec![T::nan(); rewards.len()];
        estimator.estimate(&outcomes, &mut advantages)?;
        Ok(advantages.iter().map(|advantage| advantage.to_f64().unwrap()).collect())
    }

    fn estimate(&self, estimator: &impl AdvantageEstimator) -> Vec<f64> {
        self.estimate_as::<f64>(estimator).unwrap()
    }

    fn groups(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        self.offsets.windows(2).map(|pair| pair[0]..pair[1])
    }
}

/// Groups of two and more; rewards that are right or wrong, or eighths, so that sums are exact in both float types.
fn batch() -> impl Strategy<Value = Batch> {
    let reward =
        || prop_oneof![2 => (0i8..=1).prop_map(f64::from), 1 => (-80i8..80).prop_map(|r| f64::from(r) / 8.0)];
    let outcome = (reward(), 0u32..4, (-16i8..16).prop_map(|b| f64::from(b) / 16.0));
    prop::collection::vec(prop::collection::vec(outcome, 2..9), 1..4).prop_map(|groups| {
        let mut offsets = vec![0];
        for group in &groups {
            offsets.push(offsets.last().unwrap() + group.len());
        }
        let all = groups.concat();
        Batch {
            offsets,
            rewards: all.iter().map(|outcome| outcome.0).collect(),
            strata: all.iter().map(|outcome| outcome.1).collect(),
            baselines: all.iter().map(|outcome| outcome.2).collect(),
        }
    })
}

fn parameters<O: Listed>() -> impl Strategy<Value = Vec<f32>> {
    O::PARAMETERS.iter().map(within).collect::<Vec<_>>()
}

fn for_all<V: Debug>(
    count: u32,
    strategy: impl Strategy<Value = V>,
    test: impl Fn(V) -> Result<(), TestCaseError>,
) {
    TestRunner::new(cases(count)).run(&strategy, test).unwrap_or_else(|error| panic!("{error}"));
}

fn near(a: &[f64], b: &[f64], ulps: f64) -> bool {
    let size = b.iter().fold(1e-300f64, |most, b| most.max(b.abs()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= ulps * f64::EPSILON * size)
}

/// What all estimators have in common: a better outcome has no lower advantage, a constant is nothing where outcomes are
/// compared with each other, and neither the order of a group nor that of groups matters.
fn structure<O: AdvantageEstimator + Listed + Debug>(build: Build<O>) {
    for_all(400, (parameters::<O>(), batch()), |(values, batch)| {
        let estimator = build(&values).unwrap();
        let advantages = batch.estimate(&estimator);
        if O::NAME == "gae" {
            // In time, order is all that matters.
            return Ok(());
        }
        // Back to front, group by group.
        let reverse = |values: &[f64]| values.iter().rev().copied().collect::<Vec<_>>();
        let end = batch.rewards.len();
        let mirrored = Batch {
            offsets: batch.offsets.iter().rev().map(|offset| end - offset).collect(),
            rewards: reverse(&batch.rewards),
            strata: batch.strata.iter().rev().copied().collect(),
            baselines: reverse(&batch.baselines),
        };
        let unit = 1e4 * f64::EPSILON;
        let back = reverse(&mirrored.estimate(&estimator));
        prop_assert!(near(&advantages, &back, 1e4), "{advantages:?} and {back:?}");

        if !O::NEEDS_BASELINES {
            let shifted =
                Batch { rewards: batch.rewards.iter().map(|r| r + 64.0).collect(), ..batch.clone() };
            prop_assert!(near(&shifted.estimate(&estimator), &advantages, 1e4));
            for group in batch.groups() {
                let sum: f64 = advantages[group.clone()].iter().sum();
                let size = advantages[group].iter().fold(1.0f64, |most, a| most.max(a.abs()));
                prop_assert!(sum.abs() <= unit * size, "a group sums to {sum}");
            }
        }
        // Among those that are compared with the same, the order of advantages is that of outcomes.
        for group in batch.groups() {
            for i in group.clone() {
                for j in group.clone() {
                    let alike = batch.baselines[i] == batch.baselines[j] || !O::NEEDS_BASELINES;
                    let same_stratum = batch.strata[i] == batch.strata[j] || !O::NEEDS_STRATA;
                    if alike && same_stratum && batch.rewards[i] >= batch.rewards[j] {
                        prop_assert!(advantages[i] >= advantages[j]);
                    }
                }
            }
        }
        Ok(())
    });
}

/// Exactly 0, without a division by 0, whatever the reward and whatever `eps`.
fn equal<O: AdvantageEstimator + Listed + Debug>(build: Build<O>) {
    for_all(300, (parameters::<O>(), batch(), -3.0f64..3.0), |(mut values, batch, reward)| {
        for (value, parameter) in values.iter_mut().zip(O::PARAMETERS) {
            if parameter.name == "eps" {
                *value = 0.0;
            }
        }
        let all = vec![reward; batch.rewards.len()];
        // As good as expected, where something is expected; the value of a return is that of what is left of it.
        let baselines = if O::NAME == "gae" { vec![0.0; all.len()] } else { all.clone() };
        let rewards = if O::NAME == "gae" { baselines.clone() } else { all };
        let advantages = Batch { rewards, baselines, ..batch }.estimate(&build(&values).unwrap());
        prop_assert!(advantages.iter().all(|advantage| *advantage == 0.0), "{advantages:?}");
        Ok(())
    });
}

/// Rewards and baselines are exact in both float types. A mean rounds by `n` ulps of the largest, a deviation is the root of
/// a sum of squares of such differences: the relative error of an advantage is that of its difference and of the deviation.
fn precision<O: AdvantageEstimator + Listed + Debug>(build: Build<O>) {
    for_all(1000, (parameters::<O>(), batch()), |(values, batch)| {
        let estimator = build(&values).unwrap();
        let (single, double) = (batch.estimate_as::<f32>(&estimator).unwrap(), batch.estimate(&estimator));
        let most = batch.rewards.iter().chain(&batch.baselines).fold(0.0f64, |most, r| most.max(r.abs()));
        // The least difference that a deviation may be made of: rewards differ by an eighth at least, baselines by a
        // sixteenth, or not at all.
        let least = 1.0 / 16.0;
        let unit = f64::from(f32::EPSILON) * batch.rewards.len() as f64 * (2.0 + 4.0 * most / least);
        for (single, double) in single.iter().zip(&double) {
            prop_assert!(
                (single - double).abs() <= unit * double.abs().max(1.0),
                "{single} instead of {double}"
            );
        }
        Ok(())
    });
}

fn extremes<O: AdvantageEstimator + Listed + Debug>(build: Build<O>) {
    for values in ends_of::<O>() {
        let estimator = build(&values).unwrap();
        for scale in [1e-38, 1e-20, 1.0, 1e20, 1e37] {
            let batch = Batch {
                offsets: vec![0, 2, 6],
                rewards: [1.0, -1.0, 0.0, 0.0, 0.0, 1.0].map(|reward: f64| reward * scale).to_vec(),
                strata: vec![0, 0, 1, 1, 2, 2],
                baselines: [0.5, 0.5, 0.0, 1.0, -1.0, 0.25].map(|baseline: f64| baseline * scale).to_vec(),
            };
            for advantages in [batch.estimate_as::<f32>(&estimator).unwrap(), batch.estimate(&estimator)] {
                assert!(
                    advantages.iter().all(|a| a.is_finite()),
                    "{estimator:?} at {scale:e}: {advantages:?}"
                );
            }
        }
    }
}

fn golden_file() -> Value {
    serde_json::from_str(include_str!("../../golden/advantage.json")).unwrap()
}

fn golden<O: AdvantageEstimator + Listed + Debug>(build: Build<O>) {
    let golden = golden_file();
    let mut compared = 0;
    for entry in golden["advantages"].as_array().unwrap().iter().filter(|entry| entry["estimator"] == O::NAME)
    {
        let values: Vec<f32> = numbers(&entry["parameters"]).into_iter().map(|value| value as f32).collect();
        let estimator = build(&values).unwrap();
        let outcomes = golden["outcomes"].as_array().unwrap();
        for (outcome, result) in outcomes.iter().zip(entry["results"].as_array().unwrap()) {
            let batch = Batch {
                offsets: numbers(&outcome["offsets"]).into_iter().map(|offset| offset as usize).collect(),
                rewards: numbers(&outcome["rewards"]),
                strata: numbers(&outcome["strata"]).into_iter().map(|stratum| stratum as u32).collect(),
                baselines: numbers(&outcome["baselines"]),
            };
            let (got, want) = (batch.estimate(&estimator), numbers(result));
            // Rewards of 100 that differ by .5 lose two digits to their mean.
            assert!(near(&got, &want, 1e3), "{estimator:?}: {got:?} instead of {want:?}");
            compared += 1;
        }
    }
    assert!(compared >= 3, "core/golden/policy.py knows no {}; add its formula and run it", O::NAME);
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn rloo_is_n_over_n_minus_1_times_mean_centred(batch in batch()) {
        let (rloo, centred) = (batch.estimate(&Rloo), batch.estimate(&DrGrpo));
        for group in batch.groups() {
            let n = group.len() as f64;
            for i in group.clone() {
                let others: f64 = group.clone().filter(|j| *j != i).map(|j| batch.rewards[j]).sum();
                prop_assert!((rloo[i] - centred[i] * n / (n - 1.0)).abs() <= 1e-14 * (1.0 + rloo[i].abs()));
                prop_assert!((rloo[i] - (batch.rewards[i] - others / (n - 1.0))).abs() <= 1e-13 * (1.0 + rloo[i].abs()));
            }
        }
    }

    #[test]
    fn one_stratum_is_grpo_and_so_is_an_alpha_of_0(batch in batch(), alpha in 0.0f32..=1.0, eps in 0.0f32..1.0) {
        let grpo = batch.estimate(&Grpo::new(eps).unwrap());
        let one = Batch { strata: vec![5; batch.rewards.len()], ..batch.clone() };
        prop_assert!(near(&one.estimate(&Stratified::new(alpha, eps).unwrap()), &grpo, 8.0));
        prop_assert!(near(&batch.estimate(&Stratified::new(0.0, eps).unwrap()), &grpo, 8.0));
    }

    /// In a stratum of two kinds of rewards, the mean is 0 and the variance 1; in any other all are 0.
    #[test]
    fn strata_are_normalised_by_themselves(batch in batch()) {
        let advantages = batch.estimate(&Stratified::new(1.0, 0.0).unwrap());
        for group in batch.groups() {
            for stratum in 0..4 {
                let of: Vec<usize> = group.clone().filter(|i| batch.strata[*i] == stratum).collect();
                let differ = of.iter().any(|i| batch.rewards[*i] != batch.rewards[of[0]]);
                let sum: f64 = of.iter().map(|i| advantages[*i]).sum();
                let squares: f64 = of.iter().map(|i| advantages[*i] * advantages[*i]).sum();
                let variance = if differ { of.len() as f64 - 1.0 } else { 0.0 };
                prop_assert!(sum.abs() <= 1e-11 && (squares - variance).abs() <= 1e-11);
            }
        }
    }

    #[test]
    fn a_greater_eps_shrinks_and_no_eps_is_of_unit_variance(batch in batch(), eps in 0.0f32..1.0) {
        let (some, none) = (batch.estimate(&Grpo::new(eps).unwrap()), batch.estimate(&Grpo::new(0.0).unwrap()));
        prop_assert!(some.iter().zip(&none).all(|(some, none)| some.abs() <= none.abs()));
        for group in batch.groups() {
            let squares: f64 = none[group.clone()].iter().map(|a| a * a).sum();
            let differ = none[group.clone()].iter().any(|a| *a != 0.0);
            let want = if differ { group.len() as f64 - 1.0 } else { 0.0 };
            prop_assert!((squares - want).abs() <= 1e-11);
        }
    }

    /// Whitened: mean 0 and variance 1 over the batch, and what is whitened already stays as it is.
    #[test]
    fn whitening_is_of_the_whole_batch_and_done_once(batch in batch()) {
        let mut advantages = batch.estimate(&ReinforcePlusPlus::new(0.0).unwrap());
        let n = advantages.len() as f64;
        let squares: f64 = advantages.iter().map(|a| a * a).sum();
        prop_assert!(advantages.iter().sum::<f64>().abs() <= 1e-11);
        prop_assert!((squares - (n - 1.0)).abs() <= 1e-10 || squares == 0.0);
        let before = advantages.clone();
        whiten(&mut advantages, 0.0).unwrap();
        prop_assert!(near(&advantages, &before, 1e3));
        // One group that is the whole batch: the form without a baseline.
        let mut plain = batch.rewards.clone();
        whiten(&mut plain, 1e-8).unwrap();
        let one = Batch { offsets: vec![0, batch.rewards.len()], ..batch.clone() };
        prop_assert!(near(&one.estimate(&ReinforcePlusPlus::new(1e-8).unwrap()), &plain, 1e3));
    }

    /// lambda = 1 is the return less the value; gamma = lambda = 1 telescopes, lambda = 0 looks one step ahead.
    #[test]
    fn gae_at_its_ends(batch in batch(), gamma in 0.0f32..=1.0) {
        let returns = batch.estimate(&Gae::new(gamma, 1.0).unwrap());
        let steps = batch.estimate(&Gae::new(gamma, 0.0).unwrap());
        let gamma = f64::from(gamma);
        for group in batch.groups() {
            for t in group.clone() {
                let rest: f64 = (t..group.end).map(|s| gamma.powi((s - t) as i32) * batch.rewards[s]).sum();
                prop_assert!((returns[t] - (rest - batch.baselines[t])).abs() <= 1e-12);
                let next = if t + 1 < group.end { batch.baselines[t + 1] } else { 0.0 };
                prop_assert!((steps[t] - (batch.rewards[t] + gamma * next - batch.baselines[t])).abs() <= 1e-13);
            }
        }
    }

    #[test]
    fn clamping_keeps_what_is_above_0(batch in batch()) {
        let before = batch.estimate(&DrGrpo);
        let mut after = before.clone();
        clamp_negative(&mut after).unwrap();
        prop_assert!(after.iter().zip(&before).all(|(after, before)| *after == before.max(0.0)));
    }
}

/// The convention of the deviation, in numbers: n - 1.
#[test]
fn the_deviation_is_the_sample_s() {
    let batch =
        Batch { offsets: vec![0, 2], rewards: vec![1.0, 0.0], strata: vec![0; 2], baselines: vec![0.0; 2] };
    // With n it would be 1 and -1.
    let root = 0.5f64.sqrt();
    assert!(near(&batch.estimate(&Grpo::new(0.0).unwrap()), &[root, -root], 2.0));
}
