//! The objectives of embeddings: every listed one under the same suites, and what is known of each.

use crate::difference::derivative;
use crate::draw::{cases, within};
use crate::listed::{self, Build, number, numbers};
use crate::score::{for_all, says};
use num_traits::Float;
use proptest::prelude::*;
use serde_json::Value;
use std::cell::Cell as Counter;
use std::fmt::Debug;
use tokenloss_core::embedding::*;
use tokenloss_core::score::{BinaryCrossEntropy, ScoreObjective};
use tokenloss_core::{Error, IGNORE_INDEX, Listed, Nll, RowObjective, for_each_objective, reference};

/// Every suite for every line of the list.
macro_rules! suites {
    ($($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => { $(
        mod $module {
            use super::*;

            #[allow(unused_mut, unused_variables)]
            fn build(values: &[f32]) -> Result<$type, Error> {
                let mut values = values.iter().copied();
                $(let $param = values.next().unwrap();)*
                $type::new($($param),*)
            }

            #[test]
            fn the_gradient_is_that_of_the_loss() {
                differences(build);
            }

            #[test]
            fn the_gradient_of_embeddings_is_that_of_the_loss() {
                wholes(build);
            }

            #[test]
            fn single_precision_agrees_with_double() {
                precision(build);
            }

            #[test]
            fn extreme_inputs_give_no_nan() {
                extremes(build);
            }

            #[test]
            fn the_order_of_things_does_not_matter() {
                permutations(build);
            }

            #[test]
            fn golden_vectors_agree() {
                golden(build);
            }

            #[test]
            fn domains_are_checked() {
                domains(build);
            }
        }
    )* };
}
for_each_objective!(embeddings, suites);

/// How the cells belong together, owned.
#[derive(Debug, Clone)]
enum Belonging {
    Diagonal,
    Targets(Vec<i32>),
    Labels(Vec<u32>, Vec<u32>),
    Within(Vec<u32>),
    Across(Vec<u32>, Option<Vec<u32>>),
}

/// A matrix with all that comes with it. Its numbers are values of an `f32`.
#[derive(Debug, Clone)]
struct Matrix {
    rows: usize,
    columns: usize,
    belonging: Belonging,
    values: Vec<f64>,
    scale: f64,
    bias: f64,
    log_q: Option<Vec<f64>>,
}

impl Matrix {
    fn pairs<'a, T: Float>(&'a self, scale: T, bias: T, log_q: Option<&'a [T]>) -> Pairs<'a, T> {
        let pairs = match &self.belonging {
            Belonging::Diagonal => Pairs::diagonal(self.rows),
            Belonging::Targets(targets) => Pairs::targets(targets, self.columns),
            Belonging::Labels(rows, columns) => Pairs::labels(rows, columns),
            Belonging::Within(labels) => Pairs::within(labels),
            Belonging::Across(domains, labels) => Pairs::across(domains, labels.as_deref()),
        };
        let pairs = pairs.unwrap().with_scale(scale).unwrap().with_bias(bias).unwrap();
        log_q.map_or(pairs, |log_q| pairs.with_log_q(log_q).unwrap())
    }

    /// Evaluated in this type.
    fn evaluate<T: Float>(
        &self,
        objective: &impl SimilarityObjective,
    ) -> Result<(SimilarityEval<T>, Vec<T>), Error> {
        let of = |x: &f64| T::from(*x).unwrap();
        let log_q: Option<Vec<T>> = self.log_q.as_ref().map(|log_q| log_q.iter().map(of).collect());
        let values: Vec<T> = self.values.iter().map(of).collect();
        let pairs = self.pairs(of(&self.scale), of(&self.bias), log_q.as_deref());
        let mut gradient = vec![T::nan(); values.len()];
        evaluate(objective, &pairs, &values, &mut gradient).map(|eval| (eval, gradient))
    }

    fn loss(&self, objective: &impl SimilarityObjective) -> f64 {
        self.evaluate::<f64>(objective).unwrap().0.loss
    }

    fn logit(&self, place: usize) -> f64 {
        let log_q = self.log_q.as_ref().map_or(0.0, |log_q| log_q[place % self.columns]);
        self.scale * self.values[place] + self.bias - log_q
    }

    fn relation(&self, place: usize) -> Relation {
        let masked = self.values[place] == f64::NEG_INFINITY;
        let relation = self.pairs(1.0f64, 0.0, None).relation(place / self.columns, place % self.columns);
        if masked { Relation::Excluded } else { relation }
    }

    /// How far a logit may move before one of these cells meets a kink, in units of `per`.
    fn room(&self, objective: &impl SimilarityObjective, per: impl Fn(usize) -> f64) -> f64 {
        let mut room = f64::INFINITY;
        for place in (0..self.values.len()).filter(|place| self.relation(*place) != Relation::Excluded) {
            for kink in objective.kinks().into_iter().flatten() {
                let logit = self.logit(place);
                let per = per(place);
                if per != 0.0 {
                    // The kink is an f32.
                    room = room.min(((logit - f64::from(kink)).abs() - 1e-7) / per.abs());
                }
            }
        }
        room
    }
}

fn single(x: f64) -> f64 {
    f64::from(x as f32)
}

fn matrix() -> impl Strategy<Value = Matrix> {
    let label = || 0u32..3;
    let shape = (1usize..5, 1usize..6, 2usize..5);
    shape
        .prop_flat_map(move |(rows, columns, square)| {
            let labels = move |n: usize| prop::collection::vec(label(), n);
            let target = prop_oneof![8 => 0..columns as i32, 1 => Just(IGNORE_INDEX)];
            prop_oneof![
                Just((square, square, Belonging::Diagonal)),
                prop::collection::vec(target, rows).prop_map(move |t| (rows, columns, Belonging::Targets(t))),
                (labels(rows), labels(columns)).prop_map(move |(a, b)| (
                    rows,
                    columns,
                    Belonging::Labels(a, b)
                )),
                labels(square).prop_map(move |l| (square, square, Belonging::Within(l))),
                (labels(square), prop::option::of(labels(square))).prop_map(move |(d, l)| (
                    square,
                    square,
                    Belonging::Across(d, l)
                )),
            ]
        })
        .prop_flat_map(|(rows, columns, belonging)| {
            let value = prop_oneof![12 => -1.0f64..1.0, 1 => Just(f64::NEG_INFINITY), 1 => Just(0.5)];
            let scale = prop_oneof![1 => Just(1.0), 1 => 0.1f64..40.0];
            let bias = prop_oneof![1 => Just(0.0), 1 => -10.0f64..2.0];
            let log_q = prop::option::weighted(0.3, prop::collection::vec(-6.0f64..-0.1, columns));
            (prop::collection::vec(value, rows * columns), scale, bias, log_q).prop_map(
                move |(mut values, scale, bias, log_q)| {
                    // What is a variance to one of them.
                    (0..rows.min(columns))
                        .for_each(|i| values[i * columns + i] = values[i * columns + i].abs());
                    Matrix {
                        rows,
                        columns,
                        belonging: belonging.clone(),
                        values: values
                            .into_iter()
                            .map(|x| if x.is_finite() { single(x) } else { -x.abs() })
                            .collect(),
                        scale: single(scale),
                        bias: single(bias),
                        log_q: log_q.map(|log_q| log_q.into_iter().map(single).collect()),
                    }
                },
            )
        })
}

fn drawn<O: Listed>() -> BoxedStrategy<(Vec<f32>, Matrix)> {
    let parameters: Vec<_> = O::PARAMETERS.iter().map(within).collect();
    (parameters, matrix()).boxed()
}

/// Counts how many of the drawn cases a suite could look at.
struct Told(Counter<(u32, u32)>);

impl Told {
    fn new() -> Self {
        Self(Counter::new((0, 0)))
    }

    fn add(&self, good: bool) {
        let (all, before) = self.0.get();
        self.0.set((all + 1, before + u32::from(good)));
    }

    #[track_caller]
    fn at_least(&self, share: f64) {
        let (all, good) = self.0.get();
        assert!(f64::from(good) >= share * f64::from(all), "only {good} of {all}");
    }
}

/// Whether a matrix is one that the objective is not defined for: no positive, one column, or a negative variance.
fn undefined(error: Error) -> Result<(), TestCaseError> {
    let known = match error {
        Error::TooFew { what, .. } => {
            ["rows with a positive", "positive pairs", "rows", "columns"].contains(&what)
        }
        Error::Input { what, .. } => what == "covariances",
        _ => false,
    };
    prop_assert!(known, "{error}");
    Ok(())
}

fn differences<O>(build: Build<O>)
where
    O: SimilarityObjective + Listed + Debug,
{
    let (defined, sharp) = (Told::new(), Told::new());
    for_all(250, drawn::<O>(), &|(parameters, matrix)| {
        let objective = build(&parameters).unwrap();
        let result = matrix.evaluate::<f64>(&objective);
        defined.add(result.is_ok());
        let (eval, gradient) = match result {
            Ok(result) => result,
            Err(error) => return undefined(error),
        };
        let check = |what: String, got: f64, room: f64, moved: &dyn Fn(f64) -> Matrix| {
            // A root's argument stays positive; an exponential's stays where a difference can see it.
            let step = (0.9 * room).min(0.25);
            if step < 1e-6 {
                return Ok(());
            }
            let (want, error) = derivative(|by| moved(by).loss(&objective), step);
            sharp.add(error <= 1e-5 * want.abs() + 1e-7);
            let slack = 4.0 * error + 1e-9 * got.abs() + 1e-12;
            prop_assert!(
                (got - want).abs() <= slack,
                "{objective:?} on {matrix:?}: {what} is {got:e}, the difference is {want:e} up to {error:e}"
            );
            Ok(())
        };
        for (place, &got) in gradient.iter().enumerate() {
            if matrix.relation(place) == Relation::Excluded {
                prop_assert_eq!(got, 0.0, "what takes no part has no gradient");
                continue;
            }
            let alone = |other: usize| if other == place { matrix.scale } else { 0.0 };
            // A logit of a variance must stay above 0.
            let above =
                if O::NAME == "vic_reg" { matrix.logit(place).abs() / matrix.scale } else { f64::INFINITY };
            let room = matrix.room(&objective, alone).min(1.0 / matrix.scale).min(above);
            check(format!("cell {place}"), got, room, &|by| {
                let mut moved = matrix.clone();
                moved.values[place] += by;
                moved
            })?;
        }
        let variances =
            (0..matrix.values.len()).filter(|&place| matrix.relation(place) == Relation::Positive);
        let least = variances.map(|place| matrix.logit(place).abs()).fold(f64::INFINITY, f64::min);
        let above = if O::NAME == "vic_reg" { least } else { f64::INFINITY };
        let room = matrix.room(&objective, |_| 1.0).min(1.0).min(above);
        check("the bias".into(), eval.d_bias, room, &|by| Matrix {
            bias: matrix.bias + by,
            ..matrix.clone()
        })?;
        let size = |place: usize| matrix.values[place];
        let greatest = matrix.values.iter().filter(|x| x.is_finite()).fold(1.0, |a: f64, x| a.max(x.abs()));
        let room = matrix.room(&objective, size).min(0.5 * matrix.scale).min(above / greatest);
        check("the scale".into(), eval.d_scale, room, &|by| Matrix {
            scale: matrix.scale + by,
            ..matrix.clone()
        })
    });
    defined.at_least(0.3);
    sharp.at_least(0.9);
}

/// From embeddings through every way that there is to the gradient of every element.
fn wholes<O>(build: Build<O>)
where
    O: SimilarityObjective + Listed + Debug,
{
    let parameters: Vec<_> = O::PARAMETERS.iter().map(within).collect();
    let views = (2usize..5, 2usize..4).prop_flat_map(|(rows, dim)| {
        let view = || prop::collection::vec(-2.0f64..2.0, rows * dim);
        (Just(dim), view(), view(), prop_oneof![Just(0.0f64), Just(1e-5), Just(0.3)], 1.0f64..10.0)
    });
    let (sharp, defined) = (Told::new(), Told::new());
    for_all(40, (parameters, views).boxed(), &|(parameters, (dim, a, b, eps, scale))| {
        let objective = build(&parameters).unwrap();
        let rows = a.len() / dim;
        for way in 0..3 {
            let whole = |a: &[f64], b: &[f64]| {
                let (mut da, mut db) = (vec![f64::NAN; a.len()], vec![f64::NAN; b.len()]);
                let matrix = if way == 0 { rows * rows } else { dim * dim };
                let mut scratch = vec![f64::NAN; 2 * rows * dim + 2 * matrix];
                let views = Views { a, b, dim };
                let gradient = ViewsGradient { da: &mut da, db: &mut db };
                let eval = match way {
                    0 => {
                        let pairs = Pairs::diagonal(rows).unwrap().with_scale(scale).unwrap();
                        evaluate_cosine(&objective, &pairs, views, &mut scratch, gradient)
                    }
                    1 => evaluate_correlation(&objective, eps, views, &mut scratch, gradient),
                    _ => {
                        db.fill(0.0);
                        evaluate_covariance(&objective, a, dim, &mut scratch, &mut da)
                    }
                };
                eval.map(|eval| (eval.loss, da, db))
            };
            let result = whole(&a, &b);
            defined.add(result.is_ok());
            let (_, da, db) = match result {
                Ok(result) => result,
                Err(error) => {
                    undefined(error)?;
                    continue;
                }
            };
            for place in 0..a.len() {
                for (view, got) in [(0, da[place]), (1, db[place])] {
                    let loss = |by: f64| {
                        let (mut a, mut b) = (a.clone(), b.clone());
                        if view == 0 {
                            a[place] += by
                        } else {
                            b[place] += by
                        }
                        whole(&a, &b).map_or(f64::NAN, |(loss, ..)| loss)
                    };
                    // Kinks are not looked for here: a step that is short enough meets few, and those not twice.
                    let differs = |step: f64| {
                        let (want, error) = derivative(loss, step);
                        let close = (got - want).abs() <= 4.0 * error + 1e-8 * got.abs() + 1e-10;
                        (!close, want, error)
                    };
                    let (mut off, mut want, mut error) = differs(1e-2);
                    if off {
                        (off, want, error) = differs(1e-5);
                    }
                    sharp.add(error <= 1e-5 * want.abs() + 1e-6);
                    prop_assert!(
                        !off,
                        "{objective:?}, way {way}, view {view}, element {place}: {got:e} for {want:e} up to {error:e}"
                    );
                }
            }
            if way == 0 {
                // The length of an embedding does not count.
                for (x, d) in a.chunks(dim).zip(da.chunks(dim)) {
                    let along: f64 = x.iter().zip(d).map(|(x, d)| x * d).sum();
                    let size: f64 = x.iter().zip(d).map(|(x, d)| (x * d).abs()).sum();
                    prop_assert!(
                        along.abs()
                            <= 1e-13 * size
                                + 1e-14 * scale * parameters.iter().fold(1.0, |a, &p| f64::max(a, p.into()))
                    );
                }
            }
        }
        Ok(())
    });
    defined.at_least(0.3);
    sharp.at_least(0.9);
}

/// What an evaluation with a rounding of `eps` may be off by: a few roundings of what it computes, and what it makes of
/// one of every logit, to twice the sum of what it is made of.
fn granted<O>(build: Build<O>, objective: &O, matrix: &Matrix, eps: f64) -> (SimilarityEval<f64>, Vec<f64>)
where
    O: SimilarityObjective + Listed,
{
    let (eval, gradient) = matrix.evaluate::<f64>(objective).unwrap();
    let own = |x: f64| 16.0 * eps * x.abs();
    // A sum over cells is off by a rounding of its terms, not of itself.
    let terms: f64 = gradient.iter().map(|d| d.abs()).sum();
    let scaled: f64 =
        gradient.iter().zip(&matrix.values).filter(|(d, _)| **d != 0.0).map(|(d, s)| (d * s).abs()).sum();
    let mut granted = SimilarityEval {
        loss: own(eval.loss),
        count: 0,
        d_scale: own(scaled / matrix.scale),
        d_bias: own(terms / matrix.scale),
    };
    // Clip's cell is the sum of what its row and what its column asks for, which may cancel.
    let parts = if O::NAME == "clip" { gradient.iter().fold(0.0, |a: f64, d| a.max(d.abs())) } else { 0.0 };
    let mut gradients: Vec<f64> = gradient.iter().map(|d| own(*d) + 2.0 * eps * parts).collect();
    let mut grant = |moved: Result<(SimilarityEval<f64>, Vec<f64>), Error>, factor: f64| {
        let Ok((moved, moved_gradient)) = moved else { return };
        granted.loss += factor * (moved.loss - eval.loss).abs();
        granted.d_scale += factor * (moved.d_scale - eval.d_scale).abs();
        granted.d_bias += factor * (moved.d_bias - eval.d_bias).abs();
        for (granted, (moved, at)) in gradients.iter_mut().zip(moved_gradient.iter().zip(&gradient)) {
            *granted += factor * (moved - at).abs();
        }
    };
    for (k, parameter) in O::PARAMETERS.iter().enumerate() {
        // A parameter is an f32, whose next one is as far away as eps allows: to first order, a part of that.
        let mut values = objective.parameters()[..O::PARAMETERS.len()].to_vec();
        values[k] = if values[k] < parameter.max { values[k].next_up() } else { values[k].next_down() };
        grant(matrix.evaluate(&build(&values).unwrap()), 4.0 * eps / f64::from(f32::EPSILON));
    }
    for place in (0..matrix.values.len()).filter(|&place| matrix.values[place].is_finite()) {
        let log_q = matrix.log_q.as_ref().map_or(0.0, |log_q| log_q[place % matrix.columns]);
        let size = matrix.values[place].abs() + (matrix.bias.abs() + log_q.abs()) / matrix.scale;
        for side in [-2.0, 2.0] {
            let mut moved = matrix.clone();
            moved.values[place] += side * eps * size;
            grant(moved.evaluate(objective), 1.0);
        }
    }
    (granted, gradients)
}

fn precision<O>(build: Build<O>)
where
    O: SimilarityObjective + Listed + Debug,
{
    for_all(500, drawn::<O>(), &|(parameters, matrix)| {
        let objective = build(&parameters).unwrap();
        let (want, want_gradient) = match matrix.evaluate::<f64>(&objective) {
            Ok(result) => result,
            Err(error) => return undefined(error),
        };
        // A pair that another rounding makes active changes everything.
        prop_assume!(matrix.room(&objective, |_| 1.0) > 1e-4);
        let (got, gradient) = matrix.evaluate::<f32>(&objective).unwrap();
        let (granted, gradients) = granted(build, &objective, &matrix, f64::from(f32::EPSILON));
        prop_assert_eq!(got.count, want.count);
        let numbers = [
            ("loss", got.loss, want.loss, granted.loss),
            ("d_scale", got.d_scale, want.d_scale, granted.d_scale),
            ("d_bias", got.d_bias, want.d_bias, granted.d_bias),
        ];
        let cells = (0..gradient.len()).map(|k| ("a cell", gradient[k], want_gradient[k], gradients[k]));
        for (what, got, want, granted) in numbers.into_iter().chain(cells) {
            prop_assert!(
                (f64::from(got) - want).abs() <= granted + 1e-36,
                "{objective:?} on {matrix:?}: {what} is {got:e} for {want:e}, granted {granted:e}"
            );
        }
        Ok(())
    });
}

fn extremes<O>(build: Build<O>)
where
    O: SimilarityObjective + Listed + Debug,
{
    fn of<T: Float + Debug + 'static, O: SimilarityObjective + Listed + Debug>(build: Build<O>) {
        let x = |x: f64| T::from(x).unwrap();
        let sizes =
            [T::zero(), T::min_positive_value(), x(1e-30), x(1e-3), T::one(), x(90.0), x(1e4), x(1e15)];
        let values: Vec<T> = sizes.into_iter().chain(sizes.map(|x| -x)).chain([T::neg_infinity()]).collect();
        let huge = [T::max_value(), T::min_value()].to_vec();
        let value = prop_oneof![6 => prop::sample::select(values), 1 => prop::sample::select(huge)];
        let parameters: Vec<_> = O::PARAMETERS.iter().map(within).collect();
        for_all(1500, (parameters, prop::collection::vec(value, 9), 0usize..3).boxed(), &|(
            parameters,
            values,
            kind,
        )| {
            let objective = build(&parameters).unwrap();
            let pairs = match kind {
                0 => Pairs::diagonal(3),
                1 => Pairs::within(&[4, 4, 4]),
                _ => Pairs::across(&[0, 1, 1], None),
            };
            let mut gradient = [T::nan(); 9];
            match evaluate(&objective, &pairs.unwrap(), &values, &mut gradient) {
                Err(error) => return undefined(error),
                Ok(eval) => {
                    // Squares and sums of what is huge are infinite; nothing is NaN.
                    prop_assert!(!eval.loss.is_nan(), "{objective:?} on {values:?}: {eval:?}");
                    let largest =
                        values.iter().filter(|x| x.is_finite()).fold(T::zero(), |a, x| a.max(x.abs()));
                    if largest <= x(1e15) {
                        prop_assert!(
                            eval.loss.is_finite() && eval.d_scale.is_finite() && eval.d_bias.is_finite(),
                            "{objective:?} on {values:?}: {eval:?}"
                        );
                        prop_assert!(
                            gradient.iter().all(|d| d.is_finite()),
                            "{objective:?} on {values:?}: {gradient:?}"
                        );
                    }
                    prop_assert!(
                        gradient.iter().all(|d| !d.is_nan()),
                        "{objective:?} on {values:?}: {gradient:?}"
                    );
                }
            }
            Ok(())
        });
    }
    of::<f32, O>(build);
    of::<f64, O>(build);
}

/// Rows in another order, and columns, give the same loss, and the gradient in that order.
fn permutations<O>(build: Build<O>)
where
    O: SimilarityObjective + Listed + Debug,
{
    for_all(300, drawn::<O>(), &|(parameters, matrix)| {
        let objective = build(&parameters).unwrap();
        let Ok((eval, gradient)) = matrix.evaluate::<f64>(&objective) else { return Ok(()) };
        let (rows, columns) = (matrix.rows, matrix.columns);
        // One place further; of one set beside itself both move.
        let turned = |x: &[u32]| {
            let mut x = x.to_vec();
            x.rotate_left(1);
            x
        };
        let belonging = match &matrix.belonging {
            Belonging::Diagonal => Belonging::Diagonal,
            Belonging::Targets(targets) => {
                let mut targets: Vec<i32> = targets
                    .iter()
                    .map(|&t| if t < 0 { t } else { (t + columns as i32 - 1) % columns as i32 })
                    .collect();
                targets.rotate_left(1);
                Belonging::Targets(targets)
            }
            Belonging::Labels(a, b) => Belonging::Labels(turned(a), turned(b)),
            Belonging::Within(labels) => Belonging::Within(turned(labels)),
            Belonging::Across(domains, labels) => {
                Belonging::Across(turned(domains), labels.as_deref().map(turned))
            }
        };
        let from = |place: usize| (place / columns + 1) % rows * columns + (place % columns + 1) % columns;
        let log_q = matrix.log_q.clone().map(|mut log_q| {
            log_q.rotate_left(1);
            log_q
        });
        let values = (0..matrix.values.len()).map(|place| matrix.values[from(place)]).collect();
        let turned = Matrix { belonging, values, log_q, ..matrix.clone() };
        let (again, moved) = turned.evaluate::<f64>(&objective).unwrap();
        // Another order of sums of terms of at most the size of the logits.
        let size = 1e-14 * (1.0 + eval.loss.abs() + 60.0 * gradient.iter().map(|d| d.abs()).sum::<f64>());
        prop_assert!((again.loss - eval.loss).abs() <= size && again.count == eval.count);
        for (place, d) in moved.into_iter().enumerate() {
            prop_assert!((d - gradient[from(place)]).abs() <= size);
        }
        Ok(())
    });
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../golden/embedding.json")).expect("the file is JSON")
}

fn integers<T: TryFrom<i64, Error: Debug>>(value: &Value) -> Vec<T> {
    let integer = |x: &Value| x.as_i64().expect("an integer").try_into().expect("in range");
    value.as_array().expect("an array").iter().map(integer).collect()
}

fn parameters(entry: &Value) -> Vec<f32> {
    numbers(&entry["parameters"]).into_iter().map(|x| x as f32).collect()
}

fn golden<O>(build: Build<O>)
where
    O: SimilarityObjective + Listed + Debug,
{
    let vectors = vectors();
    let mut count = 0;
    for entry in vectors["matrices"].as_array().unwrap().iter().filter(|e| e["objective"] == O::NAME) {
        let objective = build(&parameters(entry)).unwrap();
        let labels = |key: &str| integers::<u32>(&entry[key]);
        let shape = integers::<usize>(&entry["shape"]);
        let matrix = Matrix {
            rows: shape[0],
            columns: shape[1],
            belonging: match entry["pairs"].as_str().unwrap() {
                "diagonal" => Belonging::Diagonal,
                "targets" => Belonging::Targets(integers(&entry["targets"])),
                "labels" => Belonging::Labels(labels("rows"), labels("columns")),
                "within" => Belonging::Within(labels("labels")),
                "across" => Belonging::Across(
                    labels("domains"),
                    (!entry["classes"].is_null()).then(|| labels("classes")),
                ),
                other => panic!("{other}"),
            },
            values: numbers(&entry["similarities"]),
            scale: number(&entry["scale"]),
            bias: number(&entry["bias"]),
            log_q: (!entry["log_q"].is_null()).then(|| numbers(&entry["log_q"])),
        };
        let (eval, gradient) = matrix.evaluate::<f64>(&objective).unwrap();
        let (granted, gradients) = granted(build, &objective, &matrix, f64::EPSILON);
        let close = |what: &str, got: f64, want: f64, granted: f64| {
            assert!(
                (got - want).abs() <= granted,
                "{objective:?} on {matrix:?}: {what} is {got:e} for {want:e}, granted {granted:e}"
            );
        };
        close("loss", eval.loss, number(&entry["loss"]), granted.loss);
        close("d_scale", eval.d_scale, number(&entry["d_scale"]), granted.d_scale);
        close("d_bias", eval.d_bias, number(&entry["d_bias"]), granted.d_bias);
        for (place, want) in numbers(&entry["dsimilarities"]).into_iter().enumerate() {
            close("a cell", gradient[place], want, gradients[place]);
        }
        count += 1;
    }
    assert!(
        count >= 3,
        "core/golden/embedding.py has {count} matrices of {}; add its formula and run it",
        O::NAME
    );
    for entry in vectors["wholes"].as_array().unwrap().iter().filter(|e| e["objective"] == O::NAME) {
        let objective = build(&parameters(entry)).unwrap();
        let (a, b, dim) = (numbers(&entry["a"]), numbers(&entry["b"]), number(&entry["dim"]) as usize);
        let (mut da, mut db) = (vec![f64::NAN; a.len()], vec![0.0; b.len()]);
        let (rows, views) = (a.len() / dim, Views { a: &a, b: &b, dim });
        let gradient = ViewsGradient { da: &mut da, db: &mut db };
        let scratch = |matrix: usize| vec![f64::NAN; 2 * rows * dim + 2 * matrix];
        let eval = match entry["way"].as_str().unwrap() {
            "cosine" => {
                let pairs = Pairs::diagonal(rows).unwrap().with_scale(10.0).unwrap();
                evaluate_cosine(&objective, &pairs, views, &mut scratch(rows * rows), gradient)
            }
            "correlation" => evaluate_correlation(
                &objective,
                number(&entry["eps"]),
                views,
                &mut scratch(dim * dim),
                gradient,
            ),
            _ => evaluate_covariance(&objective, &a, dim, &mut scratch(dim * dim), &mut da),
        };
        let want = number(&entry["loss"]);
        let loss = eval.unwrap().loss;
        assert!((loss - want).abs() <= 1e-14 * want.abs(), "{objective:?}: {loss} for {want}");
        for (got, want) in [(da, &entry["da"]), (db, &entry["db"])] {
            let want = numbers(want);
            let scale = want.iter().fold(0.0, |a: f64, x| a.max(x.abs()));
            for (got, want) in got.into_iter().zip(want) {
                // Sums of a dozen products of the size of the greatest, some of which cancel.
                assert!((got - want).abs() <= 1e-14 * scale, "{objective:?}: {got:e} for {want:e}");
            }
        }
    }
}

fn domains<O>(build: Build<O>)
where
    O: SimilarityObjective + Listed + Debug,
{
    listed::domains(build);
    assert_eq!(O::KIND, "embedding");
    let objective = build(&listed::defaults::<O>()).unwrap();
    let pairs = Pairs::diagonal(2).unwrap();
    let run = |values: &[f64], d: usize| evaluate(&objective, &pairs, values, &mut vec![7.0; d]);
    says(run(&[0.5; 3], 4), "similarities: expected 4 values, got 3");
    says(run(&[0.5; 4], 5), "dsimilarities: expected 4 values, got 5");
    for bad in [f64::NAN, f64::INFINITY] {
        says(
            run(&[0.5, 0.5, bad, 0.5], 4),
            &format!("similarities: value 2 is {bad}, expected a finite number or -inf"),
        );
    }
    let huge = pairs.with_scale(1e200).unwrap();
    says(
        evaluate(&objective, &huge, &[0.5, -1e200, 0.5, 0.5], &mut [0.0; 4]),
        "logits: value 1 is -inf, expected a finite number or -inf",
    );
    if O::LEAST_COLUMNS == 2 {
        let one = Pairs::diagonal(1).unwrap();
        says(
            evaluate(&objective, &one, &[0.5], &mut [0.0]),
            "columns: number 0 has 1 members, expected at least 2",
        );
    }
}

/// A square matrix on its diagonal.
fn square(
    values: &[f64],
    scale: f64,
    objective: &impl SimilarityObjective,
) -> (SimilarityEval<f64>, Vec<f64>) {
    let n = values.len().isqrt();
    let pairs = Pairs::diagonal(n).unwrap().with_scale(scale).unwrap();
    let mut gradient = vec![f64::NAN; n * n];
    let eval = evaluate(objective, &pairs, values, &mut gradient).unwrap();
    (eval, gradient)
}

fn near(got: f64, want: f64, scale: f64) -> Result<(), TestCaseError> {
    prop_assert!((got - want).abs() <= 1e-14 * (want.abs() + scale), "{got:e} for {want:e}");
    Ok(())
}

fn values(n: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-1.0f64..1.0, n)
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn info_nce_is_the_nll_of_each_row(values in values(12), targets in prop::collection::vec(0i32..4, 3), scale in 0.1f64..50.0) {
        let pairs = Pairs::targets(&targets, 4).unwrap().with_scale(scale).unwrap();
        let mut gradient = [f64::NAN; 12];
        let eval = evaluate(&InfoNce::new().unwrap(), &pairs, &values, &mut gradient).unwrap();
        let logits: Vec<f64> = values.iter().map(|s| scale * s).collect();
        let (mut loss, mut d_scale) = (0.0, 0.0);
        for row in 0..3 {
            let (logits, target) = (&logits[4 * row..][..4], targets[row] as usize);
            let summary = reference::summarise(logits, target).unwrap();
            let nll = Nll.of_row(&summary);
            let mut dlogits = [f64::NAN; 4];
            reference::push_back(logits, target, &summary, nll.partials, &mut dlogits);
            loss += nll.loss / 3.0;
            for (k, d) in dlogits.into_iter().enumerate() {
                near(gradient[4 * row + k], scale * d / 3.0, 1e-3 * (scale * d).abs())?;
                d_scale += d * values[4 * row + k] / 3.0;
            }
        }
        near(eval.loss, loss, 0.0)?;
        near(eval.d_scale, d_scale, 3.0)?;
        // A bias moves all logits alike, and a softmax not at all.
        near(eval.d_bias, 0.0, 1.0)?;
        prop_assert_eq!(eval.count, 3);
    }

    /// All classes sampled once with the same probability: the correction is a constant, and the softmax the full one.
    #[test]
    fn sampled_softmax_of_all_classes_is_the_full_softmax(values in values(15), targets in prop::collection::vec(0i32..5, 3), log_q in -9.0f64..0.0) {
        let full = Pairs::targets(&targets, 5).unwrap().with_scale(7.0).unwrap();
        let log_q = [log_q; 5];
        let sampled = full.with_log_q(&log_q).unwrap();
        let (mut a, mut b) = ([f64::NAN; 15], [f64::NAN; 15]);
        let objective = InfoNce::new().unwrap();
        let (full, sampled) = (evaluate(&objective, &full, &values, &mut a).unwrap(), evaluate(&objective, &sampled, &values, &mut b).unwrap());
        near(sampled.loss, full.loss, 16.0)?;
        for (a, b) in a.into_iter().zip(b) {
            near(b, a, 16.0)?;
        }
    }

    /// With the logarithm of how often each class is expected among the samples taken off, sampled and full softmax
    /// have the same expectation of the normaliser: of one class repeated, that of the class itself.
    #[test]
    fn a_class_sampled_twice_counts_as_one_by_its_log_q(values in values(3)) {
        let objective = InfoNce::new().unwrap();
        let once = Pairs::targets(&[0], 3).unwrap();
        let mut gradient = [f64::NAN; 3];
        let want = evaluate(&objective, &once, &values, &mut gradient).unwrap().loss;
        let log_q = [0.0, 0.0, 2f64.ln(), 2f64.ln()];
        let twice = Pairs::targets(&[0], 4).unwrap().with_log_q(&log_q).unwrap();
        let repeated = [values[0], values[1], values[2], values[2]];
        let got = evaluate(&objective, &twice, &repeated, &mut [f64::NAN; 4]).unwrap().loss;
        near(got, want, 1.0)?;
    }

    #[test]
    fn clip_is_symmetric_and_the_mean_of_both_directions(values in values(9), scale in 0.1f64..50.0) {
        let turned: Vec<f64> = (0..9).map(|k| values[k % 3 * 3 + k / 3]).collect();
        let clip = Clip::new().unwrap();
        let (a, da) = square(&values, scale, &clip);
        let (b, db) = square(&turned, scale, &clip);
        near(a.loss, b.loss, 1.0)?;
        near(a.d_scale, b.d_scale, 1.0)?;
        for k in 0..9 {
            near(da[k], db[k % 3 * 3 + k / 3], scale)?;
        }
        let (nce, _) = square(&values, scale, &InfoNce::new().unwrap());
        let (ecn, _) = square(&turned, scale, &InfoNce::new().unwrap());
        near(a.loss, 0.5 * (nce.loss + ecn.loss), 0.0)?;
    }

    #[test]
    fn sig_lip_is_binary_cross_entropy_of_every_cell(values in values(9), scale in 0.1f64..50.0, bias in -10.0f64..0.0) {
        let pairs = Pairs::diagonal(3).unwrap().with_scale(scale).unwrap().with_bias(bias).unwrap();
        let mut gradient = [f64::NAN; 9];
        let eval = evaluate(&SigLip::new().unwrap(), &pairs, &values, &mut gradient).unwrap();
        let bce = BinaryCrossEntropy::new().unwrap();
        let mut loss = 0.0;
        for k in 0..9 {
            let cell = bce.of_scores([scale * values[k] + bias], [if k % 4 == 0 { 1.0 } else { 0.0 }]);
            loss += cell.loss / 3.0;
            near(gradient[k], scale * cell.slopes[0] / 3.0, 0.0)?;
        }
        near(eval.loss, loss, 0.0)?;
        // One pair is one logistic regression.
        let one = Pairs::diagonal(1).unwrap();
        let mut d = [f64::NAN];
        let eval = evaluate(&SigLip::new().unwrap(), &one, &values[..1], &mut d).unwrap();
        let want = bce.of_scores([values[0]], [1.0]);
        near(eval.loss, want.loss, 0.0)?;
        near(d[0], want.slopes[0], 0.0)?;
    }

    #[test]
    fn with_one_positive_a_row_the_log_mass_is_info_nce(values in values(12), targets in prop::collection::vec(0i32..4, 3), scale in 0.1f64..50.0) {
        let pairs = Pairs::targets(&targets, 4).unwrap().with_scale(scale).unwrap();
        let (mut a, mut b) = ([f64::NAN; 12], [f64::NAN; 12]);
        let nce = evaluate(&InfoNce::new().unwrap(), &pairs, &values, &mut a).unwrap();
        let mass = evaluate(&LogMass::new().unwrap(), &pairs, &values, &mut b).unwrap();
        near(mass.loss, nce.loss, 1e-2 * scale * nce.loss)?;
        for (a, b) in a.into_iter().zip(b) {
            near(b, a, 1e-2 * scale * a.abs() + 10.0 * scale * a.abs())?;
        }
    }

    /// Two views of each thing, each thing a label of its own: the supervised contrastive loss is NT-Xent, the nll of
    /// the other view among all but the thing itself.
    #[test]
    fn supervised_contrastive_with_unique_labels_is_nt_xent(values in values(36), scale in 0.1f64..50.0) {
        let labels = [0, 1, 2, 0, 1, 2];
        let pairs = Pairs::within(&labels).unwrap().with_scale(scale).unwrap();
        let eval = evaluate(&InfoNce::new().unwrap(), &pairs, &values, &mut [f64::NAN; 36]).unwrap();
        let mut want = 0.0;
        for row in 0..6 {
            let mut logits: Vec<f64> = values[6 * row..][..6].iter().map(|s| scale * s).collect();
            logits[row] = f64::NEG_INFINITY;
            want -= reference::summarise(&logits, (row + 3) % 6).unwrap().target.log_p / 6.0;
        }
        near(eval.loss, want, 0.0)?;
        prop_assert_eq!(eval.count, 6);
    }

    /// Jensen: the mean of logarithms is below the logarithm of the mean, `L_in <= L_out`; equal where all positives are.
    #[test]
    fn the_log_mass_asks_for_any_positive_and_info_nce_for_all(values in values(16), scale in 0.1f64..50.0) {
        let labels = [0, 0, 0, 1];
        let pairs = Pairs::within(&labels).unwrap().with_scale(scale).unwrap();
        let mut gradient = [f64::NAN; 16];
        let out = evaluate(&InfoNce::new().unwrap(), &pairs, &values, &mut gradient).unwrap();
        let mass = evaluate(&LogMass::new().unwrap(), &pairs, &values, &mut gradient).unwrap();
        prop_assert_eq!((out.count, mass.count), (3, 3));
        prop_assert!(mass.loss + 2f64.ln() <= out.loss + 1e-13 * scale);
    }

    #[test]
    fn the_margin_is_a_mean_over_active_pairs(values in values(16), by in 0usize..16) {
        let objective = ThresholdConsistentMargin::new(2.0, 0.5, 0.75, 0.25).unwrap();
        let (eval, gradient) = square(&values, 1.0, &objective);
        let positive: Vec<f64> = (0..4).map(|i| values[5 * i]).filter(|s| *s <= 0.75).collect();
        let negative: Vec<f64> = (0..16).filter(|k| k % 5 != 0).map(|k| values[k]).filter(|s| *s >= 0.25).collect();
        let mean = |wrong: &[f64], of: &dyn Fn(f64) -> f64| {
            if wrong.is_empty() { 0.0 } else { wrong.iter().map(|s| of(*s)).sum::<f64>() / wrong.len() as f64 }
        };
        near(eval.loss, 2.0 * mean(&positive, &|s| 0.75 - s) + 0.5 * mean(&negative, &|s| s - 0.25), 1.0)?;
        prop_assert_eq!(eval.count, positive.len() + negative.len());
        let want = match (by % 5 == 0, values[by]) {
            (true, s) if s <= 0.75 => -2.0 / positive.len() as f64,
            (false, s) if s >= 0.25 => 0.5 / negative.len() as f64,
            _ => 0.0,
        };
        near(gradient[by], want, 0.0)?;
    }

    #[test]
    fn barlow_twins_and_vic_reg_are_0_at_the_identity(dim in 1usize..6, lambda in 0.0f32..=1.0) {
        let identity: Vec<f64> = (0..dim * dim).map(|k| if k % (dim + 1) == 0 { 1.0 } else { 0.0 }).collect();
        let (eval, gradient) = square(&identity, 1.0, &BarlowTwins::new(lambda).unwrap());
        prop_assert!(eval.loss == 0.0 && gradient.iter().all(|d| *d == 0.0) && eval.count == dim);
        let (eval, gradient) = square(&identity, 1.0, &VicReg::new(25.0, 1.0, 1.0, 1e-4).unwrap());
        prop_assert!(eval.loss == 0.0 && gradient.iter().all(|d| *d == 0.0) && eval.count == dim);
    }

    /// The standardised features of one view beside themselves correlate with 1.
    #[test]
    fn a_view_beside_itself_has_the_diagonal_of_barlow_twins(a in values(12)) {
        let mut standard = [f64::NAN; 12];
        prop_assume!(standard_columns(&a, 3, 0.0, &mut standard).is_ok());
        let mut matrix = [f64::NAN; 9];
        correlations(Views { a: &standard, b: &standard, dim: 3 }, 4.0, &mut matrix).unwrap();
        for k in 0..3 {
            prop_assert!((matrix[4 * k] - 1.0).abs() <= 1e-13);
            let mean: f64 = (0..4).map(|i| standard[3 * i + k]).sum();
            prop_assert!(mean.abs() <= 1e-13);
        }
    }

    /// Between the density of one point and that of all the same: log mean exp lies between mean and maximum.
    #[test]
    fn the_kernel_entropy_lies_between_mean_and_maximum(values in values(16), scale in 0.1f64..50.0) {
        let (eval, gradient) = square(&values, scale, &KernelEntropy::new().unwrap());
        let rows = || values.chunks(4);
        let mean: f64 = rows().map(|row| scale * row.iter().sum::<f64>() / 4.0).sum::<f64>() / 4.0;
        let greatest: f64 = rows().map(|row| scale * row.iter().fold(-1.0, |a: f64, x| a.max(*x))).sum::<f64>() / 4.0;
        prop_assert!(mean <= eval.loss + 1e-12 && eval.loss <= greatest + 1e-12);
        near(gradient.iter().sum::<f64>(), scale, 0.0)?;
    }
}

