//! Derivatives, precision and extremes, of everything in the list.

use super::draw::{self, Visit, drawn};
use super::{Drawn, evaluate};
use crate::draw::cases;
use proptest::test_runner::{TestCaseError, TestRunner};
use tokenloss_core::columns::{ColumnObjective, ColumnRow, Side, SideKind};

/// Step of the differences, in logits.
const STEP: f64 = 3e-4;

/// A divergence's own precision is what its own suite is about: of those, two stand for all here.
fn is_about_rows(name: &str) -> bool {
    !name.starts_with("topk") || ["topk forward_kl", "topk reverse_kl"].contains(&name)
}

/// Runs a check on many rows for every objective of which it is about.
struct Check<F>(F, u32, fn(&str) -> bool);

impl<F: Fn(&dyn Fn(&Drawn) -> (f64, Vec<f64>), &dyn Held, &Drawn) -> Result<(), String>> Visit for Check<F> {
    fn visit<O: ColumnObjective>(&mut self, name: &str, objective: &O) {
        if !self.2(name) {
            return;
        }
        let mut runner = TestRunner::new(cases(self.1));
        let result = runner.run(&drawn(O::SIDE), |drawn| {
            if drawn.classes.len() - 1 < O::LEAST {
                return Ok(());
            }
            (self.0)(&|drawn| evaluate(objective, drawn), &Of(objective), &drawn)
                .map_err(|message| TestCaseError::fail(format!("{}: {message}", name)))
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// What a check needs of an objective, whatever its type.
trait Held {
    fn held(&self, frozen: &Drawn, live: &Drawn) -> f64;
    fn to_kink(&self, drawn: &Drawn) -> f64;
    fn single(&self, classes: &[f32], sides: &[f32]) -> (f32, Vec<f32>);
}

struct Of<'a, O>(&'a O);

impl<O: ColumnObjective> Held for Of<'_, O> {
    fn held(&self, frozen: &Drawn, live: &Drawn) -> f64 {
        let mut scratch = vec![0.0; live.classes.len() - 1];
        self.0.held(frozen.row(), live.row(), live.side(), &mut scratch)
    }

    fn to_kink(&self, drawn: &Drawn) -> f64 {
        self.0.to_kink(drawn.row())
    }

    fn single(&self, classes: &[f32], sides: &[f32]) -> (f32, Vec<f32>) {
        let (rest, logits) = classes.split_last().unwrap();
        let side = match sides.split_last() {
            Some((row, columns)) => Side { columns, row: *row },
            None => Side::nothing(),
        };
        let mut d = vec![f32::NAN; logits.len()];
        let eval = self.0.of_columns(ColumnRow { logits, rest: *rest }, side, &mut d);
        d.push(eval.d_rest);
        (eval.loss, d)
    }
}

fn check(
    about: fn(&str) -> bool,
    of: impl Fn(&dyn Fn(&Drawn) -> (f64, Vec<f64>), &dyn Held, &Drawn) -> Result<(), String>,
) {
    draw::each(&mut Check(of, 400, about));
}

fn moved(drawn: &Drawn, at: usize, by: f64) -> Drawn {
    let mut moved = drawn.clone();
    moved.classes[at] += by;
    moved
}

#[test]
fn derivatives_are_differences() {
    check(
        |_| true,
        |evaluate, of, drawn| {
            let (loss, d) = evaluate(drawn);
            if of.to_kink(drawn) < 8.0 * STEP {
                return Ok(());
            }
            for (at, &d) in d.iter().enumerate() {
                if drawn.classes[at] == f64::NEG_INFINITY {
                    continue;
                }
                let at_step = |steps: f64| of.held(drawn, &moved(drawn, at, steps * STEP));
                let want =
                    (8.0 * (at_step(1.0) - at_step(-1.0)) - (at_step(2.0) - at_step(-2.0))) / (12.0 * STEP);
                // Truncation is STEP^4 / 30 of the fifth derivative, some hundreds for a squared score of values up to 5;
                // rounding of `z + h` at an offset of 1000 is 4e-10 of the slopes, of the loss eps / STEP.
                let scale = d.abs().max(1.0);
                let tolerance = 5e-9 * scale + 3e-12 * loss.abs();
                let close = (d - want).abs() <= tolerance;
                if !close {
                    return Err(format!("{drawn:?} class {at}: {d:e}, the difference is {want:e}"));
                }
            }
            Ok(())
        },
    );
}

#[test]
fn derivatives_sum_to_zero() {
    // All of these are functions of differences of logits.
    check(
        |_| true,
        |evaluate, _, drawn| {
            let (_, d) = evaluate(drawn);
            let (sum, size) = (d.iter().sum::<f64>(), d.iter().map(|d| d.abs()).sum::<f64>());
            if sum.abs() <= 8.0 * f64::EPSILON * size { Ok(()) } else { Err(format!("{drawn:?}: {sum:e}")) }
        },
    );
}

#[test]
fn both_sides_of_a_kink() {
    struct Kinks;
    impl Visit for Kinks {
        fn visit<O: ColumnObjective>(&mut self, name: &str, objective: &O) {
            let row = Drawn { classes: vec![0.0, 0.0, -1e6, 0.0], sides: vec![] };
            let away = objective.to_kink(row.row());
            // Beyond an f64's last place, the kink of the second column's hinge.
            if !away.is_finite() || away > 1e2 || O::SIDE != SideKind::Nothing {
                return;
            }
            let slope = |by: f64| evaluate(objective, &moved(&row, 0, away + by)).1[0];
            assert_eq!((slope(-1e-9) != 0.0, slope(1e-9)), (true, 0.0), "{}", name);
        }
    }
    draw::each(&mut Kinks);
}

/// How far loss and derivatives move if every logit and every side input is off by some roundings of an f32: of its
/// distance to the greatest, since that is what exponentials are taken of.
fn condition(evaluate: &dyn Fn(&Drawn) -> (f64, Vec<f64>), drawn: &Drawn) -> (f64, Vec<f64>) {
    let ulp = f64::from(f32::EPSILON);
    let here = evaluate(drawn);
    let mut off = (0.0, vec![0.0; here.1.len()]);
    let greatest = |x: &[f64]| x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut add = |moved: &Drawn| {
        let there = evaluate(moved);
        off.0 += (there.0 - here.0).abs();
        off.1.iter_mut().zip(there.1.iter().zip(&here.1)).for_each(|(off, (a, b))| *off += (a - b).abs());
    };
    for at in 0..drawn.classes.len() {
        let size = (greatest(&drawn.classes) - drawn.classes[at]).abs();
        if size.is_finite() {
            add(&moved(drawn, at, ulp * (2.0 + size)));
            add(&moved(drawn, at, -ulp * (2.0 + size)));
        }
        if let Some(side) = drawn.sides.get(at).filter(|side| side.is_finite()) {
            let size = (greatest(&drawn.sides) - side).abs() + side.abs();
            for sign in [1.0, -1.0] {
                let mut moved = drawn.clone();
                moved.sides[at] += sign * ulp * (2.0 + size);
                add(&moved);
            }
        }
    }
    off
}

#[test]
fn single_precision_agrees_with_double() {
    check(is_about_rows, |evaluate, of, drawn| {
        let (classes, sides, drawn) = drawn.rounded();
        if of.to_kink(&drawn) < 1e-4 * (1.0 + drawn.classes[0].abs()) {
            return Ok(());
        }
        let (want, got) = (evaluate(&drawn), of.single(&classes, &sides));
        let off = condition(evaluate, &drawn);
        // A rounding for each of the classes' sums and a few more, each of the size of what is added up.
        let ulp = f64::from(f32::EPSILON) * (4.0 + classes.len() as f64);
        let size = want.1.iter().fold(0.0f64, |size, d| size.max(d.abs()));
        let close = |got: f32, want: f64, tolerance: f64| {
            (f64::from(got) - want).abs() <= tolerance + f64::from(f32::MIN_POSITIVE)
        };
        if !close(got.0, want.0, off.0 + ulp * want.0.abs()) {
            return Err(format!("{drawn:?}: loss {:e}, in f64 {:e}", got.0, want.0));
        }
        for (at, (&got, &want)) in got.1.iter().zip(&want.1).enumerate() {
            if !close(got, want, off.1[at] + ulp * size) {
                return Err(format!("{drawn:?} class {at}: {got:e}, in f64 {want:e}"));
            }
        }
        Ok(())
    });
}

#[test]
fn a_confident_row_keeps_its_relative_accuracy() {
    // Every derivative of a row with a margin, in f32, to 1e-6 and 1e-7 for each unit of margin: what is asked of losses
    // everywhere else. Sides that pull the same way as the row.
    struct Confident;
    impl Visit for Confident {
        fn visit<O: ColumnObjective>(&mut self, name: &str, objective: &O) {
            if !is_about_rows(name) {
                return;
            }
            for margin in [1.0, 15.0, 17.0, 40.0, 80.0] {
                for greatest in 0..4 {
                    let mut classes = vec![0.0, -0.5, 0.25, -1.0];
                    classes[greatest] = margin;
                    let sides = match O::SIDE {
                        SideKind::Nothing => vec![],
                        SideKind::Coefficients => {
                            (0..4).map(|at| if at == greatest { 1.0 } else { 0.0 }).collect()
                        }
                        SideKind::Values => vec![1.0, 2.0, 4.0, 1.5],
                        // Twice as sure as the row.
                        _ => classes.iter().map(|z| z * 2.0).collect(),
                    };
                    let drawn = Drawn { classes, sides };
                    let (single, singles, drawn) = drawn.rounded();
                    let (want, got) = (evaluate(objective, &drawn), Of(objective).single(&single, &singles));
                    let granted = 1e-6 + 2e-7 * margin;
                    let close = |got: f32, want: f64| {
                        (f64::from(got) - want).abs() <= granted * want.abs() + f64::from(f32::MIN_POSITIVE)
                    };
                    let at = || format!("{} with {greatest} at {margin}: {got:?}, in f64 {want:?}", name);
                    assert!(close(got.0, want.0), "{}", at());
                    // A value that is near the mean has a derivative that is near 0: its error is that of the mean.
                    let size = want.1.iter().fold(0.0f64, |size, d| size.max(d.abs()));
                    let near = |got: f32, want: f64| {
                        O::SIDE == SideKind::Values && (f64::from(got) - want).abs() <= granted * size
                    };
                    let all = || got.1.iter().zip(&want.1);
                    assert!(all().all(|(&got, &want)| close(got, want) || near(got, want)), "{}", at());
                }
            }
        }
    }
    draw::each(&mut Confident);
}

#[test]
fn extremes_stay_finite() {
    struct Extremes;
    impl Visit for Extremes {
        fn visit<O: ColumnObjective>(&mut self, name: &str, objective: &O) {
            let rows = [
                vec![1e4, 0.0, -1e4, 0.0],
                vec![-1e4, 0.0, 1e4, 0.0],
                vec![0.0, 0.0, 0.0, 1e4],
                vec![0.0, 0.0, 0.0, -1e4],
                vec![1e30, 1e30, 1e30, 1e30],
                vec![0.0, f64::NEG_INFINITY, 0.0, 3.0],
                vec![0.0, 1.0, 0.0, f64::NEG_INFINITY],
            ];
            for classes in rows {
                let sides = match O::SIDE {
                    SideKind::Nothing => vec![],
                    SideKind::Coefficients => {
                        classes.iter().map(|z| if z.is_finite() { 0.5 } else { 0.0 }).collect()
                    }
                    SideKind::Values => vec![1.0, 2.0, 3.0, 2.5],
                    SideKind::Teacher => {
                        classes.iter().map(|z| if z.is_finite() { z / 1e30 } else { *z }).collect()
                    }
                };
                let drawn = Drawn { classes, sides };
                let (single, singles, _) = drawn.rounded();
                let (double, got) = (evaluate(objective, &drawn), Of(objective).single(&single, &singles));
                let at = || format!("{} on {:?}: {double:?}, {got:?}", name, drawn.classes);
                assert!(double.0.is_finite() && double.1.iter().all(|d| d.is_finite()), "{}", at());
                assert!(got.0.is_finite() && got.1.iter().all(|d| d.is_finite()), "{}", at());
            }
        }
    }
    draw::each(&mut Extremes);
}
