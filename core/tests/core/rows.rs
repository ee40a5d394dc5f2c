//! The row objectives: their gradients are differences of their losses, for everything in the list and for sums.

use crate::draw::{cases, objective, row, within};
use crate::golden::number;
use proptest::prelude::*;
use serde_json::Value;
use tokenloss_core::{
    AnyRow, Composite, Error, LabelSmoothing, MAX_PARAMETERS, MAX_TERMS, Nll, Objective, RowObjective,
    RowPartials, RowSummary, SpecError, Term, ZLoss, reference,
};

const STEP: f64 = 3e-4;

fn named(name: &'static str) -> BoxedStrategy<AnyRow> {
    let parameters = AnyRow::parameters_of(name).expect("a name of the list");
    let values: Vec<_> = parameters.iter().map(within).collect();
    values
        .prop_map(move |values| {
            let mut all = [0.0; MAX_PARAMETERS];
            all[..values.len()].copy_from_slice(&values);
            AnyRow::with_parameters(name, all).expect("a name of the list").expect("within the domain")
        })
        .boxed()
}

fn any_row() -> impl Strategy<Value = AnyRow> {
    proptest::sample::select(AnyRow::NAMES).prop_flat_map(named)
}

fn dlogits(objective: &impl RowObjective, z: &[f64], target: usize) -> Vec<f64> {
    let summary = reference::summarise(z, target).unwrap();
    let mut dlogits = vec![f64::NAN; z.len()];
    reference::push_back(z, target, &summary, objective.of_row(&summary).partials, &mut dlogits);
    dlogits
}