/// A row that leads by a margin keeps the relative accuracy of loss and gradient in `f32`, where a plain softmax has
/// lost both at 17.
#[test]
fn a_confident_row_keeps_its_gradient_in_single_precision() {
    fn of<T: Float>(objective: &impl SimilarityObjective, margin: f64) -> Vec<f64> {
        let x = |x: f64| T::from(x).unwrap();
        let pairs = Pairs::diagonal(2).unwrap().with_scale(x(margin)).unwrap();
        let mut gradient = [T::nan(); 4];
        let eval = evaluate(objective, &pairs, &[x(1.0), x(0.0), x(-0.125), x(1.0)], &mut gradient).unwrap();
        [eval.loss].into_iter().chain(gradient).map(|x| x.to_f64().unwrap()).collect()
    }
    fn check(objective: &impl SimilarityObjective) {
        for margin in 1..=80 {
            let margin = f64::from(margin);
            let (single, double) = (of::<f32>(objective, margin), of::<f64>(objective, margin));
            for (got, want) in single.into_iter().zip(double) {
                assert!(
                    (got / want - 1.0).abs() <= 1e-6 + 1e-7 * margin,
                    "{got:e} for {want:e} at a margin of {margin}"
                );
            }
        }
    }
    check(&InfoNce::new().unwrap());
    check(&Clip::new().unwrap());
    check(&LogMass::new().unwrap());
    check(&SigLip::new().unwrap());
}

