//! Divergences: every one of the list, over its domain.

use crate::draw::cases;
use crate::golden::number;
use proptest::prelude::*;
use serde_json::Value;
use tokenloss_core::divergence::{
    Alpha, AnyDivergence, Distillation, Divergence, ForwardKl, JensenShannon, MixedKl, ReverseKl, SkewKl,
    SkewReverseKl, TotalVariation,
};
use tokenloss_core::reference::{self, Results};
use tokenloss_core::{
    Batch, Dft, Error, IGNORE_INDEX, MAX_PARAMETERS, Nll, NonFinite, Reduction, RowSummary, Shape, Totals,
    Unjudged,
};

const INF: f64 = f64::INFINITY;

fn listed(name: &str, values: &[f32]) -> AnyDivergence {
    let mut all = [0.0; MAX_PARAMETERS];
    all[..values.len()].copy_from_slice(values);
    AnyDivergence::with_parameters(name, all).expect("a name of the list").expect("within the domain")
}

/// Each of the list, with each parameter at the ends, the default and the middle of its domain.
fn sampled() -> Vec<AnyDivergence> {
    let mut all = Vec::new();
    for name in AnyDivergence::NAMES {
        let parameters = AnyDivergence::parameters_of(name).expect("listed");
        let defaults: Vec<_> = parameters.iter().map(|parameter| parameter.default).collect();
        all.push(listed(name, &defaults));
        for (i, parameter) in parameters.iter().enumerate() {
            for value in [parameter.min, (parameter.min + parameter.max) / 2.0, parameter.max] {
                let mut values = defaults.clone();
                values[i] = value;
                all.push(listed(name, &values));
            }
        }
    }
    all
}

fn value(divergence: &impl Divergence, temperature: f32, z: &[f64], u: &[f64]) -> f64 {
    reference::divergence(divergence, temperature, z, u).expect("a finite divergence").value
}

fn gradient(divergence: &impl Divergence, temperature: f32, z: &[f64], u: &[f64]) -> Vec<f64> {
    let sums = reference::divergence(divergence, temperature, z, u).expect("a finite divergence");
    let mut dlogits = vec![0.0; z.len()];
    let factor = 1.0 / f64::from(temperature);
    reference::push_back_divergence(divergence, temperature, z, u, &sums, factor, &mut dlogits)
        .expect("finite rows");
    dlogits
}

/// How far each divergence's terms may cancel: see their documentation.
fn condition(divergence: &AnyDivergence) -> f64 {
    match divergence {
        AnyDivergence::JensenShannon(_) | AnyDivergence::Alpha(_) => {
            let weight = f64::from(divergence.parameters()[0]);
            1.0 / weight.min(1.0 - weight)
        }
        AnyDivergence::SkewKl(_) | AnyDivergence::SkewReverseKl(_) => {
            (1.0 - f64::from(divergence.parameters()[0])).powi(-2)
        }
        _ => 1.0,
    }
}

/// Rows that are apart, close, confident, offset and masked alike.
fn rows() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    let pairs = |width: f64| prop::collection::vec((-width..width, -width..width), 2..12);
    prop_oneof![
        3 => pairs(5.0),
        1 => pairs(15.0),
        2 => (prop::collection::vec((-4.0f64..4.0, -1.0f64..1.0), 2..12), -6.0f64..0.0).prop_map(|(rows, e)| {
            let by = e.exp();
            rows.into_iter().map(|(z, apart)| (z, z + by * apart)).collect()
        }),
        1 => (pairs(5.0), -1000.0f64..1000.0).prop_map(|(rows, by)| rows.into_iter().map(|(z, u)| (z, u + by)).collect()),
        1 => pairs(5.0).prop_map(|mut rows| {
            rows[0] = (-INF, -INF);
            rows
        }),
    ]
    .prop_map(|rows| rows.into_iter().unzip())
}