/// Every column against a difference of order 4, stop-gradient factors held; `false` where a threshold lies within
/// it.
fn gradient_is_difference(
    objective: &impl RowObjective,
    z: &[f64],
    target: usize,
) -> Result<bool, TestCaseError> {
    let frozen = reference::summarise(z, target).unwrap();
    let eval = objective.of_row(&frozen);
    // Of what the difference is made: its rounding is that of the terms, not of their sum.
    let size = eval.loss.abs() + frozen.stats.lse().abs() + frozen.stats.energy;
    for (j, d) in dlogits(objective, z, target).into_iter().enumerate() {
        if z[j] == f64::NEG_INFINITY {
            prop_assert_eq!(d, 0.0, "a masked column");
            continue;
        }
        let at = |steps: f64| {
            let mut z = z.to_vec();
            z[j] += steps * STEP;
            let live = reference::summarise(&z, target).unwrap();
            (objective.held_row(&frozen, &live), objective.of_row(&live).kept)
        };
        let [(a, ka), (b, kb), (c, kc), (e, ke)] = [at(1.0), at(-1.0), at(2.0), at(-2.0)];
        if [ka, kb, kc, ke] != [eval.kept; 4] {
            return Ok(false);
        }
        let want = (8.0 * (a - b) - (c - e)) / (12.0 * STEP);
        let RowPartials { d_target, d_lse, d_entropy, d_mean, d_energy } = eval.partials;
        let slopes = d_target.abs()
            + d_lse.abs()
            + d_entropy.abs()
            + d_mean.abs()
            + d_energy.abs() * (1.0 + z[j].abs());
        // Truncation as for token objectives; rounding is eps / STEP = 7e-13 of what the loss is made of.
        let tolerance = 5e-9 * slopes + 4e-12 * size * slopes.max(eval.loss.abs().min(1.0)) + 1e-12;
        prop_assert!(
            (d - want).abs() <= tolerance,
            "column {} of {:?}: {:e}, the difference is {:e}",
            j,
            z,
            d,
            want
        );
    }
    Ok(true)
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn the_gradient_is_that_of_the_loss(objective in any_row(), (z, target) in row()) {
        prop_assume!(z[target].is_finite());
        let compared = gradient_is_difference(&objective, &z, target)
            .map_err(|e| TestCaseError::fail(format!("{objective}: {e}")))?;
        prop_assume!(compared);
    }

    #[test]
    fn the_gradient_of_a_sum_is_that_of_its_loss(token in objective(), rows in prop::collection::vec(any_row(), 1..MAX_TERMS),
        (z, target) in row()) {
        prop_assume!(z[target].is_finite());
        let kinks = token_kinks(&token, &z, target);
        prop_assume!(!kinks);
        let mut sum = Composite::from(token);
        for row in rows {
            sum = sum.plus(row).unwrap();
        }
        let compared = gradient_is_difference(&sum, &z, target)
            .map_err(|e| TestCaseError::fail(format!("{sum}: {e}")))?;
        prop_assume!(compared);
        let text = sum.to_string();
        prop_assert_eq!(Composite::parse(&text), Ok(sum));
    }

    #[test]
    fn a_row_sums_to_its_partials(objective in any_row(), (z, target) in row()) {
        prop_assume!(z[target].is_finite());
        let summary = reference::summarise(&z, target).unwrap();
        let RowPartials { d_target, d_lse, d_mean, d_energy, .. } = objective.of_row(&summary).partials;
        let sum: f64 = dlogits(&objective, &z, target).iter().sum();
        let logits: f64 = z.iter().filter(|z| z.is_finite()).sum();
        let want = d_target + d_lse + d_mean + 2.0 * d_energy * logits;
        let size = d_target.abs() + d_lse.abs() + d_mean.abs() + d_energy.abs() * summary.stats.energy.max(1.0) * 8.0;
        prop_assert!((sum - want).abs() <= 60.0 * f64::EPSILON * size.max(1.0), "{objective}: {sum} and {want}");
    }

    /// In `f32` from statistics that are exact to an `f32`: only the objective's own operations round.
    #[test]
    fn f32_agrees_with_f64(objective in any_row(), (z, target) in row()) {
        prop_assume!(z[target].is_finite());
        let wide = reference::summarise(&z, target).unwrap();
        let single = narrow(&wide);
        let double = widen(&single);
        let (got, want) = (objective.of_row(&single), objective.of_row(&double));
        prop_assume!(got.kept == want.kept);
        let s = &double.stats;
        let depth = double.target.log_p.abs();
        // An exponent of log p rounds by as many half ulps; idft's exponent itself by phi / beta of them.
        let phi = depth + s.entropy();
        let ulp = f64::from(f32::EPSILON);
        let exponent = objective.parameters().into_iter().fold(1.0, |k: f64, p| k.max(f64::from(p.abs())).min(16.0));
        let unit = ulp * (16.0 + 4.0 * exponent + 2.0 * depth * (1.0 + 20.0 * phi));
        // Sums whose terms have both signs.
        let terms = depth + s.lse().abs() + s.max.abs() + s.tail.ln_1p().abs();
        let lambda = f64::from(objective.parameters()[0].abs()).max(1.0);
        let sum = match objective {
            AnyRow::ZLoss(_) | AnyRow::TargetL2(_) => {
                let gamma = f64::from(objective.parameters()[1].abs());
                4.0 * ulp * lambda * (terms + gamma) * (1.0 + terms + gamma)
            }
            // 1 + gamma log p passes through 0.
            AnyRow::Idft(_) => unit * (1.0 + 2.0 * depth) * (double.target.log_p * 0.1).exp(),
            _ => 0.0,
        };
        let close = |got: f32, want: f64| {
            (f64::from(got) - want).abs() <= unit * want.abs() + sum + f64::from(f32::MIN_POSITIVE)
        };
        prop_assert!(close(got.loss, want.loss), "{objective}: loss {} and {}", got.loss, want.loss);
        let (p, q) = (got.partials, want.partials);
        for (got, want) in [(p.d_target, q.d_target), (p.d_lse, q.d_lse), (p.d_entropy, q.d_entropy),
            (p.d_mean, q.d_mean), (p.d_energy, q.d_energy)] {
            prop_assert!(close(got, want), "{objective}: {got} and {want} at {double:?}");
        }
    }
}

fn token_kinks(objective: &Objective, z: &[f64], target: usize) -> bool {
    use tokenloss_core::TokenObjective;
    let target = reference::summarise(z, target).unwrap().target;
    (objective.kinks().into_iter().flatten().map(f64::from))
        .any(|kink| (target.p() - kink).abs() <= 4.0 * STEP * kink * (target.one_minus_p + 4.0 * STEP) + 2e-7)
}

macro_rules! convert {
    ($name:ident, $from:ty, $to:ty) => {
        fn $name(row: &RowSummary<$from>) -> RowSummary<$to> {
            use tokenloss_core::{RowStats, TargetProb};
            let RowStats { max, tail, moment, collision, spread, energy, count, argmax } = row.stats;
            let [max, tail, moment, collision, spread, energy] =
                [max, tail, moment, collision, spread, energy].map(|x| x as $to);
            let TargetProb { log_p, one_minus_p } = row.target;
            RowSummary {
                stats: RowStats { max, tail, moment, collision, spread, energy, count, argmax },
                target: TargetProb { log_p: log_p as $to, one_minus_p: one_minus_p as $to },
            }
        }
    };
}
convert!(narrow, f64, f32);
convert!(widen, f32, f64);

