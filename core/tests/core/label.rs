//! Label objectives: every one of the list, over its domain.

use crate::draw::{cases, settings};
use crate::golden::number;
use proptest::prelude::*;
use serde_json::Value;
use tokenloss_core::label::{AnyLabel, Class, ClassLink, LabelObjective};
use tokenloss_core::reference;
use tokenloss_core::{Error, Labels, MAX_PARAMETERS, Nll, Power, RowObjective, Shape};

const INF: f64 = f64::INFINITY;

fn listed(name: &str, values: &[f32]) -> AnyLabel {
    let mut all = [0.0; MAX_PARAMETERS];
    all[..values.len()].copy_from_slice(values);
    AnyLabel::with_parameters(name, all).expect("a name of the list").expect("within the domain")
}

/// Each of the list, over its parameters' domains.
fn sampled() -> Vec<AnyLabel> {
    let of = |name: &&'static str| {
        let settings = settings(AnyLabel::parameters_of(name).expect("listed"));
        settings.into_iter().map(|values| listed(name, &values)).collect::<Vec<_>>()
    };
    AnyLabel::NAMES.iter().flat_map(of).collect()
}

fn is_bounded(objective: &AnyLabel) -> bool {
    objective.domain() == [0.0, 1.0]
}

fn row(objective: &AnyLabel, z: &[f64], labels: &[f64]) -> (f64, Vec<f64>) {
    let mut dlogits = vec![7.0; z.len()];
    let loss =
        reference::labels(objective, z, labels, None, 1.0, &mut dlogits).expect("a row without faults");
    (loss, dlogits)
}

fn classes(objective: &AnyLabel, z: &[f64]) -> Vec<Class<f64>> {
    reference::classes(objective.link(), z).expect("finite").collect()
}

/// Logits and labels from 0 to 1, of which many are 0 or 1.
fn rows() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    let label = prop_oneof![2 => Just(0.0), 1 => Just(1.0), 2 => 0.0f64..=1.0];
    let logit = prop_oneof![4 => -5.0f64..5.0, 1 => -30.0f64..30.0];
    prop::collection::vec((logit, label), 2..8).prop_map(|row| row.into_iter().unzip())
}

const STEP: f64 = 3e-4;

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn gradients_are_finite_differences((z, labels) in rows(), spread in -3.0f64..3.0) {
        for objective in sampled() {
            let labels: Vec<_> = if is_bounded(&objective) { labels.clone() } else { labels.iter().map(|t| t * spread).collect() };
            let frozen = classes(&objective, &z);
            let near_a_kink = frozen.iter().zip(&labels).any(|(class, t)| objective.to_kink(class, *t) < 8.0 * STEP);
            if near_a_kink {
                continue;
            }
            let (loss, got) = row(&objective, &z, &labels);
            let held = |z: &[f64]| -> f64 {
                let live = classes(&objective, z);
                frozen.iter().zip(&live).zip(&labels).map(|((frozen, live), t)| objective.held(frozen, live, *t)).sum()
            };
            let size: f64 = frozen.iter().zip(&labels).map(|(class, t)| objective.of_class(class, *t).pull.abs()).sum();
            prop_assert!((held(&z) - loss).abs() <= 1e-14 * (loss.abs() + size), "{objective:?}: what is held is not the value");
            for j in 0..z.len() {
                let at = |steps: f64| {
                    let mut z = z.clone();
                    z[j] += steps * STEP;
                    held(&z)
                };
                let want = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * STEP);
                // Truncation: STEP^4 / 30 of the fifth derivative, which for a power of 17 is up to 17^5 of a pull; rounding:
                // that of the value over the step.
                let tolerance = 1e-8 * got[j].abs() + 1e-9 * (size + loss.abs()) + 1e-12;
                prop_assert!((got[j] - want).abs() <= tolerance,
                    "{objective:?} of {z:?} and {labels:?}: column {j} has {:e}, the difference is {want:e}", got[j]);
            }
            if objective.link() == ClassLink::Softmax {
                let sum: f64 = got.iter().sum();
                prop_assert!(sum.abs() <= 1e-14 * (size + 1e-3), "{objective:?}: the gradient adds up to {sum:e}");
            }
        }
    }

    /// What a backend computes in is the same code in f32.
    #[test]
    fn f32_agrees_with_f64((z, labels) in rows()) {
        let narrow = |row: &[f64]| row.iter().map(|z| *z as f32).collect::<Vec<_>>();
        let wide = |row: &[f32]| row.iter().map(|z| f64::from(*z)).collect::<Vec<_>>();
        let (z, labels) = (narrow(&z), narrow(&labels));
        for objective in sampled() {
            let mut dlogits = vec![0.0; z.len()];
            let got = reference::labels(&objective, &z, &labels, None, 1.0, &mut dlogits).unwrap();
            let (wide_z, wide_labels) = (wide(&z), wide(&labels));
            let (want, wanted) = row(&objective, &wide_z, &wide_labels);
            let classes = classes(&objective, &wide_z);
            let parts: Vec<_> = classes.iter().zip(&wide_labels).map(|(class, t)| objective.of_class(class, *t)).collect();
            // A logarithm of up to 60 rounds by 4e-6, and so, times the exponent, does a power.
            let exponent = objective.parameters().into_iter().fold(1.0f64, |k, p| k.max(f64::from(p.abs())));
            let unit = 8e-6 * exponent.min(17.0);
            let value: f64 = parts.iter().map(|part| part.value.abs()).sum();
            let pull: f64 = parts.iter().map(|part| part.pull.abs()).sum();
            // Next to a margin what is left of a probability is a difference.
            let near = |j: usize| (1e-7 / objective.to_kink(&classes[j], wide_labels[j])).min(1.0) * exponent;
            let kink: f64 = (0..z.len()).map(near).sum();
            prop_assert!((f64::from(got) - want).abs() <= unit * (value + pull) + kink * (value + pull) + 1e-30,
                "{objective:?} of {z:?} and {labels:?}: {got:e} and {want:e}");
            for j in 0..z.len() {
                let scale = parts[j].pull.abs() + if objective.link() == ClassLink::Softmax { pull } else { 0.0 };
                prop_assert!((f64::from(dlogits[j]) - wanted[j]).abs() <= (unit + near(j)) * (scale + parts[j].value.abs()) + 1e-30,
                    "{objective:?} of {z:?} and {labels:?}, column {j}: {:e} and {:e}", dlogits[j], wanted[j]);
            }
        }
    }
}