const STEP: f64 = 3e-4;

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn gradients_are_finite_differences((z, u) in rows(), temperature in prop_oneof![Just(1.0f32), 0.5f32..4.0]) {
        for divergence in sampled() {
            // The only kinks there are.
            let entries: Vec<_> = reference::entries(temperature, &z, &u).unwrap().collect();
            if matches!(divergence, AnyDivergence::TotalVariation(_))
                && entries.iter().any(|entry| entry.log_ratio.abs() < 8.0 * STEP / f64::from(temperature)) {
                continue;
            }
            let got = gradient(&divergence, temperature, &z, &u);
            let scale: f64 = entries.iter().map(|entry| divergence.of_entry(entry).pull.abs()).sum();
            for j in 0..z.len() {
                if z[j] == -INF {
                    prop_assert_eq!(got[j], 0.0);
                    continue;
                }
                let at = |steps: f64| {
                    let mut z = z.clone();
                    z[j] += steps * STEP;
                    value(&divergence, temperature, &z, &u)
                };
                let want = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * STEP);
                // Truncation: STEP^4 / 30 of the fifth derivative. Rounding: that of z + h at an offset of 1000 is 1e-13 of a
                // logit, that of the value eps / STEP.
                let here = value(&divergence, temperature, &z, &u);
                let tolerance = 1e-8 * got[j].abs() + 1e-9 * (scale + here) / f64::from(temperature) + 2e-12;
                prop_assert!((got[j] - want).abs() <= tolerance,
                    "{divergence:?} at {temperature} of {z:?} and {u:?}: column {j} has {:e}, the difference is {want:e}", got[j]);
            }
            let sum: f64 = got.iter().sum();
            prop_assert!(sum.abs() <= 1e-12 * (scale + 1e-3), "{divergence:?}: the gradient adds up to {sum:e}");
        }
    }

    #[test]
    fn values_have_their_ranges_and_their_mirrors((z, u) in rows(), weight in 0.01f32..0.9) {
        let one = |divergence: AnyDivergence| (value(&divergence, 1.0, &z, &u), value(&divergence, 1.0, &u, &z));
        for divergence in sampled() {
            let (d, _) = one(divergence);
            let most = match divergence {
                AnyDivergence::TotalVariation(_) => 1.0,
                AnyDivergence::JensenShannon(_) => {
                    let beta = f64::from(divergence.parameters()[0]);
                    -beta * beta.ln() - (1.0 - beta) * (1.0 - beta).ln()
                }
                AnyDivergence::SkewKl(_) | AnyDivergence::SkewReverseKl(_) => -f64::from(divergence.parameters()[0]).ln(),
                AnyDivergence::Alpha(_) => {
                    let alpha = f64::from(divergence.parameters()[0]);
                    1.0 / (alpha * (1.0 - alpha))
                }
                _ => INF,
            };
            prop_assert!((0.0..=most * (1.0 + 1e-12)).contains(&d), "{divergence:?} is {d}, at most {most}");
        }
        // Exactly 1 - w in f32, where w is a multiple of 2^-8.
        let weight = (weight * 256.0).round().clamp(4.0, 230.0) / 256.0;
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-11 * b.abs() + 1e-300;
        let mirrored = [
            (listed("forward_kl", &[]), listed("reverse_kl", &[])),
            (listed("total_variation", &[]), listed("total_variation", &[])),
            (listed("jensen_shannon", &[weight]), listed("jensen_shannon", &[1.0 - weight])),
            (listed("skew_kl", &[weight]), listed("skew_reverse_kl", &[weight])),
            (listed("alpha", &[weight]), listed("alpha", &[1.0 - weight])),
            (listed("mixed_kl", &[weight]), listed("mixed_kl", &[1.0 - weight])),
        ];
        for (a, b) in mirrored {
            prop_assert!(near(one(a).0, one(b).1), "{a:?} and {b:?}: {} and {}", one(a).0, one(b).1);
        }
        for (mix, same) in [(0.0, "reverse_kl"), (1.0, "forward_kl")] {
            prop_assert_eq!(one(listed("mixed_kl", &[mix])).0, one(listed(same, &[])).0);
        }
    }

    /// Of rows that differ by `h`, every divergence is `h^2` times half a variance, up to its own second derivative.
    #[test]
    fn small_divergences_keep_their_relative_accuracy(
        z in prop::collection::vec(-4.0f64..4.0, 2..12), apart in prop::collection::vec(-1.0f64..1.0, 12), k in 20i32..40) {
        let by = 2f64.powi(-k);
        // Differences that are exact.
        let z: Vec<_> = z.iter().map(|z| (z * 1024.0).round() / 1024.0).collect();
        let apart: Vec<_> = apart.iter().map(|d| (d * 64.0).round() / 64.0).collect();
        let u: Vec<_> = z.iter().zip(&apart).map(|(z, d)| z + by * d).collect();
        let entries: Vec<_> = reference::entries(1.0, &z, &z).unwrap().collect();
        let mean: f64 = entries.iter().zip(&apart).map(|(entry, d)| entry.p() * d).sum();
        let variance: f64 = entries.iter().zip(&apart).map(|(entry, d)| entry.p() * (d - mean).powi(2)).sum();
        for divergence in sampled() {
            let parameter = f64::from(divergence.parameters()[0]);
            let second = match divergence {
                AnyDivergence::JensenShannon(_) => parameter * (1.0 - parameter),
                AnyDivergence::SkewKl(_) | AnyDivergence::SkewReverseKl(_) => (1.0 - parameter).powi(2),
                AnyDivergence::TotalVariation(_) => continue,
                _ => 1.0,
            };
            let (got, want) = (value(&divergence, 1.0, &z, &u), second * variance * by * by / 2.0);
            // What both normalisers round by is a shift that all log-ratios share, of which the square is left.
            prop_assert!((got - want).abs() <= (8.0 * by + 1e-12 * condition(&divergence)) * want + 64.0 * f64::EPSILON.powi(2),
                "{divergence:?} at 2^-{k}: {got:e} and {want:e}");
        }
    }

    #[test]
    fn the_same_rows_have_no_divergence_and_no_gradient((z, _) in rows(), temperature in 0.5f32..4.0) {
        for divergence in sampled() {
            prop_assert_eq!(value(&divergence, temperature, &z, &z), 0.0, "{:?}", divergence);
            prop_assert!(gradient(&divergence, temperature, &z, &z).iter().all(|d| *d == 0.0), "{divergence:?}");
        }
    }

    /// What a backend computes in is the same code in f32.
    #[test]
    fn f32_agrees_with_f64((z, u) in rows()) {
        let narrow = |row: &[f64]| row.iter().map(|z| *z as f32).collect::<Vec<_>>();
        let (z, u) = (narrow(&z), narrow(&u));
        let wide = |row: &[f32]| row.iter().map(|z| f64::from(*z)).collect::<Vec<_>>();
        for divergence in sampled() {
            let got = f64::from(reference::divergence(&divergence, 1.0, &z, &u).unwrap().value);
            let want = value(&divergence, 1.0, &wide(&z), &wide(&u));
            // A logarithm of up to 30 rounds by 2e-6, and so does a ratio's between rows that are 30 apart.
            let steep: f64 = reference::entries(1.0, &wide(&z), &wide(&u)).unwrap()
                .map(|entry| divergence.of_entry(&entry).pull.abs() + entry.difference().abs()).sum();
            prop_assert!((got - want).abs() <= 5e-6 * condition(&divergence) * want + 8e-6 * steep,
                "{divergence:?} of {z:?} and {u:?}: {got:e} and {want:e}");
        }
    }
}