#[test]
fn extreme_rows_give_no_nan() {
    let rows = [
        vec![80.0, 0.0, -40.0],
        vec![-40.0, 80.0, 0.0],
        vec![3e38, -3e38, 0.0],
        vec![1e-30, 0.0, 0.0],
        vec![f64::NEG_INFINITY, 5.0, 1.0],
        vec![5.0, f64::NEG_INFINITY, f64::NEG_INFINITY],
        vec![0.0; 7],
    ];
    for name in AnyRow::NAMES {
        let parameters = AnyRow::parameters_of(name).unwrap();
        for end in 0..3 {
            let mut values = [0.0; MAX_PARAMETERS];
            for (value, parameter) in values.iter_mut().zip(parameters) {
                *value = [parameter.min, parameter.default, parameter.max][end];
            }
            let objective = AnyRow::with_parameters(name, values).unwrap().unwrap();
            for z in &rows {
                let eval = objective.of_row(&reference::summarise(z, 0).unwrap());
                assert!(!eval.loss.is_nan(), "{objective} on {z:?}");
                let dlogits = dlogits(&objective, z, 0);
                // The target of a masked column is pushed by whatever the loss says of it; all others have a number.
                assert!(dlogits[1..].iter().all(|d| !d.is_nan()), "{objective} on {z:?}: {dlogits:?}");
            }
        }
    }
}

#[test]
fn identities() {
    let rows = [vec![2.0, 0.0, -1.0, 0.5], vec![9.0, 0.0, -3.0, 1.0], vec![0.0, 4.0, f64::NEG_INFINITY, 1.0]];
    for z in rows {
        let row = reference::summarise(&z, 0).unwrap();
        let of = |spec: &str| Composite::parse(spec).unwrap().of_row(&row);
        let near = |a: f64, b: f64| assert!((a - b).abs() <= 1e-14 * (1.0 + a.abs()), "{a} and {b} on {z:?}");
        let nll = of("nll");
        for zero in [
            "label_smoothing:epsilon=0",
            "entropy_gated:alpha=0",
            "nll + entropy:lambda=0",
            "nll + z_loss:lambda=0",
        ] {
            near(of(zero).loss, nll.loss);
            assert_eq!(of(zero).partials, nll.partials, "{zero}");
        }
        // All of the mass on all classes alike: the mean of the nll of each.
        let classes: Vec<_> = (0..z.len()).filter(|j| z[*j].is_finite()).collect();
        let mean = |of: &dyn Fn(&RowSummary<f64>) -> f64| {
            classes.iter().map(|j| of(&reference::summarise(&z, *j).unwrap())).sum::<f64>()
                / classes.len() as f64
        };
        near(of("label_smoothing:epsilon=1").loss, mean(&|row| -row.target.log_p));
        near(
            of("label_smoothing:epsilon=0.25").loss,
            0.75 * nll.loss + 0.25 * of("label_smoothing:epsilon=1").loss,
        );
        near(of("z_loss:lambda=2").loss, 2.0 * row.stats.lse().powi(2));
        near(
            of("entropy:lambda=1").loss,
            (0..z.len())
                .filter(|j| z[*j].is_finite())
                .map(|j| {
                    let log_p = reference::summarise(&z, j).unwrap().target.log_p;
                    -log_p.exp() * log_p
                })
                .sum(),
        );
        near(of("reliable_entropy:share=1").loss, of("entropy:lambda=1").loss);
        near(of("logit_l2:lambda=2").loss, z.iter().filter(|z| z.is_finite()).map(|z| z * z).sum());
        near(of("target_l2:lambda=3,gamma=-1").loss, 3.0 * (z[0] + 1.0) * (z[0] + 1.0));
        near(
            row.stats.sum_p_squared(),
            (0..z.len())
                .map(|j| {
                    if z[j].is_finite() {
                        (2.0 * reference::summarise(&z, j).unwrap().target.log_p).exp()
                    } else {
                        0.0
                    }
                })
                .sum(),
        );
        // deft is the power with the row's own exponent; cayley at mean_p = 2 would be alpha = 1.
        let alpha = row.stats.sum_p_squared();
        near(of("deft").loss, (1.0 - (alpha * row.target.log_p).exp()) / alpha);
        near(of("cayley:mean_p=0").loss, {
            let p = row.target.p();
            let alpha: f64 = (p / (2.0 - p)).max(f64::from(0.001f32));
            (1.0 - p.powf(alpha)) / alpha
        });
        near(of("idft:lambda=0").loss, -row.target.p() * row.target.log_p);
    }
}