#[test]
fn a_row_without_a_positive_takes_no_part() {
    let pairs = Pairs::within(&[3, 3, 9]).unwrap();
    let values = [0.0, 0.5, 0.25, 0.75, 0.0, -0.5, 0.1, 0.2, 0.0];
    let mut gradient = [f64::NAN; 9];
    let eval = evaluate(&InfoNce::new().unwrap(), &pairs, &values, &mut gradient).unwrap();
    assert_eq!((eval.count, &gradient[6..]), (2, &[0.0; 3][..]));
    // Nor does a masked cell, and nothing of it reaches another.
    let mut masked = values;
    masked[2] = f64::NEG_INFINITY;
    let eval = evaluate(&InfoNce::new().unwrap(), &pairs, &masked, &mut gradient).unwrap();
    assert!(eval.count == 2 && gradient[..3] == [0.0; 3] && eval.d_scale.is_finite(), "{gradient:?}");
}

#[test]
fn relations() {
    use Relation::{Excluded as E, Negative as N, Positive as P};
    let all = |pairs: Pairs<'_, f32>| -> Vec<Relation> {
        (0..pairs.rows() * pairs.columns())
            .map(|k| pairs.relation(k / pairs.columns(), k % pairs.columns()))
            .collect()
    };
    assert_eq!(all(Pairs::diagonal(2).unwrap()), [P, N, N, P]);
    assert_eq!(all(Pairs::targets(&[1, IGNORE_INDEX], 3).unwrap()), [N, P, N, E, E, E]);
    assert_eq!(all(Pairs::labels(&[4, 5], &[5, 5, 4]).unwrap()), [N, N, P, P, P, N]);
    assert_eq!(all(Pairs::within(&[1, 1, 2]).unwrap()), [E, P, N, P, E, N, N, N, E]);
    assert_eq!(all(Pairs::across(&[1, 1, 2], None).unwrap()), [E, N, P, N, E, P, P, P, E]);
    assert_eq!(all(Pairs::across(&[1, 1, 2], Some(&[7, 7, 8])).unwrap()), [E, N, E, N, E, E, E, E, E]);
}