#[test]
fn limits_of_the_weights() {
    let (z, u) = ([1.0, 0.5, -2.0, 0.0], [0.0, 2.0, -0.5, 1.0]);
    let of = |name, values: &[f32]| value(&listed(name, values), 1.0, &z, &u);
    let (forward, reverse) = (of("forward_kl", &[]), of("reverse_kl", &[]));
    let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 0.03, "{a} and {b}");
    near(of("jensen_shannon", &[0.01]) / f64::from(0.01f32), forward);
    near(of("jensen_shannon", &[0.99]) / (1.0 - f64::from(0.99f32)), reverse);
    near(of("skew_kl", &[0.001]), forward);
    near(of("skew_reverse_kl", &[0.001]), reverse);
    near(of("alpha", &[0.01]), forward);
    near(of("alpha", &[0.99]), reverse);
}

/// Rows as they hurt: what is finite stays finite, and what is not says where.
#[test]
fn extreme_rows() {
    let rows = [
        vec![80.0, 0.0, -1.0],
        vec![0.0, 80.0, -1.0],
        vec![1e30, 0.0, -1e30],
        vec![-1e30, 1e30, 0.0],
        vec![1e6, 1e6 - 0.5, 1e6 + 0.25],
        vec![0.0, 0.0, 0.0],
    ];
    for z in &rows {
        for u in &rows {
            for divergence in sampled() {
                let d = value(&divergence, 1.0, z, u);
                let dlogits = gradient(&divergence, 1.0, z, u);
                assert!(
                    d >= 0.0 && d.is_finite() && dlogits.iter().all(|d| d.is_finite()),
                    "{divergence:?} of {z:?} and {u:?}: {d}, {dlogits:?}"
                );
            }
        }
    }
}