/// One label of 1 is the objective of a target.
#[test]
fn one_hot_labels_are_targets() {
    for (z, target) in [([0.5, -1.0, 2.0, 0.0], 3), ([40.0, 0.0, -1.0, 3.0], 0), ([40.0, 0.0, -1.0, 3.0], 2)]
    {
        let mut labels = [0.0; 4];
        labels[target] = 1.0;
        let check = |label: AnyLabel, objective: &dyn Fn(&tokenloss_core::RowSummary<f64>) -> tokenloss_core::RowEval<f64>| {
            let summary = reference::summarise(&z, target).unwrap();
            let eval = objective(&summary);
            let mut dlogits = [0.0; 4];
            reference::push_back(&z, target, &summary, eval.partials, &mut dlogits);
            let (loss, got) = row(&label, &z, &labels);
            assert!((loss - eval.loss).abs() <= 4e-15 * eval.loss, "{label:?}: {loss:e} and {:e}", eval.loss);
            for (got, want) in got.iter().zip(dlogits) {
                assert!((got - want).abs() <= 2e-14 * want.abs(), "{label:?} of {z:?}: {got:e} and {want:e}");
            }
        };
        check(listed("soft_targets", &[]), &|row| Nll.of_row(row));
        for alpha in [0.5, 1.0, 4.0] {
            check(listed("soft_power", &[alpha]), &|row| Power::new(alpha).unwrap().of_row(row));
        }
    }
}

#[test]
fn identities() {
    let (z, labels) = ([0.5, -1.0, 2.0, 0.25], [0.0, 1.0, 0.25, 0.75]);
    let same = |a: (f64, Vec<f64>), b: (f64, Vec<f64>), factor: f64| {
        assert!((a.0 - factor * b.0).abs() <= 1e-14 * a.0.abs(), "{} and {}", a.0, factor * b.0);
        for (a, b) in a.1.iter().zip(b.1) {
            assert!((a - factor * b).abs() <= 1e-14, "{a} and {}", factor * b);
        }
    };
    let nll = || row(&listed("binary_nll", &[1.0]), &z, &labels);
    same(row(&listed("binary_focal", &[0.5, 0.0]), &z, &labels), nll(), 0.5);
    same(row(&listed("asymmetric_focal", &[0.0, 0.0, 0.0]), &z, &labels), nll(), 1.0);
    let on_off = [0.0, 1.0, 0.0, 1.0];
    // Of labels of 0 and 1 the distance from the label is what is left of the probability.
    let focal = row(&listed("binary_focal", &[0.25, 2.0]), &z, &on_off);
    same(row(&listed("quality_focal", &[0.25, 2.0]), &z, &on_off), focal, 1.0);
    // A power of 0.001 is nearly the logarithm.
    let (soft, power) =
        (row(&listed("soft_targets", &[]), &z, &labels), row(&listed("soft_power", &[0.001]), &z, &labels));
    assert!((soft.0 / power.0 - 1.0).abs() < 5e-3);
    // Every cost the same: nothing to learn.
    let (loss, d) = row(&listed("expected_cost", &[]), &z, &[3.0; 4]);
    assert!((loss - 3.0).abs() < 1e-15 && d.iter().all(|d| d.abs() < 1e-15));
    // A class that is easy enough is not counted.
    let (loss, d) = row(&listed("asymmetric_focal", &[0.0, 4.0, 0.5]), &[-0.1, -3.0], &[0.0, 0.0]);
    assert_eq!((loss, d), (0.0, vec![0.0, 0.0]));
}