#[test]
fn faults_of_pairs() {
    type P<'a> = Pairs<'a, f64>;
    says(P::diagonal(0), "rows: number 0 has 0 members, expected at least 1");
    says(P::targets(&[], 3), "rows: number 0 has 0 members, expected at least 1");
    says(P::targets(&[0], 0), "columns: number 0 has 0 members, expected at least 1");
    for (bad, row) in [(3, 1), (-1, 1), (i32::MIN, 1)] {
        says(
            P::targets(&[0, bad], 3),
            &format!(
                "targets: row {row} has target {bad}, expected -100 (ignored) or 0 to 2 for a vocab of 3"
            ),
        );
    }
    says(P::labels(&[1], &[]), "columns: number 0 has 0 members, expected at least 1");
    says(P::within(&[1]), "rows: number 0 has 1 members, expected at least 2");
    says(P::across(&[], None), "rows: number 0 has 0 members, expected at least 2");
    says(P::across(&[1, 2], Some(&[1])), "labels: expected 2 values, got 1");
    says(
        P::diagonal(usize::MAX),
        "shape: 18446744073709551615 rows with a stride of 18446744073709551615 exceed what can be indexed",
    );
    let pairs = P::diagonal(2).unwrap();
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        says(pairs.with_scale(bad), &format!("scale: value 0 is {bad}, expected a finite number above 0"));
    }
    says(pairs.with_bias(f64::NAN), "bias: value 0 is NaN, expected a finite number");
    says(pairs.with_log_q(&[0.0]), "log_q: expected 2 values, got 1");
    says(pairs.with_log_q(&[0.0, f64::NEG_INFINITY]), "log_q: value 1 is -inf, expected a finite number");
}

