//! Golden vectors of `core/golden/sample.py`, which knows the formulas and nothing of ours.

use super::families::{Case, families};
use crate::golden::number;
use serde_json::Value;
use tokenloss_core::sample::*;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../../golden/sample.json")).expect("the file is JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("numbers").iter().map(number).collect()
}

fn case(golden: &Value, name: &Value) -> Case {
    let cases = golden["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["name"] == *name).expect("a case of that name");
    let reference = numbers(&case["reference"]);
    Case {
        losses: numbers(&case["losses"]),
        reference: (!reference.is_empty()).then_some(reference),
        weights: numbers(&case["weights"]),
        propensities: numbers(&case["propensities"]),
        duals: numbers(&case["duals"]),
        difficulties: numbers(&case["difficulties"]),
        offsets: case["offsets"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect(),
        group_weights: numbers(&case["group_weights"]),
        proportions: numbers(&case["proportions"]),
        before: None,
        log_u: None,
    }
}

#[test]
fn every_listed_objective_has_golden_vectors() {
    let golden = golden();
    for family in families() {
        let entries =
            golden["samples"].as_array().unwrap().iter().filter(|e| e["objective"] == *family.name).count();
        assert!(entries >= 4, "core/golden/sample.py knows no {}; add its formula and run it", family.name);
    }
}

#[test]
fn losses_and_weights_agree_with_the_golden_vectors() {
    let golden = golden();
    let families = families();
    let (mut worst_loss, mut worst_weight, mut weights_seen) = (0.0f64, 0.0f64, 0);
    for entry in golden["samples"].as_array().unwrap() {
        let name = entry["objective"].as_str().unwrap();
        let family =
            families.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{name} is not listed"));
        let values: Vec<f32> = numbers(&entry["parameters"]).iter().map(|&x| x as f32).collect();
        let mut case = case(&golden, &entry["case"]);
        if name == "running_kl" {
            let objective = RunningKl::new(values[0], values[1], values[2], values[3]).unwrap();
            let log_u =
                case.samples::<f64, _>(|samples| objective.step(&samples, number(&entry["before"]))).unwrap();
            let want = number(&entry["log_u"]);
            assert!(
                (log_u - want).abs() <= 8.0 * f64::EPSILON * (1.0 + want.abs()),
                "{log_u} and not {want}"
            );
            case.log_u = Some(log_u);
        }
        let (loss, weights) = family.make(&values).f64(&case).unwrap();
        let (want, wanted) = (number(&entry["loss"]), numbers(&entry["weights"]));
        // Of the terms that the loss is a sum of, and of the greatest weight.
        let terms = wanted.iter().map(|w| w.abs() * case.size()).sum::<f64>() + want.abs();
        let greatest = wanted.iter().fold(0.0f64, |greatest, w| greatest.max(w.abs()));
        let off = (loss - want).abs() / terms;
        assert!(off <= 1e-14, "{name} {values:?} on {}: loss {loss} and not {want}", entry["case"]);
        worst_loss = worst_loss.max(off);
        for (i, (weight, want)) in weights.iter().zip(&wanted).enumerate() {
            let off = (weight - want).abs() / greatest;
            assert!(
                off <= 1e-14,
                "{name} {values:?} on {}: weight {i} {weight} and not {want}",
                entry["case"]
            );
            worst_weight = worst_weight.max(off);
            weights_seen += 1;
        }
    }
    assert!(weights_seen > 1000, "only {weights_seen} weights");
    // Measured 1.9e-16 and 6.0e-16.
    assert!(
        worst_loss < 6e-16 && worst_weight < 2e-15,
        "worst: loss {worst_loss:e}, weight {worst_weight:e}"
    );
}

#[test]
fn states_after_a_step_agree_with_the_golden_vectors() {
    let golden = golden();
    for entry in golden["steps"].as_array().unwrap() {
        let case = case(&golden, &entry["case"]);
        let close = |what: &str, got: &[f64]| {
            for (got, want) in got.iter().zip(numbers(&entry[what])) {
                assert!(
                    (got - want).abs() <= 4.0 * f64::EPSILON * (1.0 + want),
                    "{what}: {got} and not {want}"
                );
            }
        };
        case.samples::<f64, _>(|samples| {
            let mut duals = case.duals.clone();
            Feasible::new(0.5, 0.25)?.step(&samples, &mut duals)?;
            close("feasible", &duals);
            let mut duals = case.duals.clone();
            Resilient::new(0.5, 2.0, 0.25)?.step(&samples, &mut duals)?;
            close("resilient", &duals);
            let mut q = case.group_weights.clone();
            GroupDro::new(0.5)?.step(&samples, &mut q)?;
            close("group_dro", &q);
            Ok(())
        })
        .unwrap();
    }
}