#[test]
fn masks() {
    let (open, masked) = ([1.0, 0.25, 0.5, -2.0], [0.0, -INF, 2.0, -0.5]);
    for divergence in sampled() {
        let unbounded = |forward: bool| match divergence {
            AnyDivergence::ForwardKl(_) => forward,
            AnyDivergence::ReverseKl(_) => !forward,
            AnyDivergence::MixedKl(_) => divergence.parameters()[0] != f32::from(!forward),
            _ => false,
        };
        let narrow = |z: f64| z as f32;
        for (forward, z, u) in [(true, &masked, &open), (false, &open, &masked)] {
            let got = reference::divergence(&divergence, 1.0, z, u);
            if unbounded(forward) {
                let (student, teacher) = (narrow(z[1]), narrow(u[1]));
                assert_eq!(
                    got,
                    Err(Error::Support { row: 0, column: 1, student, teacher }),
                    "{divergence:?}"
                );
                continue;
            }
            let sums = got.expect("a finite divergence");
            let dlogits = gradient(&divergence, 1.0, z, u);
            assert!(
                sums.value.is_finite() && dlogits.iter().all(|d| d.is_finite()),
                "{divergence:?}: {sums:?}"
            );
            assert!(z[1] != -INF || dlogits[1] == 0.0, "{divergence:?}: the student's mask has {dlogits:?}");
            // A mask is the limit of a low logit.
            let low = |row: &[f64; 4]| row.map(|z| if z == -INF { -700.0 } else { z });
            let near = value(&divergence, 1.0, &low(z), &low(u));
            assert!((sums.value - near).abs() <= 1e-2 * near, "{divergence:?}: {} and {near}", sums.value);
        }
    }
}

fn evaluate(
    distillation: &Distillation<AnyDivergence>,
    batch: &Batch<'_>,
    z: &[f64],
    u: &[f64],
) -> (Result<Totals, Error>, Vec<f64>, Vec<f64>, Vec<f64>) {
    let rows = batch.shape().rows();
    let (mut losses, mut dlogits) = (vec![7.0; rows], vec![7.0; z.len()]);
    let mut divergences = vec![7.0; rows];
    let results =
        Results { losses: &mut losses, summaries: &mut vec![RowSummary::nan(); rows], dlogits: &mut dlogits };
    let totals = reference::evaluate_pair(
        &Nll,
        distillation,
        Reduction::default(),
        batch,
        z,
        u,
        &mut divergences,
        results,
    );
    (totals, losses, divergences, dlogits)
}

#[test]
fn faults_say_which_row_and_which_side() {
    let shape = Shape::new(3, 2).unwrap();
    let targets = [0, IGNORE_INDEX, 1];
    let batch = Batch::new(shape, &targets).unwrap();
    let distillation = Distillation::new(listed("forward_kl", &[]), 1.0).unwrap();
    let good = [1.0, 0.0, f64::NAN, f64::NAN, 0.0, 2.0];
    let with = |last: [f64; 2]| [good[0], good[1], good[2], good[3], last[0], last[1]];
    let says = |z: [f64; 6], u: [f64; 6], text: &str| {
        let (totals, losses, divergences, dlogits) = evaluate(&distillation, &batch, &z, &u);
        assert_eq!(totals.expect_err(text).to_string(), text);
        assert!(losses[2].is_nan() && divergences[2].is_nan() && dlogits[4..].iter().all(|d| d.is_nan()));
        assert!((losses[1], divergences[1]) == (0.0, 0.0) && dlogits[..4].iter().all(|d| d.is_finite()));
        let relaxed = batch.with_non_finite(NonFinite::NanRow);
        assert!(evaluate(&distillation, &relaxed, &z, &u).0.expect("no error").loss().is_nan());
    };
    let finite = "expected a finite number or -inf";
    let none = "is -inf in all 2 columns, so that no class has probability";
    says(with([0.0, INF]), good, &format!("logits: row 2, column 1 is inf, {finite}"));
    says(good, with([f64::NAN, 0.0]), &format!("teacher: row 2, column 0 is NaN, {finite}"));
    says(with([-INF, -INF]), good, &format!("logits: row 2 {none}"));
    says(good, with([-INF, -INF]), &format!("teacher: row 2 {none}"));
    says(
        with([-INF, 1.0]),
        good,
        "divergence: row 2 is infinite, because column 0 is -inf in logits and 0 in teacher",
    );
    assert!(evaluate(&distillation, &batch, &good, &good).0.is_ok());
}

