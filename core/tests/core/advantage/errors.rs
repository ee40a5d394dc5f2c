//! Every fault in a caller's outcomes, provoked, with its message word for word.

use super::{Batch, Build};
use tokenloss_core::advantage::*;
use tokenloss_core::{Error, Listed, Segments};

#[track_caller]
fn says<T>(result: Result<T, Error>, text: &str) {
    assert_eq!(result.err().expect("an error").to_string(), text);
}

/// A group of one, and a batch of one.
pub(super) fn small_groups<O: AdvantageEstimator + Listed>(build: Build<O>) {
    let defaults: Vec<f32> = O::PARAMETERS.iter().map(|parameter| parameter.default).collect();
    let estimator = build(&defaults).unwrap();
    let of = |offsets: &[usize]| {
        let n = *offsets.last().unwrap();
        Batch {
            offsets: offsets.to_vec(),
            rewards: vec![1.0; n],
            strata: vec![0; n],
            baselines: vec![0.5; n],
        }
    };
    let (group, one) =
        (of(&[0, 2, 3]).estimate_as::<f64>(&estimator), of(&[0, 1]).estimate_as::<f64>(&estimator));
    if O::LEAST == 2 {
        says(group, "groups: number 1 has 1 members, expected at least 2");
        says(one, "groups: number 0 has 1 members, expected at least 2");
    } else {
        assert!(group.is_ok());
        match estimator.whitens() {
            None => assert!(one.is_ok()),
            Some(_) => says(one, "values to whiten: number 0 has 1 members, expected at least 2"),
        }
    }
}

#[test]
fn outcomes() {
    let two = Segments::new(&[0, 2], 2).unwrap();
    says(Outcomes::new(&[1.0f64], two), "rewards: expected 2 values, got 1");
    for (bad, text) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let wrong = [1.0, bad];
        says(Outcomes::new(&wrong, two), &format!("rewards: value 1 is {text}, expected a finite number"));
        let outcomes = Outcomes::new(&[1.0, 0.0], two).unwrap();
        let text = format!("baselines: value 1 is {text}, expected a finite number");
        says(outcomes.with_baselines(&wrong), &text);
    }
    let outcomes = Outcomes::new(&[1.0, 0.0], two).unwrap();
    says(outcomes.with_baselines(&[0.5]), "baselines: expected 2 values, got 1");
    says(outcomes.with_strata(&[0, 1, 2]), "strata: expected 2 values, got 3");

    let mut advantages = [7.0; 2];
    says(Rloo.estimate(&outcomes, &mut advantages[..1]), "advantages: expected 2 values, got 1");
    let stratified = Stratified::new(0.5, 0.0).unwrap();
    says(stratified.estimate(&outcomes, &mut advantages), "strata: expected 2 values, got 0");
    let gae = Gae::new(1.0, 1.0).unwrap();
    says(gae.estimate(&outcomes, &mut advantages), "baselines: expected 2 values, got 0");
    let spo = Spo::new(0.875, 0.96, 0.06, 0.0).unwrap();
    says(spo.estimate(&outcomes, &mut advantages), "baselines: expected 2 values, got 0");
    assert_eq!(advantages, [7.0; 2], "nothing is written where something is wrong");
}

#[test]
fn segments_of_groups() {
    says(Segments::new(&[0, 2, 2], 2), "offsets: offset 2 is 2, expected more than the 2 before it");
    says(Segments::new(&[0, 3, 2], 2), "offsets: offset 2 is 2, expected more than the 3 before it");
}

#[test]
fn whitening_and_clamping() {
    says(whiten(&mut [1.0f64], 0.0), "values to whiten: number 0 has 1 members, expected at least 2");
    says(whiten(&mut [1.0, f64::NAN], 0.0), "values to whiten: value 1 is NaN, expected a finite number");
    says(whiten(&mut [1.0f64, 2.0], -1.0), "eps: value 0 is -1, expected a finite number of at least 0");
    says(whiten(&mut [1.0f64, 2.0], f32::NAN), "eps: value 0 is NaN, expected a finite number of at least 0");
    says(clamp_negative(&mut [1.0, f64::NAN]), "advantages: value 1 is NaN, expected a finite number");
    let mut same = [3.0f64; 4];
    whiten(&mut same, 0.0).unwrap();
    assert_eq!(same, [0.0; 4]);
}

#[test]
fn the_tracker() {
    let spo = Spo::new(0.875, 0.96, 0.06, 0.0).unwrap();
    let (wins, losses) = (&mut [4.0f64, 4.0], &mut [4.0f64, 4.0]);
    says(spo.init(&[0.5; 3], wins, losses), "wins: expected 3 values, got 2");
    says(spo.init(&[0.5; 2], wins, &mut losses[..1]), "losses: expected 2 values, got 1");
    says(spo.init(&[0.5, 1.5], wins, losses), "rates: value 1 is 1.5, expected a number from 0 to 1");
    let endless = Spo::new(1.0, 1.0, 0.06, 0.0).unwrap();
    says(endless.init(&[0.5; 2], wins, losses), "rho_min: value 0 is 1, expected a number below 1");

    says(spo.baselines(&[0], wins, &losses[..1], &mut [0.0]), "losses: expected 2 values, got 1");
    says(spo.baselines(&[0], wins, losses, &mut []), "baselines: expected 1 values, got 0");
    says(
        spo.baselines(&[0, 2], wins, losses, &mut [0.0; 2]),
        "prompts: value 1 is 2, expected a prompt that there are counts of",
    );
    says(
        spo.baselines(&[0], &[-1.0, 4.0], losses, &mut [0.0]),
        "wins: value 0 is -1, expected a finite number of at least 0",
    );
    says(
        spo.baselines(&[0], wins, &[4.0, f64::NAN], &mut [0.0]),
        "losses: value 1 is NaN, expected a finite number of at least 0",
    );

    says(spo.update(&[0], &[], &[0.0], wins, losses), "rewards: expected 1 values, got 0");
    says(spo.update(&[0], &[1.0], &[], wins, losses), "drifts: expected 1 values, got 0");
    says(
        spo.update(&[0], &[-0.5], &[0.0], wins, losses),
        "rewards: value 0 is -0.5, expected a number from 0 to 1",
    );
    says(
        spo.update(&[0, 1], &[1.0; 2], &[0.0, -0.1], wins, losses),
        "drifts: value 1 is -0.1, expected a finite number of at least 0",
    );
    assert_eq!((&wins[..], &losses[..]), (&[4.0; 2][..], &[4.0; 2][..]), "nothing is counted then");

    says(Spo::drift::<f64>(&[], &[]), "tokens: number 0 has 0 members, expected at least 1");
    says(Spo::drift(&[-1.0f64], &[]), "now: expected 1 values, got 0");
    says(Spo::drift(&[-1.0], &[f64::NAN]), "now: value 0 is NaN, expected a finite number");
    says(Spo::drift(&[f64::NEG_INFINITY], &[-1.0]), "then: value 0 is -inf, expected a finite number");
}
