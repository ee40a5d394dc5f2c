//! The objectives of scores: every listed one under the same suites, and what is known of each.

use crate::difference::derivative;
use crate::draw::{cases, within};
use crate::listed::{self, Build, numbers};
use num_traits::Float;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use std::fmt::Debug;
use tokenloss_core::score::*;
use tokenloss_core::{Denominator, Error, Listed, Reduction, Totals, for_each_objective};

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
            fn slopes_are_those_of_the_loss() {
                differences(build);
            }

            #[test]
            fn slopes_are_right_on_both_sides_of_every_kink() {
                both_sides(build);
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
for_each_objective!(scores, suites);

/// Numbers that a head may give, all of them values of an `f32`.
fn number(domain: Domain) -> BoxedStrategy<f64> {
    let wide = (-12.0f32..4.0, any::<bool>()).prop_map(|(e, up)| if up { e.exp() } else { -e.exp() });
    let strategy = match domain {
        Domain::Real => prop_oneof![4 => -8.0f32..8.0, 2 => wide, 1 => Just(0.0f32)].boxed(),
        Domain::Positive => (-5.0f32..4.0).prop_map(f32::exp).boxed(),
        Domain::Probability => prop_oneof![4 => 0.0f32..=1.0, 1 => Just(0.0), 1 => Just(1.0)].boxed(),
        Domain::Sign => prop_oneof![Just(-1.0f32), Just(1.0)].boxed(),
    };
    strategy.prop_map(f64::from).boxed()
}

/// Parameters over the declared domain, and a sample over that of its inputs.
type Drawn = (Vec<f32>, Vec<f64>, Vec<f64>);

fn drawn<O, const S: usize, const N: usize>() -> BoxedStrategy<Drawn>
where
    O: ScoreObjective<S, N> + Listed,
{
    let (scores, targets) = O::inputs();
    let parameters: Vec<_> = O::PARAMETERS.iter().map(within).collect();
    let of = |inputs: &[Input]| inputs.iter().map(|input| number(input.domain)).collect::<Vec<_>>();
    (parameters, of(&scores), of(&targets)).boxed()
}

fn array<T: Debug, const N: usize>(values: Vec<T>) -> [T; N] {
    values.try_into().unwrap()
}

pub(crate) fn for_all<V: Debug>(
    count: u32,
    strategy: BoxedStrategy<V>,
    test: &dyn Fn(V) -> Result<(), TestCaseError>,
) {
    TestRunner::new(cases(count)).run(&strategy, test).unwrap_or_else(|error| panic!("{error}"));
}

/// How far score `k` may move before it meets a kink or, for a positive one, 0.
fn room<O, const S: usize, const N: usize>(
    objective: &O,
    scores: [f64; S],
    targets: [f64; N],
    k: usize,
) -> f64
where
    O: ScoreObjective<S, N>,
{
    let kinks = objective.kinks(targets).into_iter().flatten().filter(|_| k == 0);
    let room = kinks.map(|kink| (kink - scores[k]).abs()).fold(f64::INFINITY, f64::min);
    if O::inputs().0[k].domain == Domain::Positive { room.min(scores[k]) } else { room }
}

/// Whether the slope by score `k` is the difference there; `None` where there is no room to tell.
fn slope_is_difference<O, const S: usize, const N: usize>(
    objective: &O,
    scores: [f64; S],
    targets: [f64; N],
    k: usize,
) -> Result<Option<f64>, TestCaseError>
where
    O: ScoreObjective<S, N> + Debug,
{
    let step = (0.9 * room(objective, scores, targets, k)).min(0.25 * (1.0 + scores[k].abs()));
    if step < 1e-6 {
        return Ok(None);
    }
    let loss = |by: f64| {
        let mut moved = scores;
        moved[k] += by;
        objective.of_scores(moved, targets).loss
    };
    let (want, error) = derivative(loss, step);
    let got = objective.of_scores(scores, targets).slopes[k];
    // What rounding a score itself does, whose step is then not the one that was asked for.
    let rounding = 1e-9 * got.abs() + 1e-12;
    prop_assert!(
        (got - want).abs() <= 4.0 * error + rounding,
        "{objective:?} at {scores:?}, {targets:?}: slope {k} is {got:e}, the difference is {want:e} up to {error:e}"
    );
    Ok((error <= 1e-4 * got.abs() + 1e-6).then_some(error))
}

fn differences<O, const S: usize, const N: usize>(build: Build<O>)
where
    O: ScoreObjective<S, N> + Listed + Debug,
{
    let told = std::cell::Cell::new((0u32, 0u32));
    for_all(2000, drawn::<O, S, N>(), &|(parameters, scores, targets)| {
        let (objective, scores, targets) =
            (build(&parameters).unwrap(), array::<_, S>(scores), array::<_, N>(targets));
        // Where an exponential has stopped, the loss is constant.
        prop_assume!(objective.of_scores(scores, targets).loss < 1e290);
        for k in 0..S {
            let sharp = slope_is_difference(&objective, scores, targets, k)?.is_some();
            let (all, good) = told.get();
            told.set((all + 1, good + u32::from(sharp)));
        }
        Ok(())
    });
    // A test that cannot tell tells nothing. The rest lies on a kink, or is an exponential of 1e5 times a score.
    let (all, good) = told.get();
    assert!(2 * good >= all, "only {good} of {all} differences are sharp");
}

fn both_sides<O, const S: usize, const N: usize>(build: Build<O>)
where
    O: ScoreObjective<S, N> + Listed + Debug,
{
    for_all(200, drawn::<O, S, N>(), &|(parameters, scores, targets)| {
        let (objective, mut scores, targets) =
            (build(&parameters).unwrap(), array::<_, S>(scores), array::<_, N>(targets));
        for kink in objective.kinks(targets).into_iter().flatten() {
            for side in [-1.0, 1.0] {
                scores[0] = kink + side * 1e-4;
                prop_assert!(slope_is_difference(&objective, scores, targets, 0)?.is_some());
            }
        }
        Ok(())
    });
}

/// What an evaluation with a rounding of `eps` may be off by: a few roundings of what it computes, and what it makes of
/// a rounding of each parameter and of each input, to twice the sum of all of these, which their difference amounts to.
/// Labels and probabilities are exact.
fn granted<O, const S: usize, const N: usize>(
    build: Build<O>,
    objective: &O,
    scores: [f64; S],
    targets: [f64; N],
    eps: f64,
) -> (f64, [f64; S])
where
    O: ScoreObjective<S, N> + Listed,
{
    let at = objective.of_scores(scores, targets);
    let size: f64 = scores.iter().chain(&targets).map(|x| x.abs()).sum();
    let (mut loss, mut slopes) =
        (16.0 * eps * at.loss.abs(), at.slopes.map(|slope| 16.0 * eps * slope.abs()));
    let mut grant = |moved: ScoreEval<f64, S>, factor: f64| {
        loss += factor * (moved.loss - at.loss).abs();
        for (granted, (moved, at)) in slopes.iter_mut().zip(moved.slopes.into_iter().zip(at.slopes)) {
            *granted += factor * (moved - at).abs();
        }
    };
    for (k, parameter) in O::PARAMETERS.iter().enumerate() {
        // A parameter is an f32, whose next one is as far away as eps allows: to first order, a part of that.
        let mut values = objective.parameters()[..O::PARAMETERS.len()].to_vec();
        values[k] = if values[k] < parameter.max { values[k].next_up() } else { values[k].next_down() };
        grant(build(&values).unwrap().of_scores(scores, targets), 4.0 * eps / f64::from(f32::EPSILON));
    }
    for k in 0..S + N {
        for side in [-2.0, 2.0] {
            let (mut scores, mut targets) = (scores, targets);
            let input = if k < S { &mut scores[k] } else { &mut targets[k - S] };
            let (of_scores, of_targets) = O::inputs();
            let domain = if k < S { of_scores[k].domain } else { of_targets[k - S].domain };
            *input = match domain {
                Domain::Real => *input + side * eps * size,
                Domain::Positive => *input * (1.0 + side * eps),
                Domain::Probability | Domain::Sign => *input,
            };
            grant(objective.of_scores(scores, targets), 1.0);
        }
    }
    (loss, slopes)
}

fn precision<O, const S: usize, const N: usize>(build: Build<O>)
where
    O: ScoreObjective<S, N> + Listed + Debug,
{
    for_all(4000, drawn::<O, S, N>(), &|(parameters, scores, targets)| {
        let (objective, scores, targets) =
            (build(&parameters).unwrap(), array::<_, S>(scores), array::<_, N>(targets));
        let (single, double) = (
            objective.of_scores(scores.map(|x| x as f32), targets.map(|x| x as f32)),
            objective.of_scores(scores, targets),
        );
        let (loss, slopes) = granted(build, &objective, scores, targets, f64::from(f32::EPSILON));
        // What an f32 can hold.
        let holds = |x: f64| x.abs() < 1e25;
        let least = 1e-37;
        prop_assert!(
            !holds(double.loss) || (f64::from(single.loss) - double.loss).abs() <= loss + least,
            "{objective:?} at {scores:?}, {targets:?}: loss {:e} for {:e}, granted {loss:e}",
            single.loss,
            double.loss
        );
        for (k, granted) in slopes.into_iter().enumerate() {
            let (got, want) = (f64::from(single.slopes[k]), double.slopes[k]);
            prop_assert!(
                !holds(want) || (got - want).abs() <= granted + least,
                "{objective:?} at {scores:?}, {targets:?}: slope {k} is {got:e} for {want:e}, granted {granted:e}"
            );
        }
        Ok(())
    });
}

/// From nothing to the greatest number of the type.
fn extreme<T: Float>(domain: Domain) -> Vec<T> {
    let of = |x: f64| T::from(x).unwrap();
    let sizes =
        [T::min_positive_value(), of(1e-30), of(1e-7), T::one(), of(90.0), of(1e4), of(1e20), T::max_value()];
    match domain {
        Domain::Real => sizes.into_iter().chain(sizes.map(|x| -x)).chain([T::zero()]).collect(),
        Domain::Positive => sizes.to_vec(),
        Domain::Probability => {
            vec![T::zero(), T::min_positive_value(), of(0.5), T::one() - T::epsilon(), T::one()]
        }
        Domain::Sign => vec![-T::one(), T::one()],
    }
}

fn extremes<O, const S: usize, const N: usize>(build: Build<O>)
where
    O: ScoreObjective<S, N> + Listed + Debug,
{
    fn of<T: Float + Debug + 'static, O, const S: usize, const N: usize>(build: Build<O>)
    where
        O: ScoreObjective<S, N> + Listed + Debug,
    {
        let (scores, targets) = O::inputs();
        let select = |inputs: &[Input]| -> Vec<_> {
            inputs.iter().map(|input| prop::sample::select(extreme::<T>(input.domain))).collect()
        };
        let parameters: Vec<_> = O::PARAMETERS.iter().map(within).collect();
        for_all(3000, (parameters, select(&scores), select(&targets)).boxed(), &|(
            parameters,
            scores,
            targets,
        )| {
            let objective = build(&parameters).unwrap();
            let (scores, targets): ([T; S], [T; N]) =
                (scores.try_into().unwrap(), targets.try_into().unwrap());
            let eval = objective.of_scores(scores, targets);
            let wide = |x: T| x.to_f64().unwrap();
            // Infinite only where the exact number does not fit: an f64 tells for an f32.
            let exact = objective.of_scores(scores.map(wide), targets.map(wide));
            let fits =
                |x: f64| x.abs() <= 0.1 * wide(T::max_value()) && T::epsilon().to_f64() != Some(f64::EPSILON);
            prop_assert!(!eval.loss.is_nan(), "{objective:?} at {scores:?}, {targets:?}: {eval:?}");
            prop_assert!(
                eval.loss.is_finite() || !fits(exact.loss),
                "{objective:?} at {scores:?}, {targets:?}: {eval:?}"
            );
            for (slope, exact) in eval.slopes.into_iter().zip(exact.slopes) {
                prop_assert!(!slope.is_nan(), "{objective:?} at {scores:?}, {targets:?}: {eval:?}");
                prop_assert!(
                    slope.is_finite() || !fits(exact),
                    "{objective:?} at {scores:?}, {targets:?}: {eval:?}"
                );
            }
            Ok(())
        });
    }
    of::<f32, O, S, N>(build);
    of::<f64, O, S, N>(build);
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../golden/score.json")).expect("the file is JSON")
}

fn golden<O, const S: usize, const N: usize>(build: Build<O>)
where
    O: ScoreObjective<S, N> + Listed + Debug,
{
    let vectors = vectors();
    let entries = vectors["scores"].as_array().unwrap().iter().filter(|e| e["objective"] == O::NAME);
    let mut points = 0;
    for entry in entries {
        let parameters: Vec<f32> = numbers(&entry["parameters"]).into_iter().map(|x| x as f32).collect();
        let objective = build(&parameters).unwrap();
        for point in entry["points"].as_array().unwrap() {
            let scores: [f64; S] = numbers(&point["scores"]).try_into().unwrap();
            let targets: [f64; N] = numbers(&point["targets"]).try_into().unwrap();
            let want = (point["loss"].as_str().unwrap().parse::<f64>().unwrap(), numbers(&point["slopes"]));
            let eval = objective.of_scores(scores, targets);
            let (loss, slopes) = granted(build, &objective, scores, targets, f64::EPSILON);
            assert!(
                (eval.loss - want.0).abs() <= loss,
                "{objective:?} at {scores:?}, {targets:?}: loss {:e} for {:e}, granted {loss:e}",
                eval.loss,
                want.0
            );
            for (k, granted) in slopes.into_iter().enumerate() {
                let (got, want) = (eval.slopes[k], want.1[k]);
                assert!(
                    (got - want).abs() <= granted,
                    "{objective:?} at {scores:?}, {targets:?}: slope {k} is {got:e} for {want:e}, granted {granted:e}"
                );
            }
            points += 1;
        }
    }
    assert!(
        points >= 5,
        "core/golden/score.py has {points} points of {}; add its formula and run it",
        O::NAME
    );
}

fn domains<O, const S: usize, const N: usize>(build: Build<O>)
where
    O: ScoreObjective<S, N> + Listed + Debug,
{
    listed::domains(build);
    assert_eq!(O::KIND, "score");
    // Every input of the batch is checked by its name.
    let objective = build(&listed::defaults::<O>()).unwrap();
    let (of_scores, of_targets) = O::inputs();
    let good: Vec<[f64; 2]> = of_scores.iter().chain(&of_targets).map(|_| [1.0; 2]).collect();
    for (k, input) in of_scores.iter().chain(&of_targets).enumerate() {
        let bad = match input.domain {
            Domain::Real => vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY],
            Domain::Positive => vec![0.0, -1.0, f64::NAN, f64::INFINITY],
            Domain::Probability => vec![-0.1, 1.1, f64::NAN],
            Domain::Sign => vec![0.0, 0.5, f64::NAN],
        };
        for bad in bad {
            let mut values = good.clone();
            values[k][1] = bad;
            let slices: Vec<&[f64]> = values.iter().map(|x| x.as_slice()).collect();
            let batch = ScoreBatch {
                scores: slices[..S].try_into().unwrap(),
                targets: slices[S..].try_into().unwrap(),
                weights: None,
            };
            let error = evaluate(&objective, Reduction::Sum, &batch, None, None).unwrap_err();
            let expected = input.domain.expected();
            assert_eq!(error.to_string(), format!("{}: value 1 is {bad}, expected {expected}", input.name));
            // A sample that counts nothing may hold anything.
            let batch = ScoreBatch { weights: Some(&[1.0, 0.0]), ..batch };
            evaluate(&objective, Reduction::Sum, &batch, None, None).unwrap();
        }
    }
}