#[test]
fn faults_of_matrices() {
    let none = Pairs::<f64>::within(&[1, 2]).unwrap();
    let mut d = [0.0; 4];
    let text = "rows with a positive: number 0 has 0 members, expected at least 1";
    says(evaluate(&InfoNce::new().unwrap(), &none, &[0.5; 4], &mut d), text);
    says(evaluate(&Clip::new().unwrap(), &none, &[0.5; 4], &mut d), text);
    says(evaluate(&LogMass::new().unwrap(), &none, &[0.5; 4], &mut d), text);
    let text = "positive pairs: number 0 has 0 members, expected at least 1";
    says(evaluate(&Alignment::new().unwrap(), &none, &[0.5; 4], &mut d), text);
    let masked = [f64::NEG_INFINITY; 4];
    let text = "rows: number 0 has 0 members, expected at least 1";
    says(evaluate(&SigLip::new().unwrap(), &none, &masked, &mut d), text);
    says(evaluate(&KernelEntropy::new().unwrap(), &none, &masked, &mut d), text);
    let diagonal = Pairs::diagonal(2).unwrap();
    says(
        evaluate(&VicReg::new(1.0, 1.0, 1.0, 1e-4).unwrap(), &diagonal, &[1.0, 0.0, 0.0, -0.5], &mut d),
        "covariances: value 3 is -0.5, expected a variance, at least 0, on the diagonal",
    );
}

