//! Golden vectors of `core/golden/make.py`, which knows the formulas and nothing of ours.

use serde_json::Value;
use tokenloss_core::{AnyToken, MAX_PARAMETERS, RowObjective, TokenObjective, reference};

fn golden() -> Value {
    serde_json::from_str(include_str!("../../golden/objectives.json")).expect("the file is JSON")
}

/// Numbers are texts, so that their rounding is ours and not a JSON parser's.
pub(crate) fn number(value: &Value) -> f64 {
    value.as_str().expect("a text").parse().expect("a number")
}

fn objective(entry: &Value) -> AnyToken {
    let name = entry["objective"].as_str().unwrap();
    let mut values = [0.0; MAX_PARAMETERS];
    for (to, from) in values.iter_mut().zip(entry["parameters"].as_array().unwrap()) {
        *to = from.as_f64().unwrap() as f32;
    }
    AnyToken::with_parameters(name, values).unwrap_or_else(|| panic!("{name} is not listed")).unwrap()
}

/// Roundings that an evaluation may be off by, to first order. `exp(k log_p)` turns the rounding of its
/// argument into a relative error of `k |log_p|` half-ulps, `(1 - p)^k` that of its base into `k`; the rest is
/// a handful of operations of at most one ulp each.
fn roundings(objective: AnyToken, log_p: f64) -> f64 {
    let exponent = objective.parameters().into_iter().fold(1.0, |k: f64, p| k.max(f64::from(p.abs())));
    f64::EPSILON * (8.0 + exponent * (4.0 + log_p.abs()))
}

#[test]
fn every_listed_objective_has_golden_vectors() {
    let golden = golden();
    for name in AnyToken::NAMES {
        let entries = golden["tokens"].as_array().unwrap().iter().filter(|e| e["objective"] == *name).count();
        assert!(entries > 0, "core/golden/make.py knows no {name}; add its formula and run it");
    }
}

#[test]
fn values_and_slopes_agree_with_the_golden_vectors() {
    let (mut points, mut worst) = (0, 0.0f64);
    for entry in golden()["tokens"].as_array().unwrap() {
        let objective = objective(entry);
        for point in entry["points"].as_array().unwrap() {
            let (log_p, loss, slope) = (number(&point[0]), number(&point[1]), number(&point[2]));
            let eval = objective.of_log_p(log_p);
            let unit = roundings(objective, log_p);
            // p comes with a relative error where it is small and 1 - p where that is: the loss moves by the
            // slope times it. This matters only where a loss crosses 0, which unlikelihood does at p = eps.
            let odds = (-log_p.exp_m1() / log_p.exp()).min(1.0);
            let scale = loss.abs() + slope.abs() * odds;
            assert!(
                (eval.loss - loss).abs() <= unit * scale,
                "{objective} at {log_p}: loss {} instead of {loss}",
                eval.loss
            );
            assert!(
                (eval.slope - slope).abs() <= unit * slope.abs(),
                "{objective} at {log_p}: slope {} instead of {slope}",
                eval.slope
            );
            if log_p > -10.0 {
                worst = worst.max((eval.slope / slope - 1.0).abs()).max((eval.loss - loss).abs() / scale);
            }
            points += 1;
        }
    }
    assert!(points > 500, "only {points} points");
    // What the bound above amounts to on tokens that are not hopeless: measured 1.2e-15.
    assert!(worst < 3e-15, "worst relative error {worst:e}");
}

#[test]
fn whole_rows_agree_with_the_golden_vectors() {
    for row in golden()["rows"].as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        let logits: Vec<f64> = row["logits"].as_array().unwrap().iter().map(number).collect();
        let target = row["target"].as_u64().unwrap() as usize;
        let summary = reference::summarise(&logits, target).unwrap();
        // `z - max` is rounded once, and `exp` makes its absolute error a relative one of every share; then a
        // sum of `vocab` terms of one sign, and a few operations.
        let low = logits.iter().copied().filter(|z| z.is_finite()).fold(summary.stats.max, f64::min);
        let unit = f64::EPSILON * (8.0 + logits.len() as f64 + (summary.stats.max - low));
        let close = |what: &str, got: f64, want: f64, scale: f64| {
            assert!((got - want).abs() <= unit * scale, "{name}: {what} is {got} instead of {want}");
        };
        let of = |key: &str| number(&row[key]);
        close("log_p", summary.target.log_p, of("log_p"), of("log_p").abs());
        close("1 - p", summary.target.one_minus_p, of("one_minus_p"), of("one_minus_p"));
        close("lse", summary.stats.lse(), of("lse"), of("lse").abs());
        close("entropy", summary.stats.entropy(), of("entropy"), of("entropy"));
        for entry in row["gradients"].as_array().unwrap() {
            let objective = objective(entry);
            let mut dlogits = vec![f64::NAN; logits.len()];
            let eval = objective.of_row(&summary);
            reference::push_back(&logits, target, &summary, eval.partials, &mut dlogits);
            // The slope's own condition comes on top; the row's log_p has the error of the summary.
            let condition = 1.0 + roundings(objective, summary.target.log_p) / f64::EPSILON;
            for (j, want) in entry["dlogits"].as_array().unwrap().iter().map(number).enumerate() {
                close(&format!("{objective} dlogits[{j}]"), dlogits[j], want, condition * want.abs());
            }
        }
    }
}