/// Losses that are sums of terms of one sign stay so, gradients of on and off point their ways.
#[test]
fn signs() {
    for objective in sampled().into_iter().filter(|objective| objective.link() == ClassLink::Sigmoid) {
        for z in [-90.0, -20.0, -1.0, 0.0, 0.3, 15.0, 90.0] {
            let (loss, d) = row(&objective, &[z], &[1.0]);
            assert!(loss >= 0.0 && d[0] <= 0.0, "{objective:?} at {z}: {loss}, {d:?}");
            let (loss, d) = row(&objective, &[z], &[0.0]);
            assert!(loss >= 0.0 && d[0] >= 0.0, "{objective:?} at {z}: {loss}, {d:?}");
        }
    }
}

/// Rows as they hurt: finite, and accurate where a probability is next to 0 or 1.
#[test]
fn extremes() {
    for objective in sampled() {
        for z in [vec![1e30, -1e30, 0.0], vec![-INF, 700.0, -700.0], vec![1e6, 1e6 - 0.5, 1e6 + 0.25]] {
            for labels in [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.25, 1.0]] {
                let (loss, d) = row(&objective, &z, &labels);
                assert!(
                    loss.is_finite() && d.iter().all(|d| d.is_finite()),
                    "{objective:?} of {z:?}: {loss}, {d:?}"
                );
            }
        }
    }
    // exp(-50) and not 0.
    let (loss, d) = row(&listed("binary_nll", &[1.0]), &[50.0, -50.0], &[1.0, 0.0]);
    let tiny = (-50f64).exp();
    assert!(
        (loss / (2.0 * tiny) - 1.0).abs() < 1e-14
            && (d[0] / -tiny - 1.0).abs() < 1e-14
            && (d[1] / tiny - 1.0).abs() < 1e-14
    );
    let (loss, d) = row(&listed("soft_targets", &[]), &[50.0, 0.0], &[1.0, 0.0]);
    assert!((loss / tiny - 1.0).abs() < 1e-14 && (d[0] / -tiny - 1.0).abs() < 1e-14 && d[1] == -d[0]);
}

#[test]
fn faults_name_the_label() {
    let mut dlogits = [0.0; 3];
    let mut says = |objective: AnyLabel, z: [f64; 3], labels: [f64; 3], text: &str| {
        let got = reference::labels(&objective, &z, &labels, None, 1.0, &mut dlogits);
        assert_eq!(got.expect_err(text).to_string(), text);
    };
    let z = [0.0, 1.0, -INF];
    for name in AnyLabel::NAMES {
        let objective = listed(
            name,
            &AnyLabel::parameters_of(name).unwrap().iter().map(|p| p.default).collect::<Vec<_>>(),
        );
        let [min, max] = objective.domain();
        let expected = format!("expected {min} to {max} there");
        says(objective, z, [0.0, f64::NAN, 0.0], &format!("labels: row 0, column 1 is NaN, {expected}"));
        says(objective, z, [INF, 0.0, 0.0], &format!("labels: row 0, column 0 is inf, {expected}"));
        if is_bounded(&objective) {
            says(objective, z, [0.0, 0.0, -0.5], &format!("labels: row 0, column 2 is -0.5, {expected}"));
            says(objective, z, [0.0, 1.5, 0.0], &format!("labels: row 0, column 1 is 1.5, {expected}"));
        }
        let bad = [0.0, INF, 0.0];
        says(objective, bad, [0.0; 3], "logits: row 0, column 1 is inf, expected a finite number or -inf");
    }
    for name in ["soft_targets", "binary_nll"] {
        let objective = listed(name, &[1.0]);
        says(objective, z, [0.0, 0.0, 0.5], "labels: row 0, column 2 is 0.5, expected 0 to 0 there");
    }
    let none = "logits: row 0 is -inf in all 3 columns, so that no class has probability";
    says(listed("soft_targets", &[]), [-INF; 3], [0.0; 3], none);
    // Each class for itself: none of them is on, and so they should be.
    assert_eq!(row(&listed("binary_nll", &[1.0]), &[-INF; 3], &[0.0; 3]), (0.0, vec![0.0; 3]));
}