#[test]
fn distillations_and_parameters_have_domains() {
    let kl = ForwardKl::new().unwrap();
    let says = |result: Result<Distillation<ForwardKl>, Error>, text: &str| {
        assert_eq!(result.expect_err(text).to_string(), text);
    };
    says(
        Distillation::new(kl, f32::NAN),
        "distillation: lambda = NaN lies outside its domain -1000000 to 1000000",
    );
    says(
        Distillation::new(kl, 1.0).unwrap().with_temperature(0.0),
        "distillation: temperature = 0 lies outside its domain 0.01 to 100",
    );
    says(
        Distillation::new(kl, 1.0).unwrap().with_objective_weight(-1.0),
        "distillation: objective_weight = -1 lies outside its domain 0 to 1000000",
    );
    for name in AnyDivergence::NAMES {
        for (i, parameter) in AnyDivergence::parameters_of(name).unwrap().iter().enumerate() {
            for bad in [parameter.min - 1.0, parameter.max + 1.0, f32::NAN] {
                let mut values = [0.5; MAX_PARAMETERS];
                values[i] = bad;
                let error = AnyDivergence::with_parameters(name, values).unwrap().unwrap_err();
                let (min, max) = (parameter.min, parameter.max);
                assert_eq!(
                    error.to_string(),
                    format!("{name}: {} = {bad} lies outside its domain {min} to {max}", parameter.name)
                );
            }
        }
    }
    assert!(AnyDivergence::with_parameters("hellinger", [0.0; MAX_PARAMETERS]).is_none());
    let all: [AnyDivergence; 8] = [
        ForwardKl::new().unwrap().into(),
        ReverseKl::new().unwrap().into(),
        MixedKl::new(0.5).unwrap().into(),
        JensenShannon::new(0.5).unwrap().into(),
        SkewKl::new(0.1).unwrap().into(),
        SkewReverseKl::new(0.1).unwrap().into(),
        Alpha::new(0.5).unwrap().into(),
        TotalVariation::new().unwrap().into(),
    ];
    assert_eq!(all.map(|divergence| divergence.name()), AnyDivergence::NAMES);
}