/// Of one score and one target.
fn of<O: ScoreObjective>(objective: O, score: f64, target: f64) -> (f64, f64) {
    let eval = objective.of_scores([score], [target]);
    (eval.loss, eval.slopes[0])
}

/// Equal up to a few roundings of either and of `scale`.
#[track_caller]
fn near((loss, slope): (f64, f64), want: (f64, f64), scale: f64) {
    for (got, want) in [(loss, want.0), (slope, want.1)] {
        assert!((got - want).abs() <= 8.0 * f64::EPSILON * (want.abs() + scale), "{got:e} for {want:e}");
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn the_middle_of_pinball_and_expectile_is_half_of_the_plain_error(score in -9.0f64..9.0, target in -9.0f64..9.0) {
        let (loss, slope) = of(Squared::new().unwrap(), score, target);
        near(of(Expectile::new(0.5).unwrap(), score, target), (loss / 2.0, slope / 2.0), 0.0);
        let error = score - target;
        near(of(Pinball::new(0.5).unwrap(), score, target), (error.abs() / 2.0, error.signum() / 2.0), 0.0);
    }

    #[test]
    fn pinball_and_expectile_are_mirrored(tau in 0.0f32..=1.0, score in -9.0f64..9.0, target in -9.0f64..9.0) {
        prop_assume!(score != target);
        // 1 - tau in an f32 is exact from 1/2 on.
        let (tau, mirrored) = (1.0 - (1.0 - tau), 1.0 - tau);
        let flip = |(loss, slope): (f64, f64)| (loss, -slope);
        near(of(Pinball::new(tau).unwrap(), score, target), flip(of(Pinball::new(mirrored).unwrap(), target, score)), 1e-7);
        near(of(Expectile::new(tau).unwrap(), score, target), flip(of(Expectile::new(mirrored).unwrap(), target, score)), 1e-7);
    }

    #[test]
    fn huber_is_quadratic_within_delta_and_linear_beyond(delta in 0.001f32..1000.0, u in 0.0f64..2.0) {
        let (delta, huber) = (f64::from(delta), Huber::new(delta).unwrap());
        let (loss, slope) = of(huber, u * delta, 0.0);
        if u <= 1.0 {
            near((loss, slope), (0.5 * (u * delta) * (u * delta), u * delta), 0.0);
        } else {
            near((loss, slope), (delta * delta * (u - 0.5), delta), 0.0);
        }
    }

    /// e^2 / 2c - c (e/c)^4 / 8 + .. below c, and e - c + c^2 / 2e - .. above: an alternating series lies within its
    /// first term left out.
    #[test]
    fn pseudo_huber_is_quadratic_below_c_and_linear_above(c in 0.001f32..1000.0, e in -18.0f64..-2.0) {
        let (objective, c) = (PseudoHuber::new(c).unwrap(), f64::from(c));
        let small = c * e.exp();
        let (loss, slope) = of(objective, small, 0.0);
        let share = (small / c).powi(2);
        assert!((loss / (small * small / (2.0 * c)) - 1.0).abs() <= share + 1e-14);
        assert!((slope / (small / c) - 1.0).abs() <= share + 1e-14);
        let great = c / e.exp();
        let (loss, slope) = of(objective, great, 0.0);
        assert!((loss - (great - c)).abs() <= c * c / (2.0 * great) + 1e-14 * great && (1.0 - slope) <= share);
        near(of(PseudoHuber::new(0.0).unwrap(), great, 0.0), (great, 1.0), 0.0);
    }

    #[test]
    fn pseudo_huber_of_a_vector_is_that_of_its_norm(
        c in prop_oneof![Just(0.0f32), 0.0f32..10.0], x in prop::collection::vec(-3.0f64..3.0, 1..9), by in -300i32..300) {
        let objective = PseudoHuber::new(c).unwrap();
        let target: Vec<f64> = x.iter().map(|x| 0.25 * x + 0.125).collect();
        let mut gradient = vec![f64::NAN; x.len()];
        let loss = objective.of_vectors(&x, &target, &mut gradient).unwrap();
        let norm = x.iter().zip(&target).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt();
        let want = of(objective, norm, 0.0);
        prop_assert!((loss - want.0).abs() <= 1e-14 * norm);
        for (k, gradient) in gradient.iter().enumerate() {
            prop_assert!((gradient - want.1 * (x[k] - target[k]) / norm).abs() <= 1e-14);
        }
        // A vector of one element is a score, and scale changes nothing where c is 0.
        let mut one = [f64::NAN];
        let loss = objective.of_vectors(&x[..1], &target[..1], &mut one).unwrap();
        let want = of(objective, x[0], target[0]);
        near((loss, one[0]), want, 0.0);
        let scale = 2f64.powi(3 * by);
        let scaled: Vec<f64> = x.iter().map(|x| x * scale).collect();
        let mut again = vec![f64::NAN; x.len()];
        let zero = vec![0.0; x.len()];
        let l2 = PseudoHuber::new(0.0).unwrap();
        let loss = l2.of_vectors(&x, &zero, &mut gradient).unwrap();
        let scaled_loss = l2.of_vectors(&scaled, &zero, &mut again).unwrap();
        prop_assert_eq!((loss * scale, &gradient), (scaled_loss, &again));
    }

    #[test]
    fn binary_cross_entropy_is_linear_in_the_target_and_symmetric(score in -40.0f64..40.0, target in -2.0f64..3.0) {
        let bce = || BinaryCrossEntropy::new().unwrap();
        near(of(bce(), score, target), { let (l, s) = of(bce(), -score, 1.0 - target); (l, -s) }, 40.0);
        let (no, yes) = (of(bce(), score, 0.0), of(bce(), score, 1.0));
        let blend = |no: f64, yes: f64| (1.0 - target) * no + target * yes;
        near(of(bce(), score, target), (blend(no.0, yes.0), blend(no.1, yes.1)), 200.0);
        // A label of 1 is a Bradley-Terry pair whose rejected reward is 0.
        let pair = BradleyTerry::new(0.0, 0.0).unwrap().of_scores([score, 0.0], [0.0]);
        near(yes, (pair.loss, pair.slopes[0]), 0.0);
    }

    #[test]
    fn bradley_terry_is_symmetric_and_shifts(
        smoothing in 0.0f32..=0.5, chosen in -30.0f64..30.0, rejected in -30.0f64..30.0, margin in -2.0f64..2.0) {
        let plain = BradleyTerry::new(0.0, 0.0).unwrap();
        let (a, b) = (plain.of_scores([chosen, rejected], [0.0]), plain.of_scores([rejected, chosen], [0.0]));
        // The two orders' probabilities sum to 1, and only the difference counts.
        prop_assert!(((-a.loss).exp() + (-b.loss).exp() - 1.0).abs() <= 1e-14 * (1.0 + a.loss.min(b.loss)));
        prop_assert_eq!(a.slopes[0], -a.slopes[1]);
        // A margin is a worse chosen reward.
        let with = plain.of_scores([chosen, rejected], [margin]);
        let without = plain.of_scores([chosen - margin, rejected], [0.0]);
        near((with.loss, with.slopes[0]), (without.loss, without.slopes[0]), 60.0);
        // Smoothing is that share of the other order.
        let s = f64::from(smoothing);
        let smooth = BradleyTerry::new(smoothing, 0.0).unwrap().of_scores([chosen, rejected], [0.0]);
        near((smooth.loss, smooth.slopes[0]), ((1.0 - s) * a.loss + s * b.loss, (1.0 - s) * a.slopes[0] + s * b.slopes[1]), 1.0);
        // The centre adds its square.
        let centred = BradleyTerry::new(0.0, 0.01).unwrap().of_scores([chosen, rejected], [0.0]);
        let (c, sum) = (f64::from(0.01f32), chosen + rejected);
        near((centred.loss, centred.slopes[1]), (a.loss + c * sum * sum, a.slopes[1] + 2.0 * c * sum), 60.0);
    }

    #[test]
    fn fidelity_is_0_where_the_probabilities_agree_and_symmetric(
        a in -3.0f64..3.0, b in -3.0f64..3.0, va in 0.01f64..4.0, vb in 0.01f64..4.0, target in 0.0f64..=1.0) {
        let fidelity = Fidelity::new().unwrap();
        let p = Fidelity::preference(a, va, b, vb).unwrap();
        let agree = fidelity.of_scores([a, va, b, vb], [p]);
        // The target's 1 - P has the rounding of 1, and its root has that over twice the root.
        let root = f64::EPSILON / p.min(1.0 - p).sqrt().max(1e-8);
        prop_assert!(agree.loss >= 0.0 && agree.loss <= root * root && agree.slopes[0].abs() <= 100.0 * root);
        // Exchanged, and judged by 1 - target, everything is the same; 1 - target is not exact.
        let (here, there) = (fidelity.of_scores([a, va, b, vb], [target]), fidelity.of_scores([b, vb, a, va], [1.0 - target]));
        prop_assert!((here.loss - there.loss).abs() <= 1e-7 * target.min(1.0 - target).sqrt().max(1e-8));
        prop_assert!(here.loss >= 0.0 && here.loss <= 1.0 && (target - p) * here.slopes[0] <= 0.0);
    }

    /// The minimiser of the expected loss rejects exactly where the predictor is wrong with more than the cost.
    #[test]
    fn a_calibrated_rejector_rejects_at_the_cost(alpha in 0.1f32..8.0, cost in 0.01f32..0.5, off in -0.2f64..0.2) {
        let objective = Reject::calibrated(alpha, cost).unwrap();
        let wrong = f64::from(cost) * (1.0 + off);
        let expected = |r: f64| wrong * of(objective, r, -1.0).1 + (1.0 - wrong) * of(objective, r, 1.0).1;
        // The expected loss is convex, so that its minimiser has the sign of minus the slope at 0; beta is an f32.
        let scale = f64::from(objective.parameters()[1] * cost);
        if off.abs() > 1e-3 {
            prop_assert_eq!(expected(0.0) > 0.0, off > 0.0, "{} at {}", expected(0.0), off);
        } else if off == 0.0 {
            prop_assert!(expected(0.0).abs() <= 1e-6 * scale);
        }
    }
}

#[test]
fn a_tie_of_pinball_counts_as_covered() {
    for tau in [0.0f32, 0.25, 0.9, 1.0] {
        assert_eq!(of(Pinball::new(tau).unwrap(), 3.0, 3.0), (0.0, 1.0 - f64::from(tau)));
    }
    assert_eq!(of(PseudoHuber::new(0.0).unwrap(), 3.0, 3.0), (0.0, 0.0));
}

#[test]
fn pseudo_huber_of_consistency_models() {
    assert_eq!(PseudoHuber::for_dim(3072).unwrap(), PseudoHuber::new(0.029_929_837).unwrap());
    let error = PseudoHuber::for_dim(usize::MAX).unwrap_err().to_string();
    assert!(
        error.starts_with("pseudo_huber: c = 2319282") && error.ends_with("its domain 0 to 1000"),
        "{error}"
    );
}

#[test]
fn vectors_and_mixtures_agree_with_the_golden_vectors() {
    let vectors = vectors();
    let close = |got: f64, want: f64, scale: f64| {
        assert!((got - want).abs() <= 16.0 * f64::EPSILON * (want.abs() + scale), "{got:e} for {want:e}");
    };
    let mut count = 0;
    for entry in vectors["vectors"].as_array().unwrap() {
        let (prediction, target) = (numbers(&entry["prediction"]), numbers(&entry["target"]));
        let mut dprediction = vec![f64::NAN; prediction.len()];
        let objective = PseudoHuber::new(entry["c"].as_f64().unwrap() as f32).unwrap();
        let loss = objective.of_vectors(&prediction, &target, &mut dprediction).unwrap();
        close(loss, entry["loss"].as_str().unwrap().parse().unwrap(), 0.0);
        for (got, want) in dprediction.into_iter().zip(numbers(&entry["dprediction"])) {
            close(got, want, 0.0);
        }
        count += 1;
    }
    for entry in vectors["mixtures"].as_array().unwrap() {
        let (logits, log_densities) = (numbers(&entry["logits"]), numbers(&entry["log_densities"]));
        let (mut dlogits, mut dlog_densities) = (vec![f64::NAN; logits.len()], vec![f64::NAN; logits.len()]);
        let loss = mixture_nll(&logits, &log_densities, &mut dlogits, &mut dlog_densities).unwrap();
        close(loss, entry["loss"].as_str().unwrap().parse().unwrap(), 0.0);
        // A share's rounding is that of its exponent, of which these have up to 800.
        for (got, want) in dlog_densities.into_iter().zip(numbers(&entry["dlog_densities"])) {
            close(got, want, 50.0 * want.abs());
        }
        for (got, want) in dlogits.into_iter().zip(numbers(&entry["dlogits"])) {
            close(got, want, 50.0 * want.abs());
        }
        count += 1;
    }
    assert_eq!(count, 6);
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_mixture_has_the_gradients_of_its_loss(
        z in prop::collection::vec(-8.0f64..8.0, 1..6), seed in prop::collection::vec(-20.0f64..3.0, 6)) {
        let densities = &seed[..z.len()];
        let loss = |z: &[f64], l: &[f64]| {
            let (mut a, mut b) = (vec![0.0; z.len()], vec![0.0; z.len()]);
            (mixture_nll(z, l, &mut a, &mut b).unwrap(), a, b)
        };
        let (_, dlogits, dlog_densities) = loss(&z, densities);
        for k in 0..z.len() {
            let moved = |values: &[f64], by: f64| {
                let mut values = values.to_vec();
                values[k] += by;
                values
            };
            let (want, error) = derivative(|by| loss(&moved(&z, by), densities).0, 0.5);
            prop_assert!((dlogits[k] - want).abs() <= 4.0 * error + 1e-12 && error < 1e-9);
            let (want, error) = derivative(|by| loss(&z, &moved(densities, by)).0, 0.5);
            prop_assert!((dlog_densities[k] - want).abs() <= 4.0 * error + 1e-12 && error < 1e-9);
        }
        // Shares sum to 1, and so do responsibilities; one component is its own density.
        prop_assert!(dlogits.iter().sum::<f64>().abs() <= 1e-14 && (dlog_densities.iter().sum::<f64>() + 1.0).abs() <= 1e-14);
        let alone = loss(&z[..1], &densities[..1]);
        prop_assert!((alone.0 + densities[0]).abs() <= 1e-14 && alone.1 == [0.0] && alone.2 == [-1.0]);
    }
}

#[test]
fn a_batch_is_the_sum_of_its_samples() {
    let objective = BradleyTerry::new(0.1, 0.01).unwrap();
    let (chosen, rejected, margin) = ([1.0f64, f64::NAN, -3.0], [0.5f64, 2.0, 4.0], [0.0f64, 0.5, 0.25]);
    let batch =
        ScoreBatch { scores: [&chosen, &rejected], targets: [&margin], weights: Some(&[2.0, 0.0, 0.5]) };
    let evals = [0, 2].map(|i| objective.of_scores([chosen[i], rejected[i]], [margin[i]]));
    for (reduction, denominator) in [
        (Reduction::Sum, 1.0),
        (Reduction::default(), 3.0),
        (Reduction::Mean(Denominator::Kept), 3.0),
        (Reduction::Mean(Denominator::Given(2.5)), 2.5),
    ] {
        let (mut losses, mut dchosen, mut drejected) = ([f64::NAN; 3], [f64::NAN; 3], [f64::NAN; 3]);
        let outputs = Some([&mut dchosen[..], &mut drejected[..]]);
        let totals = evaluate(&objective, reduction, &batch, Some(&mut losses), outputs).unwrap();
        let loss_sum = 2.0 * evals[0].loss + 0.5 * evals[1].loss;
        let want = Totals { loss_sum, weight_sum: 2.5, valid: 3, kept: 3, ignored: 0, live: 2, denominator };
        assert_eq!(totals, want);
        assert_eq!(losses, [evals[0].loss, 0.0, evals[1].loss]);
        for (k, got) in [dchosen, drejected].into_iter().enumerate() {
            let want =
                [evals[0].slopes[k] * (2.0 / denominator), 0.0, evals[1].slopes[k] * (0.5 / denominator)];
            for (got, want) in got.into_iter().zip(want) {
                assert!((got - want).abs() <= 2.0 * f64::EPSILON * want.abs(), "{got} for {want}");
            }
        }
        // Nothing is asked for but the totals.
        assert_eq!(evaluate(&objective, reduction, &batch, None, None).unwrap(), totals);
    }
}

#[track_caller]
pub(crate) fn says<V: Debug>(result: Result<V, Error>, text: &str) {
    assert_eq!(result.expect_err(text).to_string(), text);
}

#[test]
fn faults_of_batches_vectors_and_mixtures() {
    let objective = BradleyTerry::new(0.0, 0.0).unwrap();
    let (two, three) = ([1.0f64; 2], [1.0f64; 3]);
    let run =
        |scores: [&[f64]; 2], margin: &[f64], weights: Option<&[f32]>, losses: usize, dscores: [usize; 2]| {
            let batch = ScoreBatch { scores, targets: [margin], weights };
            let (mut losses, mut a, mut b) =
                (vec![7.0; losses], vec![7.0; dscores[0]], vec![7.0; dscores[1]]);
            let result =
                evaluate(&objective, Reduction::Sum, &batch, Some(&mut losses), Some([&mut a, &mut b]));
            // What fails writes nothing.
            assert!(result.is_ok() || losses.iter().chain(&a).chain(&b).all(|x| *x == 7.0));
            result
        };
    says(run([&[], &[]], &[], None, 0, [0, 0]), "samples: number 0 has 0 members, expected at least 1");
    says(run([&two, &three], &two, None, 2, [2, 2]), "rejected: expected 2 values, got 3");
    says(run([&two, &two], &three, None, 2, [2, 2]), "margin: expected 2 values, got 3");
    says(run([&two, &two], &two, Some(&[1.0]), 2, [2, 2]), "weights: expected 2 values, got 1");
    says(run([&two, &two], &two, None, 3, [2, 2]), "losses: expected 2 values, got 3");
    says(run([&two, &two], &two, None, 2, [2, 1]), "dscores: expected 2 values, got 1");
    for (bad, text) in [(-0.5, "-0.5"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let text = format!("weights: row 1 has weight {text}, expected a finite number of at least 0");
        says(run([&two, &two], &two, Some(&[1.0, bad]), 2, [2, 2]), &text);
    }
    says(
        run([&two, &[1.0, f64::NAN]], &two, None, 2, [2, 2]),
        "rejected: value 1 is NaN, expected a finite number",
    );
    assert!(run([&two, &two], &two, Some(&[0.0, 1.0]), 2, [2, 2]).is_ok());
    let batch = ScoreBatch { scores: [&two[..], &two], targets: [&two[..]], weights: None };
    says(
        evaluate(&objective, Reduction::Mean(Denominator::Given(0.0)), &batch, None, None),
        "denominator: expected a positive finite number, got 0",
    );

    let objective = PseudoHuber::new(0.03).unwrap();
    says(
        objective.of_vectors::<f64>(&[], &[], &mut []),
        "prediction: number 0 has 0 members, expected at least 1",
    );
    says(objective.of_vectors(&two, &three, &mut [0.0; 2]), "target: expected 2 values, got 3");
    says(objective.of_vectors(&two, &two, &mut [0.0; 3]), "dprediction: expected 2 values, got 3");
    says(
        objective.of_vectors(&two, &[0.0, f64::INFINITY], &mut [0.0; 2]),
        "target: value 1 is inf, expected a finite number",
    );

    let run =
        |z: &[f64], l: &[f64], a: usize, b: usize| mixture_nll(z, l, &mut vec![0.0; a], &mut vec![0.0; b]);
    says(run(&[], &[], 0, 0), "components: number 0 has 0 members, expected at least 1");
    says(run(&two, &three, 2, 2), "log_densities: expected 2 values, got 3");
    says(run(&two, &two, 3, 2), "dlogits: expected 2 values, got 3");
    says(run(&two, &two, 2, 3), "dlog_densities: expected 2 values, got 3");
    says(
        run(&two, &[0.0, f64::NAN], 2, 2),
        "log_densities: value 1 is NaN, expected a finite number or -inf",
    );
    says(run(&[f64::INFINITY, 0.0], &two, 2, 2), "logits: value 0 is inf, expected a finite number or -inf");
    let none = [f64::NEG_INFINITY; 2];
    says(run(&two, &none, 2, 2), "logits: row 0 is -inf in all 2 columns, so that no class has probability");
    // One component that gives no density takes no part.
    let (mut a, mut b) = ([f64::NAN; 2], [f64::NAN; 2]);
    let loss = mixture_nll(&[0.0, 0.0], &[0.0, f64::NEG_INFINITY], &mut a, &mut b).unwrap();
    assert!((loss - 2f64.ln()).abs() <= 1e-15 && a == [-0.5, 0.5] && b == [-1.0, 0.0]);

    says(
        Fidelity::preference(0.0, 0.0, 0.0, 1.0),
        "variance_a: value 0 is 0, expected a finite number above 0",
    );
    says(Reject::calibrated(0.0, 0.05), "reject: alpha = 0 lies outside its domain 0.01 to 16");
    says(Reject::calibrated(2.0, 2.0), "reject: cost = 2 lies outside its domain 0.001 to 1");
}