#[test]
fn faults_of_embeddings() {
    let mut out = [0.0f64; 4];
    says(
        unit_rows(&[1.0; 4], 0, &mut out),
        "dim: expected 1 to 2147483647 elements of a hidden state, got 0",
    );
    says(unit_rows::<f64>(&[], 2, &mut []), "embeddings: number 0 has 0 members, expected at least 1");
    says(unit_rows(&[1.0; 5], 2, &mut out), "embeddings: expected 4 values, got 5");
    says(unit_rows(&[1.0; 6], 2, &mut out), "units: expected 6 values, got 4");
    says(unit_rows_backward(&[1.0; 6], 2, &mut out), "gradient: expected 6 values, got 4");
    says(
        unit_rows(&[1.0, 2.0, f64::NAN, 0.0], 2, &mut out),
        "embeddings: value 2 is NaN, expected a finite number",
    );
    let text = "embeddings: value 2 is 0, expected a row of a finite length above 0";
    says(unit_rows(&[1.0, 2.0, 0.0, 0.0], 2, &mut out), text);
    says(unit_rows_backward(&[1.0, 2.0, 0.0, 0.0], 2, &mut out), text);
    says(
        unit_rows(&[1.0, 2.0, f64::MAX, f64::MAX], 2, &mut out),
        "embeddings: value 2 is inf, expected a row of a finite length above 0",
    );
    // A row that is tiny or huge has a unit all the same.
    unit_rows(&[3e-320, 4e-320, 3e300, -4e300], 2, &mut out).unwrap();
    let want = [0.6, 0.8, 0.6, -0.8];
    assert!(
        out.iter().zip(want).all(|(got, want)| (got - want).abs() <= 1e-3) && out[2..] == want[2..],
        "{out:?}"
    );

    says(
        centred_columns(&[1.0; 2], 2, &mut [0.0; 2]),
        "embeddings: number 0 has 1 members, expected at least 2",
    );
    says(centred_columns(&[1.0; 6], 2, &mut out), "centred: expected 6 values, got 4");
    says(centred_columns_backward(3, &mut out), "embeddings: expected 3 values, got 4");
    says(standard_columns(&[1.0; 6], 2, 0.1, &mut out), "standard: expected 6 values, got 4");
    says(standard_columns_backward(&[1.0; 6], 2, 0.1, &mut out), "gradient: expected 6 values, got 4");
    let constant = [1.0, 5.0, 2.0, 5.0];
    let text = "embeddings: value 1 is 0, expected a column whose variance plus eps is finite and above 0";
    says(standard_columns(&constant, 2, 0.0, &mut out), text);
    says(standard_columns_backward(&constant, 2, 0.0, &mut out), text);
    standard_columns(&constant, 2, 1e-5, &mut out).unwrap();
    assert_eq!((out[1], out[3]), (0.0, 0.0));
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        let text = format!("eps: value 0 is {bad}, expected a finite number of at least 0");
        says(standard_columns(&constant, 2, bad, &mut out), &text);
    }

    let of = |a: usize, b: usize, dim: usize, scratch: usize, da: usize, db: usize, way: usize| {
        let x = |n: usize| (0..n).map(|k| (k as f64).sin()).collect::<Vec<_>>();
        let (a, b, mut scratch, mut da, mut db) = (x(a), x(b), x(scratch), x(da), x(db));
        let (views, gradient) = (Views { a: &a, b: &b, dim }, ViewsGradient { da: &mut da, db: &mut db });
        match way {
            0 => evaluate_cosine(&InfoNce::new()?, &Pairs::diagonal(2)?, views, &mut scratch, gradient),
            1 => evaluate_correlation(&BarlowTwins::new(0.1)?, 1e-5, views, &mut scratch, gradient),
            _ => evaluate_covariance(&VicReg::new(1.0, 1.0, 1.0, 1e-4)?, &a, dim, &mut scratch, &mut da),
        }
    };
    for (way, scratch) in [(0, 2 * 6 + 2 * 4), (1, 2 * 6 + 2 * 9), (2, 2 * 6 + 2 * 9)] {
        assert!(of(6, 6, 3, scratch, 6, 6, way).is_ok());
        says(
            of(6, 6, 0, scratch, 6, 6, way),
            "dim: expected 1 to 2147483647 elements of a hidden state, got 0",
        );
        says(
            of(6, 6, 3, scratch - 1, 6, 6, way),
            &format!("scratch: expected {scratch} values, got {}", scratch - 1),
        );
        let (a, da) = if way == 2 { ("embeddings", "gradient") } else { ("a", "da") };
        says(of(7, 6, 3, scratch, 6, 6, way), &format!("{a}: expected 6 values, got 7"));
        says(of(6, 6, 3, scratch, 5, 6, way), &format!("{da}: expected 6 values, got 5"));
        if way < 2 {
            says(of(6, 3, 3, scratch, 6, 3, way), "b: expected 6 values, got 3");
            says(of(6, 6, 3, scratch, 6, 7, way), "db: expected 6 values, got 7");
        }
    }
    says(of(9, 6, 3, 20, 9, 6, 0), "a: expected 6 values, got 9");

    let x = [1.0f64; 6];
    let views = Views { a: &x, b: &x, dim: 3 };
    let (mut da, mut db) = ([0.0; 6], [0.0; 6]);
    says(similarities(views, &mut [0.0; 3]), "similarities: expected 4 values, got 3");
    says(correlations(views, 2.0, &mut [0.0; 8]), "correlations: expected 9 values, got 8");
    let gradient = ViewsGradient { da: &mut da, db: &mut db };
    says(similarities_backward(views, &[0.0; 5], gradient), "dsimilarities: expected 4 values, got 5");
    let gradient = ViewsGradient { da: &mut da, db: &mut db };
    says(correlations_backward(views, 2.0, &[0.0; 4], gradient), "dcorrelations: expected 9 values, got 4");
}
