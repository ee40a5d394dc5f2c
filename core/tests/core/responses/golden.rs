//! Golden vectors of `core/golden/responses.py`, which knows the formulas and nothing of ours.

use super::{Line, all, condition, numbers};
use crate::golden::number;
use serde_json::Value;
use tokenloss_core::MAX_PARAMETERS;
use tokenloss_core::sequence::Response;

fn golden() -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("../../../golden/responses.json")).expect("the file is JSON");
    file["entries"].as_array().expect("a list").clone()
}

fn list(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(number).collect()
}

fn line(name: &str) -> Line {
    all().into_iter().find(|line| line.name == name).unwrap_or_else(|| panic!("{name} is not listed"))
}

#[test]
fn every_listed_objective_has_golden_vectors() {
    let golden = golden();
    for line in all() {
        let entries = golden.iter().filter(|entry| entry["objective"] == line.name).count();
        assert!(entries > 0, "core/golden/responses.py knows no {}; add its formula and run it", line.name);
    }
}

#[test]
fn values_and_slopes_agree_with_the_golden_vectors() {
    let (mut points, mut worst) = (0, 0.0f64);
    for entry in golden() {
        let line = line(entry["objective"].as_str().unwrap());
        let mut values = [0.0; MAX_PARAMETERS];
        for (to, from) in values.iter_mut().zip(entry["parameters"].as_array().unwrap()) {
            *to = from.as_f64().unwrap() as f32;
        }
        let judge = line.with(values).unwrap();
        for point in entry["points"].as_array().unwrap() {
            let group: Vec<Response<f64>> = point["responses"]
                .as_array()
                .unwrap()
                .iter()
                .map(|response| match list(response)[..] {
                    [log_p, length, reference, reward, baseline] => {
                        Response { log_p, length, reference, reward, baseline }
                    }
                    _ => panic!("{response} has not five numbers"),
                })
                .collect();
            let gap = number(&point["gap"]);
            let (loss, slopes) = judge.of(&group, gap);
            let (want_loss, want_slopes) = (number(&point["loss"]), list(&point["slopes"]));
            assert_eq!(slopes.len(), want_slopes.len());
            let tolerance = condition(line, values, &group, gap, f64::EPSILON);
            let scale = want_slopes.iter().fold(0.0f64, |scale, slope| scale.max(slope.abs()));
            for (i, (got, want)) in
                numbers(loss, slopes.into_iter()).zip(numbers(want_loss, want_slopes.into_iter())).enumerate()
            {
                let off = (got - want).abs();
                assert!(
                    off <= tolerance[i],
                    "{judge:?} of {group:?} and gap {gap}: number {i} is {got:e} instead of {want:e}"
                );
                if i > 0 && scale > 1e-6 {
                    worst = worst.max(off / scale);
                }
            }
            points += 1;
        }
    }
    assert!(points > 600, "only {points} points");
    // What the bound above amounts to, beside the greatest slope of each point: measured 1.3e-15.
    assert!(worst < 3e-15, "worst relative error {worst:e}");
}
