//! Every listed objective of sequences, pairs and groups in one shape, and what to try it with: a new line in
//! the list is under every test of [`suite`] and [`golden`].

use crate::draw::{cases, within};
use num_traits::Float;
use proptest::prelude::*;
use std::fmt::Debug;
use tokenloss_core::group::{AnyGroup, GroupObjective};
use tokenloss_core::preference::{AnyPreference, PreferenceObjective};
use tokenloss_core::sequence::{AnySequence, Needs, Response, SequenceObjective};
use tokenloss_core::{Error, MAX_PARAMETERS, Parameter};

mod golden;
mod suite;

/// An objective as a function of some sequences: one, a preferred and a rejected one, or a group.
pub(crate) trait Judge: Debug {
    fn of(&self, group: &[Response<f64>], gap: f64) -> (f64, Vec<f64>);
    fn of_single(&self, group: &[Response<f32>], gap: f32) -> (f32, Vec<f32>);
    fn held(&self, frozen: &[Response<f64>], live: &[Response<f64>], gap: f64) -> f64;
    fn kink(&self, group: &[Response<f64>]) -> Option<f64>;
    fn kink_single(&self, group: &[Response<f32>]) -> Option<f32>;
    fn needs(&self) -> Needs;
}

#[derive(Debug)]
struct OfSequence<O>(O);
#[derive(Debug)]
struct OfPair<O>(O);
#[derive(Debug)]
struct OfGroup<O>(O);

fn sequence<T: Float>(objective: &impl SequenceObjective, group: &[Response<T>]) -> (T, Vec<T>) {
    let eval = objective.of_sequence(&group[0]);
    (eval.loss, vec![eval.slope])
}

fn pair<T: Float>(objective: &impl PreferenceObjective, group: &[Response<T>], gap: T) -> (T, Vec<T>) {
    let eval = objective.of_pair(&group[0], &group[1], gap);
    (eval.loss, vec![eval.slope_chosen, eval.slope_rejected])
}

fn group<T: Float>(objective: &impl GroupObjective, group: &[Response<T>]) -> (T, Vec<T>) {
    let mut slopes = vec![T::nan(); group.len()];
    let loss = objective.of_group(group, &mut slopes);
    (loss, slopes)
}

impl<O: SequenceObjective + Debug> Judge for OfSequence<O> {
    fn of(&self, group: &[Response<f64>], _: f64) -> (f64, Vec<f64>) {
        sequence(&self.0, group)
    }
    fn of_single(&self, group: &[Response<f32>], _: f32) -> (f32, Vec<f32>) {
        sequence(&self.0, group)
    }
    fn held(&self, _: &[Response<f64>], live: &[Response<f64>], _: f64) -> f64 {
        self.0.of_sequence(&live[0]).loss
    }
    fn kink(&self, group: &[Response<f64>]) -> Option<f64> {
        self.0.kink(&group[0])
    }
    fn kink_single(&self, group: &[Response<f32>]) -> Option<f32> {
        self.0.kink(&group[0])
    }
    fn needs(&self) -> Needs {
        self.0.needs()
    }
}

impl<O: PreferenceObjective + Debug> Judge for OfPair<O> {
    fn of(&self, group: &[Response<f64>], gap: f64) -> (f64, Vec<f64>) {
        pair(&self.0, group, gap)
    }
    fn of_single(&self, group: &[Response<f32>], gap: f32) -> (f32, Vec<f32>) {
        pair(&self.0, group, gap)
    }
    fn held(&self, _: &[Response<f64>], live: &[Response<f64>], gap: f64) -> f64 {
        self.0.of_pair(&live[0], &live[1], gap).loss
    }
    fn kink(&self, group: &[Response<f64>]) -> Option<f64> {
        self.0.kink(&group[0], &group[1])
    }
    fn kink_single(&self, group: &[Response<f32>]) -> Option<f32> {
        self.0.kink(&group[0], &group[1])
    }
    fn needs(&self) -> Needs {
        self.0.needs()
    }
}