/// alpha CE + (1 - alpha) T^2 KL, and dft + lambda KL, from their parts.
#[test]
fn objective_and_divergence_add_up() {
    let (z, u) = ([1.0, 0.5, -2.0, 0.0], [0.0, 2.0, -0.5, 1.0]);
    let batch = Batch::new(Shape::new(1, 4).unwrap(), &[2]).unwrap();
    let weights = [0.5];
    let batch = batch.with_weights(&weights).unwrap();
    let kl = ForwardKl::new().unwrap();
    let distillation = Distillation::new(kl, 0.7)
        .unwrap()
        .with_objective_weight(0.3)
        .unwrap()
        .with_temperature(2.0)
        .unwrap()
        .with_square();
    let run = |dft: bool, alone: bool, distillation: &Distillation<ForwardKl>| {
        let (mut losses, mut divergences, mut dlogits) = ([0.0], [0.0], [0.0; 4]);
        let summaries = &mut [RowSummary::nan()];
        let results = Results { losses: &mut losses, summaries, dlogits: &mut dlogits };
        let (sum, d) = (Reduction::Sum, &mut divergences);
        let totals = match (alone, dft) {
            (true, _) => reference::evaluate_pair(&Unjudged, distillation, sum, &batch, &z, &u, d, results),
            (_, true) => reference::evaluate_pair(&Dft, distillation, sum, &batch, &z, &u, d, results),
            (_, false) => reference::evaluate_pair(&Nll, distillation, sum, &batch, &z, &u, d, results),
        };
        (totals.unwrap(), losses[0], divergences[0], dlogits)
    };
    let softmax = |z: &[f64], t: f64| {
        let mass: f64 = z.iter().map(|z| (z / t).exp()).sum();
        z.iter().map(|z| (z / t).exp() / mass).collect::<Vec<_>>()
    };
    let (p, tempered, q) = (softmax(&z, 1.0), softmax(&z, 2.0), softmax(&u, 2.0));
    let (a, b) = (f64::from(0.3f32), f64::from(0.7f32));
    let kl_value: f64 = q.iter().zip(&tempered).map(|(q, p)| q * (q / p).ln()).sum();
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-13, "{a} and {b}");
    let (totals, loss, divergence, dlogits) = run(false, false, &distillation);
    near(divergence, kl_value);
    near(loss, -a * p[2].ln() + 4.0 * b * kl_value);
    near(totals.loss(), 0.5 * loss);
    for j in 0..4 {
        let ce = p[j] - f64::from(u8::from(j == 2));
        near(dlogits[j], 0.5 * (a * ce + 2.0 * b * (tempered[j] - q[j])));
    }
    let anchor = Distillation::new(kl, 0.1).unwrap();
    let (_, loss, divergence, dlogits) = run(true, false, &anchor);
    near(loss, -p[2] * p[2].ln() + f64::from(0.1f32) * divergence);
    let q = softmax(&u, 1.0);
    for j in 0..4 {
        let dft = p[2] * (p[j] - f64::from(u8::from(j == 2)));
        near(dlogits[j], 0.5 * (dft + f64::from(0.1f32) * (p[j] - q[j])));
    }
    let (_, loss, divergence, _) = run(false, true, &anchor);
    near(loss, f64::from(0.1f32) * divergence);
}

#[test]
fn values_and_gradients_agree_with_the_golden_vectors() {
    let golden: Value =
        serde_json::from_str(include_str!("../../golden/divergences.json")).expect("the file is JSON");
    let entries = golden["divergences"].as_array().unwrap();
    for name in AnyDivergence::NAMES {
        assert!(
            entries.iter().any(|entry| entry["divergence"] == *name),
            "core/golden/divergences.py knows no {name}; add its formula and run it"
        );
    }
    let mut worst = (0.0f64, 0.0f64);
    for entry in entries {
        let values: Vec<_> =
            entry["parameters"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
        let divergence = listed(entry["divergence"].as_str().unwrap(), &values);
        for case in entry["cases"].as_array().unwrap() {
            let row = |key: &str| case[key].as_array().unwrap().iter().map(number).collect::<Vec<_>>();
            let (z, u, dlogits) = (row("logits"), row("teacher"), row("dlogits"));
            let temperature = case["temperature"].as_f64().unwrap() as f32;
            // A difference of two logits rounds by half an ulp of it; a gradient is one of two terms of the size of its pull.
            let unit = f64::EPSILON * condition(&divergence);
            let got = value(&divergence, temperature, &z, &u);
            let want = number(&case["value"]);
            // What is linear in the log-ratios sees the rounding of both normalisers.
            let linear = if matches!(divergence, AnyDivergence::TotalVariation(_)) { 1.0 } else { 0.0 };
            let off = (got - want).abs() / (want + linear) / unit;
            worst.0 = worst.0.max(off);
            assert!(off < 100.0, "{divergence:?}, {}: {got:e} is off by {off:.1} units", case["name"]);
            let sums = reference::divergence(&divergence, temperature, &z, &u).unwrap();
            let entries = reference::entries(temperature, &z, &u).unwrap();
            for ((got, want), entry) in
                gradient(&divergence, temperature, &z, &u).iter().zip(dlogits).zip(entries)
            {
                // A log-ratio is the difference of numbers of the size of 1.
                let scale =
                    divergence.of_entry(&entry).pull.abs() + (entry.p() * sums.pull).abs() + entry.greater;
                let off = (got - want).abs() / (scale / f64::from(temperature) * unit + 1e-300);
                worst.1 = worst.1.max(off);
                assert!(off < 100.0, "{divergence:?}, {}: {got:e}, expected {want:e}", case["name"]);
            }
        }
    }
    println!(
        "divergences: worst value {:.1}, worst gradient {:.1} units of the last place",
        worst.0, worst.1
    );
}
