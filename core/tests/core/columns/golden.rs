//! Golden vectors of `core/golden/columns.py`, which knows the formulas and nothing of ours.

use super::draw::{self, Visit};
use super::{Drawn, evaluate};
use crate::golden::number;
use serde_json::Value;
use tokenloss_core::columns::{ColumnObjective, Eaft, SideKind};
use tokenloss_core::{MAX_PARAMETERS, for_each_objective};

fn golden() -> Value {
    serde_json::from_str(include_str!("../../../golden/columns.json")).expect("the file is JSON")
}

fn entries(kind: &str) -> Vec<Value> {
    golden()[kind].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn parameters(entry: &Value) -> [f32; MAX_PARAMETERS] {
    let mut values = [0.0; MAX_PARAMETERS];
    for (to, from) in values.iter_mut().zip(entry["parameters"].as_array().unwrap()) {
        *to = from.as_f64().unwrap() as f32;
    }
    values
}

macro_rules! weight_names {
    ($($module:ident $type:ident { $($rest:tt)* } $source:literal)*) => { &[$(stringify!($module)),*] };
}
const WEIGHTS: &[&str] = for_each_objective!(column_weights, weight_names);

#[test]
fn everything_listed_has_golden_vectors() {
    for (kind, names) in [("columns", draw::NAMES), ("column_weights", WEIGHTS)] {
        for name in names {
            let there = entries(kind).iter().filter(|e| e["objective"] == **name).count();
            assert!(there > 0, "core/golden/columns.py knows no {name}; add its formula and run it");
        }
    }
}

/// The worst error, in units of what is granted.
struct Compare {
    entry: Value,
    worst: f64,
}

impl Visit for Compare {
    fn visit<O: ColumnObjective>(&mut self, name: &str, objective: &O) {
        let drawn = Drawn { classes: numbers(&self.entry["classes"]), sides: numbers(&self.entry["sides"]) };
        let (loss, d) = evaluate(objective, &drawn);
        // Logits are exact here, and so are their differences: left are exponentials and logarithms of an ulp each, and
        // sums of at most five terms. Squares of scores of 5 scale it.
        let unit = f64::EPSILON * 10.0;
        let of_values = if O::SIDE == SideKind::Values { 25.0 } else { 1.0 };
        let (want, wants) = (number(&self.entry["loss"]), self.entry["d"].as_array().unwrap());
        let mut close = |what: &str, got: f64, want: f64, scale: f64| {
            let share = (got - want).abs() / (unit * scale);
            assert!(share <= 1.0, "{} on {:?}: {what} {got:e} instead of {want:e}", name, drawn.classes);
            self.worst = self.worst.max(share);
        };
        let size = wants.iter().filter(|d| !d.is_null()).map(|d| number(d).abs()).fold(0.0, f64::max);
        close("loss", loss, want, want.abs() + of_values * size + f64::MIN_POSITIVE);
        for (at, (&got, want)) in d.iter().zip(wants).enumerate().filter(|(_, (_, want))| !want.is_null()) {
            close(&format!("d[{at}]"), got, number(want), size * of_values + f64::MIN_POSITIVE);
        }
    }
}

#[test]
fn losses_and_derivatives_agree_with_the_golden_vectors() {
    let mut worst = 0.0f64;
    for entry in entries("columns") {
        let mut compare = Compare { entry, worst: 0.0 };
        let (name, values) =
            (compare.entry["objective"].as_str().unwrap().to_owned(), parameters(&compare.entry));
        draw::named(&name, values, &mut compare);
        worst = worst.max(compare.worst);
    }
    println!("worst error: {worst:.3} of what is granted");
}

#[test]
fn weights_agree_with_the_golden_vectors() {
    for entry in entries("column_weights") {
        let [alpha, divisor, ..] = parameters(&entry);
        let got = Eaft::new(alpha, divisor).unwrap().weight(&numbers(&entry["logits"]));
        let want = number(&entry["weight"]);
        // The same, and twice that for a square.
        assert!((got - want).abs() <= 16.0 * f64::EPSILON * want, "{entry}: {got:e}");
    }
}