impl<O: GroupObjective + Debug> Judge for OfGroup<O> {
    fn of(&self, responses: &[Response<f64>], _: f64) -> (f64, Vec<f64>) {
        self.0.check(responses, 0).expect("a group that is drawn is in order");
        group(&self.0, responses)
    }
    fn of_single(&self, responses: &[Response<f32>], _: f32) -> (f32, Vec<f32>) {
        group(&self.0, responses)
    }
    fn held(&self, frozen: &[Response<f64>], live: &[Response<f64>], _: f64) -> f64 {
        self.0.held(frozen, live, &mut vec![f64::NAN; live.len()])
    }
    fn kink(&self, group: &[Response<f64>]) -> Option<f64> {
        self.0.kink(group)
    }
    fn kink_single(&self, group: &[Response<f32>]) -> Option<f32> {
        self.0.kink(group)
    }
    fn needs(&self) -> Needs {
        self.0.needs()
    }
}

type New = fn(&str, [f32; MAX_PARAMETERS]) -> Option<Result<Box<dyn Judge>, Error>>;

/// A line of the list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) parameters: &'static [Parameter],
    new: New,
}

macro_rules! lines {
    ($kind:literal $any:ident $of:ident) => {
        $any::NAMES.iter().map(|name| Line {
            name,
            kind: $kind,
            parameters: $any::parameters_of(name).unwrap(),
            new: |name, values| {
                Some($any::with_parameters(name, values)?.map(|o| Box::new($of(o)) as Box<dyn Judge>))
            },
        })
    };
}

pub(crate) fn all() -> Vec<Line> {
    lines!("sequence" AnySequence OfSequence)
        .chain(lines!("preference" AnyPreference OfPair))
        .chain(lines!("group" AnyGroup OfGroup))
        .collect()
}

impl Line {
    pub(crate) fn with(self, values: [f32; MAX_PARAMETERS]) -> Result<Box<dyn Judge>, Error> {
        (self.new)(self.name, values).expect("a name of the list")
    }

    /// Values of its parameters, over their domains.
    fn values(self) -> BoxedStrategy<[f32; MAX_PARAMETERS]> {
        let values: Vec<_> = self.parameters.iter().map(within).collect();
        values
            .prop_map(|values| {
                let mut all = [0.0; MAX_PARAMETERS];
                all[..values.len()].copy_from_slice(&values);
                all
            })
            .boxed()
    }
}

/// Sequences as they come: of all lengths, from sure to hopeless, near a reference and far from it. All
/// numbers are values of f32. `rewards` are in descending order, and often equal.
pub(crate) fn responses(count: impl Strategy<Value = usize>) -> impl Strategy<Value = Vec<Response<f32>>> {
    let response = (
        prop_oneof![Just(1u16), 1u16..300],
        prop_oneof![4 => 0.0f32..4.0, 1 => (-20.0f32..0.0).prop_map(f32::exp)],
        prop_oneof![4 => -3.0f32..3.0, 1 => -60.0f32..60.0, 1 => Just(0.0)],
        prop_oneof![3 => 0.0f32..3.0, 1 => Just(1.0), 1 => Just(0.0)],
        -2.0f32..5.0,
    );
    count.prop_flat_map(move |count| prop::collection::vec(response.clone(), count)).prop_map(|drawn| {
        let mut responses: Vec<Response<f32>> = drawn
            .into_iter()
            .map(|(length, nll, ratio, reward, baseline)| {
                let length = f32::from(length);
                let log_p = -nll * length;
                Response { log_p, length, reference: (log_p - ratio).min(0.0), reward, baseline }
            })
            .collect();
        // Something of each group is worth something.
        responses[0].reward += 0.5;
        responses.sort_by(|a, b| b.reward.total_cmp(&a.reward));
        responses
    })
}

pub(crate) fn double(responses: &[Response<f32>]) -> Vec<Response<f64>> {
    let double = f64::from;
    responses
        .iter()
        .map(|&Response { log_p, length, reference, reward, baseline }| Response {
            log_p: double(log_p),
            length: double(length),
            reference: double(reference),
            reward: double(reward),
            baseline: double(baseline),
        })
        .collect()
}

/// What a line is drawn with: parameters, sequences and a gap.
type Point = ([f32; MAX_PARAMETERS], Vec<Response<f32>>, f32);