#[test]
fn labels_and_weights_are_checked() {
    let shape = Shape::new(2, 3).unwrap().with_stride(4).unwrap();
    let says = |result: Result<(), Error>, text: &str| assert_eq!(result.expect_err(text).to_string(), text);
    says(Labels::new(shape, &[0.0f32; 7]).map(|_| ()), "labels: expected 8 values, got 7");
    let labels = Labels::new(shape, &[0.0f32; 8]).unwrap();
    says(labels.with_class_weights(&[1.0; 2]).map(|_| ()), "class_weights: expected 3 values, got 2");
    for (bad, text) in [(-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let result = labels.with_class_weights(&[1.0, bad, 1.0]).map(|_| ());
        says(result, &format!("class_weights: value 1 is {text}, expected a finite number of at least 0"));
    }
    says(labels.check(Shape::new(3, 3).unwrap()), "label rows: expected 3 values, got 2");
    says(labels.check(Shape::new(2, 4).unwrap()), "label vocab: expected 4 values, got 3");
    assert_eq!(labels.check(Shape::new(2, 3).unwrap()), Ok(()));
    for name in AnyLabel::NAMES {
        for (i, parameter) in AnyLabel::parameters_of(name).unwrap().iter().enumerate() {
            for bad in [parameter.min - 1.0, parameter.max + 1.0, f32::NAN] {
                let mut values = [0.0; MAX_PARAMETERS];
                for (value, parameter) in values.iter_mut().zip(AnyLabel::parameters_of(name).unwrap()) {
                    *value = parameter.default;
                }
                values[i] = bad;
                let error = AnyLabel::with_parameters(name, values).unwrap().unwrap_err();
                let (min, max) = (parameter.min, parameter.max);
                assert_eq!(
                    error.to_string(),
                    format!("{name}: {} = {bad} lies outside its domain {min} to {max}", parameter.name)
                );
            }
        }
    }
}

#[test]
fn values_and_gradients_agree_with_the_golden_vectors() {
    let golden: Value =
        serde_json::from_str(include_str!("../../golden/labels.json")).expect("the file is JSON");
    let entries = golden["labels"].as_array().unwrap();
    for name in AnyLabel::NAMES {
        assert!(
            entries.iter().any(|entry| entry["objective"] == *name),
            "core/golden/labels.py knows no {name}; add its formula and run it"
        );
    }
    let mut worst = (0.0f64, 0.0f64);
    for entry in entries {
        let values: Vec<_> =
            entry["parameters"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
        let objective = listed(entry["objective"].as_str().unwrap(), &values);
        for case in entry["cases"].as_array().unwrap() {
            let numbers = |key: &str| -> Option<Vec<f64>> {
                case[key].as_array().map(|all| all.iter().map(number).collect())
            };
            let (z, labels, want) =
                (numbers("logits").unwrap(), numbers("labels").unwrap(), numbers("dlogits").unwrap());
            let weights = numbers("weights");
            let is_one_hot = labels.iter().filter(|t| **t == 1.0).count() == 1
                && labels.iter().all(|t| *t == 0.0 || *t == 1.0)
                && objective.link() == ClassLink::Softmax;
            let mut got = vec![0.0; z.len()];
            let loss = reference::labels(&objective, &z, &labels, weights.as_deref(), 1.0, &mut got).unwrap();
            let parts: Vec<_> = classes(&objective, &z)
                .iter()
                .zip(&labels)
                .map(|(class, t)| objective.of_class(class, *t))
                .collect();
            let size: f64 = parts.iter().map(|part| part.value.abs() + part.pull.abs()).sum();
            // A power turns the rounding of a logarithm, of up to 40 here, into a relative error that many times.
            let exponent =
                objective.parameters().into_iter().fold(1.0, |k: f64, p| k.max(f64::from(p.abs())));
            let unit = f64::EPSILON * (4.0 + exponent.min(17.0));
            let off = (loss - number(&case["value"])).abs() / (size * unit + 1e-300);
            worst.0 = worst.0.max(off);
            assert!(off < 60.0, "{objective:?}, {}: {loss:e} is off by {off:.1} units", case["name"]);
            for j in 0..z.len() {
                let own = parts[j].pull.abs() + parts[j].value.abs();
                let scale = if objective.link() == ClassLink::Softmax { size } else { own };
                // Of a row with one label of 1 the gradient itself is the scale.
                let scale = if is_one_hot { scale.min(64.0 * want[j].abs()) } else { scale };
                let off = (got[j] - want[j]).abs() / (scale * unit + 1e-300);
                worst.1 = worst.1.max(off);
                assert!(
                    off < 60.0,
                    "{objective:?}, {}, column {j}: {:e}, expected {:e}",
                    case["name"],
                    got[j],
                    want[j]
                );
            }
        }
    }
    println!("labels: worst value {:.1}, worst gradient {:.1} units of the last place", worst.0, worst.1);
}