#[test]
fn specs() {
    let sum = Composite::parse("nll+z_loss:lambda=1e+0 + entropy:lambda=-1e-1").unwrap();
    assert_eq!(sum.to_string(), "nll + z_loss:lambda=1 + entropy:lambda=-0.1");
    assert_eq!(sum.terms().count(), 3);
    assert_eq!(sum.as_token(), None);
    assert_eq!(
        Composite::parse("OnlyTopLogP-0.2").unwrap().as_token(),
        Some(&Objective::parse("OnlyTopLogP-0.2").unwrap())
    );
    assert_eq!(Composite::parse("label_smoothing").unwrap(), LabelSmoothing::new(0.1).unwrap().into());
    assert_eq!(Composite::parse(" dft ").unwrap(), tokenloss_core::Dft.into());
    for (spec, error) in [
        ("", SpecError::UnknownTerm("")),
        ("nll +", SpecError::UnknownTerm("")),
        ("nll + nothing", SpecError::UnknownTerm("nothing")),
        ("z_loss:gamma=1", SpecError::Parameter { objective: "z_loss", parameter: "gamma" }),
        ("z_loss:lambda=x", SpecError::Value { parameter: "lambda", value: "x" }),
        ("nll + nll + nll + nll + nll", SpecError::Domain(Error::Terms { max: 4 })),
    ] {
        assert_eq!(Composite::parse(spec), Err(error), "{spec}");
    }
    let text = SpecError::UnknownTerm("x").to_string();
    assert!(text.contains("'x'") && text.contains("nll, ") && text.contains("label_smoothing, "), "{text}");
    let text = SpecError::Parameter { objective: "target_l2", parameter: "x" }.to_string();
    assert_eq!(text, "objective: target_l2 has no parameter 'x', expected lambda or gamma");
    assert_eq!(Error::Terms { max: 4 }.to_string(), "objective: more than the 4 terms that a sum holds");
    let full = (0..3).fold(Composite::from(Nll), |sum, _| sum.plus(ZLoss::new(0.0).unwrap()).unwrap());
    assert_eq!(full.plus(Nll), Err(Error::Terms { max: MAX_TERMS }));
    assert!(matches!(full.terms().next(), Some(Term::Token(_))));
}

#[test]
fn domains_end_where_they_are_declared_to() {
    for name in AnyRow::NAMES {
        let parameters = AnyRow::parameters_of(name).unwrap();
        for (at, parameter) in parameters.iter().enumerate() {
            let with = |value| {
                let mut values = [0.0; MAX_PARAMETERS];
                for (value, parameter) in values.iter_mut().zip(parameters) {
                    *value = parameter.default;
                }
                values[at] = value;
                AnyRow::with_parameters(name, values).unwrap()
            };
            assert!(with(parameter.min).is_ok() && with(parameter.max).is_ok());
            for bad in [parameter.min.next_down(), parameter.max.next_up(), f32::NAN] {
                assert!(matches!(with(bad), Err(Error::Parameter { .. })), "{name} with {bad}");
            }
        }
    }
}

#[test]
fn losses_and_gradients_agree_with_the_golden_vectors() {
    let golden: Value =
        serde_json::from_str(include_str!("../../golden/rows.json")).expect("the file is JSON");
    for name in AnyRow::NAMES {
        let entries =
            golden["rows"].as_array().unwrap().iter().filter(|entry| entry["objective"] == *name).count();
        assert!(entries > 0, "core/golden/rows.py knows no {name}; add its formula and run it");
    }
    for entry in golden["rows"].as_array().unwrap() {
        let mut values = [0.0; MAX_PARAMETERS];
        for (to, from) in values.iter_mut().zip(entry["parameters"].as_array().unwrap()) {
            *to = from.as_f64().unwrap() as f32;
        }
        let objective =
            AnyRow::with_parameters(entry["objective"].as_str().unwrap(), values).unwrap().unwrap();
        let z: Vec<f64> = entry["logits"].as_array().unwrap().iter().map(number).collect();
        let target = entry["target"].as_u64().unwrap() as usize;
        let row = reference::summarise(&z, target).unwrap();
        let (loss, want) = (objective.of_row(&row).loss, number(&entry["loss"]));
        // Differences to the maximum of up to 80 make relative errors of as many half ulps in every share.
        let unit = 200.0 * f64::EPSILON;
        let size = want.abs() + row.stats.lse().abs().powi(2) * f64::from(values[0].abs());
        assert!((loss - want).abs() <= unit * size, "{objective} on {z:?}: loss {loss} instead of {want}");
        let got = dlogits(&objective, &z, target);
        let wants: Vec<f64> = entry["dlogits"].as_array().unwrap().iter().map(number).collect();
        let norm: f64 = wants.iter().map(|d| d.abs()).sum();
        for (j, (got, want)) in got.iter().zip(&wants).enumerate() {
            // Entries that are sums of terms of both signs have the error of the terms.
            assert!(
                (got - want).abs() <= unit * (want.abs() + 0.05 * norm),
                "{objective} on {z:?}: dlogits[{j}] {got} instead of {want}"
            );
        }
    }
}