fn point(line: Line) -> impl Strategy<Value = Point> {
    let count = match line.kind {
        "sequence" => Just(1).boxed(),
        "preference" => Just(2).boxed(),
        _ => (2usize..7).boxed(),
    };
    (line.values(), responses(count), prop_oneof![-3.0f32..10.0, Just(0.0)]).prop_map(move |mut point| {
        // A single sequence may be worth less than nothing; of groups only the differences count.
        if line.kind != "group" {
            point.1[0].reward -= 1.5;
        }
        point
    })
}

/// Runs a test of every line on its own, so that each is drawn as often.
fn for_each_line(lines: Vec<Line>, count: u32, test: impl Fn(Line, Point) -> Result<(), TestCaseError>) {
    for line in lines {
        let mut runner = proptest::test_runner::TestRunner::new(cases(count));
        if let Err(error) = runner.run(&point(line), |point| test(line, point)) {
            panic!("{}: {error}", line.name);
        }
    }
}

fn numbers(loss: f64, slopes: impl Iterator<Item = f64>) -> impl Iterator<Item = f64> {
    std::iter::once(loss).chain(slopes)
}

/// What loss and slopes may be off by where every number, parameters too, is rounded to `ulp` of itself: what
/// they change by if each changes by 4 of these, and 16 operations of one unit each on what is no difference.
pub(crate) fn condition(
    line: Line,
    values: [f32; MAX_PARAMETERS],
    group: &[Response<f64>],
    gap: f64,
    ulp: f64,
) -> Vec<f64> {
    let flat = |values: [f32; MAX_PARAMETERS], group: &[Response<f64>], gap: f64| {
        let (loss, slopes) = line.with(values).unwrap().of(group, gap);
        numbers(loss, slopes.into_iter()).collect::<Vec<_>>()
    };
    let at = flat(values, group, gap);
    let mut tolerance: Vec<f64> = at.iter().map(|x| 16.0 * ulp * x.abs()).collect();
    // Differences that can be 0 of numbers that are not: as the documentation says, and the slopes of a group, of which each
    // is a sum over the others.
    let pushed: f64 = at[1..].iter().map(|slope| slope.abs()).sum();
    match (line.name, line.kind) {
        ("exo", _) => tolerance[0] += 4.0 * ulp * -f64::from(values[1]).ln(),
        ("apo_down", _) => tolerance[1] += ulp * f64::from(values[0]),
        (_, "group") => tolerance[1..].iter_mut().for_each(|tolerance| *tolerance += 4.0 * ulp * pushed),
        _ => {}
    }
    let mut add = |share: f64, moved: Vec<f64>| {
        for (tolerance, (moved, at)) in tolerance.iter_mut().zip(moved.iter().zip(&at)) {
            *tolerance += share * (moved - at).abs();
        }
    };
    let fields: [fn(&mut Response<f64>) -> &mut f64; 4] =
        [|r| &mut r.log_p, |r| &mut r.reference, |r| &mut r.baseline, |r| &mut r.length];
    for i in 0..group.len() {
        for field in fields {
            for sign in [-1.0, 1.0] {
                let mut moved = group.to_vec();
                *field(&mut moved[i]) *= 1.0 + 4.0 * sign * ulp;
                add(1.0, flat(values, &moved, gap));
            }
        }
    }
    // All rewards at once, which keeps their order.
    let moved: Vec<_> =
        group.iter().map(|r| Response { reward: r.reward * (1.0 + 4.0 * ulp), ..*r }).collect();
    add(1.0, flat(values, &moved, gap));
    add(1.0, flat(values, group, gap * (1.0 + 4.0 * ulp)));
    for (i, parameter) in line.parameters.iter().enumerate() {
        for sign in [-1.0, 1.0] {
            // A parameter is an f32, so that it changes by more, of which the share counts that `ulp` is.
            let mut moved = values;
            moved[i] = (values[i] * (1.0 + 4.0 * sign * f32::EPSILON)).clamp(parameter.min, parameter.max);
            add(ulp / f64::from(f32::EPSILON), flat(moved, group, gap));
        }
    }
    tolerance
}
