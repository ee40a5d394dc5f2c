//! The formulas of "Beyond Log Likelihood" (arXiv 2510.00526), sections 2 and 3 and appendix F, and what
//! follows from them.

use crate::draw::{cases, gated, named, parsed, sampled, token};
use proptest::prelude::*;
use tokenloss_core::theory::{
    Convexity, Leaning, TheoryError, convexity, integral, leaning, mix_peak, peak, population_minimiser,
    power_integral, power_mean, power_peak, power_share_above, share_above, weight,
};
use tokenloss_core::{
    Dft, Focal, Huber, Mix, Nll, Objective, Power, TargetProb, Thresholded, TokenEval, TokenObjective,
    Unlikelihood, reference,
};

fn power(alpha: f32) -> Power {
    Power::new(alpha).unwrap()
}

/// Whether `x` is what was printed to this many decimals.
fn printed(x: f64, value: f64, decimals: i32) -> bool {
    (x - value).abs() <= 0.5 * 10f64.powi(-decimals) * (1.0 + 1e-9)
}

// --- W -----------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(cases(500))]

    /// W in the closed forms that the objectives' documentation gives.
    #[test]
    fn weights_have_their_closed_forms(p in 1e-6f64..0.999999, a in 0.0f32..16.0, u in 1e-3f32..1.0) {
        let (alpha, unit) = (f64::from(a), f64::from(u));
        let e = 1.0 - p;
        let near = |got: f64, want: f64| (got - want).abs() <= 1e-13 * (1.0 + alpha * p.ln().abs()) * want;
        prop_assert!(near(weight(&Nll, p), e));
        prop_assert!(near(weight(&Dft, p), p * e));
        prop_assert!(near(weight(&power(a), p), p.powf(alpha) * e));
        prop_assert!(near(weight(&Unlikelihood::new(u).unwrap(), p), p * e / (e + unit)));
        prop_assert!(near(weight(&Focal::new(a).unwrap(), p), e.powf(alpha) * (e - alpha * p * p.ln())));
        prop_assert!(near(weight(&Huber::new(u).unwrap(), p), p * e * e.min(unit)));
        prop_assert!(near(weight(&Mix::new(u).unwrap(), p), e * (unit + (1.0 - unit) * p)));
    }

    /// It is the descent push on the target's logit.
    #[test]
    fn weight_is_minus_the_target_gradient(objective in token(), p in 1e-6f64..0.999999) {
        let logits = [p.ln() - (-p).ln_1p(), 0.0];
        let summary = reference::summarise(&logits, 0).unwrap();
        let mut dlogits = [f64::NAN; 2];
        let partials = tokenloss_core::RowObjective::of_row(&objective, &summary).partials;
        reference::push_back(&logits, 0, &summary, partials, &mut dlogits);
        // The logit rounds p by a few units of 1 + |log p|, and W is that sensitive to it times the exponent.
        prop_assert!((weight(&objective, p) + dlogits[0]).abs() <= 1e-12 * dlogits[0].abs());
    }

    #[test]
    fn weight_is_never_negative(objective in gated(), p in 0.0f64..=1.0) {
        prop_assert!(weight(&objective, p) >= 0.0);
    }
}

#[test]
fn weight_is_nan_outside_its_domain() {
    for p in [-1e-9, 1.0 + 1e-9, f64::NAN, f64::INFINITY] {
        assert!(weight(&Nll, p).is_nan(), "{p}");
    }
    assert_eq!((weight(&Nll, 0.0), weight(&Nll, 1.0)), (1.0, 0.0));
    // At p = 1 a slope of any size has nothing left to push.
    assert_eq!(weight(&Unlikelihood::new(1e-6).unwrap(), 1.0), 0.0);
}

/// The third probe as the paper writes it, `log(1 - p)` without eps: unbounded at p = 1, and so is its slope.
struct Bare;

impl TokenObjective for Bare {
    fn of_target<T: num_traits::Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        let slope = -target.p() / target.one_minus_p;
        TokenEval { loss: target.one_minus_p.ln(), slope, kept: true }
    }
}

#[test]
fn an_unbounded_slope_spoils_nothing() {
    // W = p: nothing is NaN at p = 1, and the peak is next to it.
    assert_eq!((weight(&Bare, 0.25), weight(&Bare, 1.0)), (0.25, 0.0));
    assert!((peak(&Bare).weight - 1.0).abs() < 1e-15);
    assert!((integral(&Bare, 0.0, 1.0) - 0.5).abs() < 1e-13);
    assert!((share_above(&Bare, 0.5) - 0.75).abs() < 1e-12);
    // A label that never comes does not count, whatever its slope.
    let (q, r, t) = ([1.0, 0.0], [0.5, 0.5], [0.0, 1.0]);
    assert_eq!(tokenloss_core::theory::risk_rate(&Bare, &q, &r, &t), Ok(0.0));
}

// --- The power family --------------------------------------------------------------------------------------------

/// Paper, section 3: alpha, p*, max W, share of W above 1/2.
const POWER_TABLE: [(f32, f64, f64, f64, i32); 7] = [
    (0.0, 0.0, 1.0, 0.25, 2),
    (0.1, 0.0909, 0.7153, 0.277, 3),
    (0.5, 0.3333, 0.3849, 0.381, 3),
    (1.0, 0.5, 0.25, 0.5, 1),
    (2.0, 0.6667, 0.1481, 0.6875, 4),
    (5.0, 0.8333, 0.0670, 0.9375, 4),
    (10.0, 0.9091, 0.0350, 0.9968, 4),
];

#[test]
fn the_table_of_the_power_family() {
    for (alpha, p, max, share, decimals) in POWER_TABLE {
        let (got, closed) = (peak(&power(alpha)), power_peak(alpha.into()));
        assert!(printed(got.p, p, 4) && printed(closed.p, p, 4), "{alpha}: p* {got:?} {closed:?}");
        assert!(printed(got.weight, max, 4) && printed(closed.weight, max, 4), "{alpha}: {got:?} {closed:?}");
        assert!(printed(share_above(&power(alpha), 0.5), share, decimals), "{alpha}");
        assert!(printed(power_share_above(alpha.into(), 0.5), share, decimals), "{alpha}");
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn numerical_theory_is_the_closed_form_for_powers(alpha in prop_oneof![4 => 0.0f32..=16.0, 1 => 1e-4f32..0.1]) {
        let (f, a) = (power(alpha), f64::from(alpha));
        let (numerical, closed) = (peak(&f), power_peak(a));
        // In logit the place is good to the square root of rounding; the value to rounding, alpha log p of it.
        let logit = |p: f64| (p / (1.0 - p)).ln();
        prop_assert!(closed.p == 0.0 || (logit(numerical.p) - logit(closed.p)).abs() <= 3e-7 / a.sqrt().min(1.0), "{numerical:?} {closed:?}");
        prop_assert!((numerical.weight / closed.weight - 1.0).abs() <= 1e-14 * (1.0 + a));
        prop_assert!((integral(&f, 0.0, 1.0) / power_integral(a) - 1.0).abs() <= 1e-12);
        for tau in [0.01, 0.25, 0.5, 0.75, 0.99] {
            prop_assert!((share_above(&f, tau) - power_share_above(a, tau)).abs() <= 1e-12);
        }
    }

    /// W / integral W is the density of Beta(alpha + 1, 2), down to where it is hardly integrable.
    #[test]
    fn normalised_weight_is_a_beta_density(alpha in -0.9f32..16.0) {
        let (f, a) = (power(alpha), f64::from(alpha));
        prop_assert!((integral(&f, 0.0, 1.0) / power_integral(a) - 1.0).abs() <= 1e-12);
        // Its mean: p W of alpha is W of alpha + 1.
        prop_assert!((power_mean(a) - power_integral(a + 1.0) / power_integral(a)).abs() <= 1e-14);
        let density = weight(&f, 0.3) / power_integral(a);
        // Gamma(a + 3) / (Gamma(a + 1) Gamma(2)) = (a + 2)(a + 1).
        let beta = 0.3f64.powf(a) * 0.7 * (a + 1.0) * (a + 2.0);
        prop_assert!((density / beta - 1.0).abs() <= 1e-13 * (1.0 + a.abs()));
    }

    #[test]
    fn the_share_above_one_half_has_its_formula(alpha in -0.9f64..16.0) {
        let formula = 1.0 - 2f64.powf(-(alpha + 1.0)) * (alpha + 3.0) / 2.0;
        prop_assert!((power_share_above(alpha, 0.5) - formula).abs() <= 4.0 * f64::EPSILON);
    }

    #[test]
    fn alpha_1_is_where_the_leaning_turns(alpha in -1.0f32..=16.0) {
        let want = match alpha {
            a if a < 1.0 => Leaning::PriorAverse,
            a if a > 1.0 => Leaning::PriorLeaning,
            _ => Leaning::Neutral,
        };
        prop_assert_eq!(leaning(&power(alpha)), want);
    }
}

#[test]
fn the_leaning_turns_between_neighbouring_floats() {
    let one = 1.0f32;
    assert_eq!(leaning(&power(one)), Leaning::Neutral);
    assert_eq!(leaning(&power(one.next_up())), Leaning::PriorLeaning);
    assert_eq!(leaning(&power(one.next_down())), Leaning::PriorAverse);
    assert_eq!(leaning(&Dft), Leaning::Neutral);
}

#[test]
fn negative_exponents_have_no_peak_and_at_minus_1_no_integral() {
    assert_eq!(power_peak(-0.5).weight, f64::INFINITY);
    assert_eq!(
        (power_integral(-1.0), power_share_above(-1.0, 0.5), power_mean(-1.0)),
        (f64::INFINITY, 0.0, 0.0)
    );
    let numerical = peak(&power(-0.5));
    assert!(numerical.p == 0.0 && numerical.weight > 1e308);
    assert_eq!(leaning(&power(-1.0)), Leaning::PriorAverse);
}

// --- The other objectives ----------------------------------------------------------------------------------------

#[test]
fn the_table_of_the_mix() {
    for (lambda, p) in [(0.0f32, 0.5), (0.1, 0.4444), (0.25, 0.3333), (0.4, 0.1667), (0.5, 0.0), (0.7, 0.0)] {
        let f = Mix::new(lambda).unwrap();
        assert!(printed(mix_peak(lambda.into()).p, p, 4), "{lambda}: {:?}", mix_peak(lambda.into()));
        assert!(printed(peak(&f).p, p, 4), "{lambda}: {:?}", peak(&f));
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn no_mix_is_prior_leaning(lambda in 0.0f32..=1.0) {
        let f = Mix::new(lambda).unwrap();
        let (numerical, closed) = (peak(&f), mix_peak(lambda.into()));
        prop_assert!(closed.p <= 0.5 && numerical.p <= 0.5 + 1e-7);
        prop_assert!((numerical.p - closed.p).abs() <= 1e-6 && (numerical.weight - closed.weight).abs() <= 1e-14);
        prop_assert!(leaning(&f) != Leaning::PriorLeaning);
    }

    /// The same in general: what is convex or linear never peaks past 1/2. A threshold does it.
    #[test]
    fn a_threshold_moves_the_peak_past_one_half(lambda in 0.0f32..=1.0, lo in 0.5f32..0.99) {
        let f = Thresholded::new(Mix::new(lambda).unwrap(), lo, 1.0).unwrap();
        prop_assert!((peak(&f).p - f64::from(lo)).abs() <= 1e-7);
        prop_assert_eq!(leaning(&f), Leaning::PriorLeaning);
    }
}

/// Appendix F: focal peaks near 0, and not at it.
#[test]
fn the_table_of_focal() {
    for (gamma, p, max) in
        [(0.5, 0.018, 1.0090), (1.0, 0.043, 1.0453), (2.0, 0.058, 1.1290), (5.0, 0.050, 1.3146)]
    {
        let f = Focal::new(gamma).unwrap();
        let got = peak(&f);
        assert!(printed(got.p, p, 3) && printed(got.weight, max, 4), "{gamma}: {got:?}");
        assert!(share_above(&f, 0.5) < share_above(&Nll, 0.5), "focal is more prior-averse than nll");
    }
}

/// Appendix F calls huber prior-leaning. It is convex, and leans no further than `1 - p` does.
#[test]
fn the_peaks_of_huber() {
    for (delta, p) in [
        (0.1, 0.5),
        (0.3, 0.5),
        (0.5, 0.5),
        (0.6, 0.4),
        (2.0 / 3.0, 1.0 / 3.0),
        (0.8, 1.0 / 3.0),
        (1.0, 1.0 / 3.0),
    ] {
        let f = Huber::new(delta).unwrap();
        let got = peak(&f);
        // Between 1/2 and 2/3 the peak is the kink, 1 - delta, on a slope: place and value are the kink's.
        assert!((got.p - p).abs() <= 2e-7, "{delta}: {got:?}");
        assert_eq!(convexity(&f), Convexity::Convex, "{delta}");
        assert_eq!(leaning(&f), Leaning::PriorAverse, "{delta}");
        assert!(share_above(&f, 0.5) > share_above(&Nll, 0.5), "{delta}: prior-leaning next to nll");
    }
}

/// Without eps the third probe has W = p, which grows to the end; eps bends it down at `1 - sqrt(eps)`.
#[test]
fn unlikelihood_leans_hardest() {
    for eps in [1e-6f32, 1e-3, 0.1] {
        let f = Unlikelihood::new(eps).unwrap();
        let eps = f64::from(eps);
        // d/de of (1 - e) e / (e + eps) is 0 at e = sqrt(eps (1 + eps)) - eps.
        let e = (eps * (1.0 + eps)).sqrt() - eps;
        assert!((peak(&f).p - (1.0 - e)).abs() <= 1e-6 * e, "{eps}: {:?}", peak(&f));
        assert_eq!((leaning(&f), convexity(&f)), (Leaning::PriorLeaning, Convexity::Concave), "{eps}");
    }
    // W = p has 3/4 of its mass above 1/2.
    assert!((share_above(&Unlikelihood::new(1e-6).unwrap(), 0.5) - 0.75).abs() < 1e-4);
}

// --- Proposition 3.2 ---------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(cases(600))]

    /// f concave: every maximiser of W lies in [1/2, 1]. f convex: in [0, 1/2]. For whatever the list holds.
    #[test]
    fn curvature_decides_the_side_of_the_peak(f in token()) {
        let at = peak(&f).p;
        // The place of a peak is good to 1e-7.
        match convexity(&f) {
            Convexity::Concave => prop_assert!(at >= 0.5 - 1e-7, "{f} is concave and peaks at {at}"),
            Convexity::Convex => prop_assert!(at <= 0.5 + 1e-7, "{f} is convex and peaks at {at}"),
            Convexity::Linear => prop_assert!((at - 0.5).abs() <= 1e-7, "{f} is linear and peaks at {at}"),
            Convexity::Neither => {}
        }
    }

    #[test]
    fn the_power_family_is_convex_below_1_and_concave_above(alpha in -1.0f32..=16.0) {
        let want = match alpha {
            a if a < 1.0 => Convexity::Convex,
            a if a > 1.0 => Convexity::Concave,
            _ => Convexity::Linear,
        };
        prop_assert_eq!(convexity(&power(alpha)), want);
    }

    #[test]
    fn blends_of_convex_functions_are_convex(lambda in 1e-6f32..=1.0, gamma in 1.0f32..=16.0) {
        prop_assert_eq!(convexity(&Mix::new(lambda).unwrap()), Convexity::Convex);
        // A product of two convex, falling, positive functions is convex; (1 - p)^gamma is one from gamma = 1.
        prop_assert_eq!(convexity(&Focal::new(gamma).unwrap()), Convexity::Convex);
    }
}

#[test]
fn every_listed_objective_has_a_curvature() {
    // Proposition 3.2 speaks of all of them: none bends both ways.
    for f in sampled() {
        assert_ne!(convexity(&f), Convexity::Neither, "{f}");
    }
    assert_eq!(convexity(&Dft), Convexity::Linear);
    assert_eq!(convexity(&power(0.0)), Convexity::Convex);
    for near in [1.0f32.next_up(), 1.0f32.next_down()] {
        assert_ne!(convexity(&power(near)), Convexity::Linear, "{near}");
    }
}

#[test]
fn a_jump_is_neither_convex_nor_concave() {
    for spec in [
        "thresholded:inner=nll,lo=0.2",
        "thresholded:inner=power,hi=0.9",
        "thresholded:inner=dft,lo=0.3,hi=0.6",
    ] {
        assert_eq!(convexity(&parsed(spec)), Convexity::Neither, "{spec}");
    }
    assert_eq!(convexity(&parsed("thresholded:inner=nll")), Convexity::Convex);
}

/// `f' = -1 - sin(..)`, which bends both ways: the proposition says nothing of it, and `convexity` must see it.
struct Wavy;

impl TokenObjective for Wavy {
    fn of_target<T: num_traits::Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        let (p, e) = (target.p(), target.one_minus_p);
        let [half, five, ten] = [0.5, 5.0, 10.0].map(|x| T::from(x).unwrap());
        // The integral of f', (cos 10 p - cos 10) / 20, as a product, so that p = 1 does not cancel.
        let loss = e + (five * (T::one() + p)).sin() * (five * e).sin() / ten;
        TokenEval { loss, slope: -p * (T::one() + half * (ten * p).sin()), kept: true }
    }
}

#[test]
fn a_function_that_bends_both_ways_is_neither() {
    tokenloss_core::check_objective(&Wavy).unwrap();
    assert_eq!(convexity(&Wavy), Convexity::Neither);
}

// --- The numerics themselves -------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(cases(150))]

    /// No sample of W lies above the peak, for anything, gated too.
    #[test]
    fn the_peak_is_the_peak(f in gated(), ys in prop::collection::vec(-30.0f64..30.0, 50)) {
        let peak = peak(&f);
        prop_assert!((0.0..=1.0).contains(&peak.p));
        for y in ys {
            let p = 1.0 / (1.0 + (-y).exp());
            prop_assert!(weight(&f, p) <= peak.weight * (1.0 + 1e-12) + 1e-300, "{f}: W({p}) = {} above {peak:?}", weight(&f, p));
        }
    }

    /// The integral is additive, whatever kinks lie in it, and a plain midpoint sum comes near it.
    #[test]
    fn the_integral_is_one(f in gated(), a in 0.0f64..=1.0, b in 0.0f64..=1.0) {
        let inner_alpha = match &f { Objective::Thresholded(t) => t.inner().parameters()[0], _ => 0.0 };
        prop_assume!(inner_alpha >= -0.9);
        let (lo, hi) = (a.min(b), a.max(b));
        let all = integral(&f, 0.0, 1.0);
        let parts = integral(&f, 0.0, lo) + integral(&f, lo, hi) + integral(&f, hi, 1.0);
        // A gate at p = 1 keeps what rounds to 1, which weighs 1e-33.
        prop_assert!((parts - all).abs() <= 2e-12 * all + 1e-32, "{f}: {parts:e} and {all:e}");
        let n = 20_000;
        let middle = |i: i32| lo + (hi - lo) * (f64::from(i) + 0.5) / f64::from(n);
        // Where W is bounded; its variation is at most twice its peak, and so is the error of the sum times n.
        if inner_alpha >= 0.0 {
            let sum: f64 = (0..n).map(|i| weight(&f, middle(i))).sum::<f64>() * (hi - lo) / f64::from(n);
            let bound = 8.0 * peak(&f).weight * (hi - lo) / f64::from(n);
            prop_assert!((integral(&f, lo, hi) - sum).abs() <= bound + 1e-12 * all, "{f}");
        }
    }

    #[test]
    fn a_share_falls_from_1_to_0(f in token(), a in 0.0f64..=1.0, b in 0.0f64..=1.0) {
        let (low, high) = (share_above(&f, a.min(b)), share_above(&f, a.max(b)));
        prop_assert!((0.0..=1.0).contains(&low) && high <= low + 1e-12);
        prop_assert!((share_above(&f, 0.0) - 1.0).abs() <= 1e-15 && share_above(&f, 1.0) == 0.0);
    }

    /// The kink of huber inside a gate with two bounds of its own is not declared.
    #[test]
    fn an_undeclared_kink_does_no_harm(delta in 0.3f32..0.7) {
        let gate = Thresholded::new(Huber::new(delta).unwrap(), 0.1, 0.9).unwrap();
        prop_assert_eq!(&gate.kinks()[..2], &[Some(0.1), Some(0.9)][..]);
        let (d, lo, hi) = (f64::from(delta), f64::from(0.1f32), f64::from(0.9f32));
        // integral of delta p (1 - p) up to 1 - delta, of p (1 - p)^2 from there.
        let linear = |p: f64| d * (p * p / 2.0 - p * p * p / 3.0);
        let square = |p: f64| p * p / 2.0 - 2.0 * p * p * p / 3.0 + p * p * p * p / 4.0;
        let want = linear(1.0 - d) - linear(lo) + square(hi) - square(1.0 - d);
        // Where no node lies between the kink and the end of its panel, the sliver between them is integrated
        // with the wrong branch: a jump of W' of .25 or so, times half the square of .0065.
        let error = (integral(&gate, 0.0, 1.0) / want - 1.0).abs();
        prop_assert!(error <= 1e-5, "{error:e}");
        let peak = peak(&gate);
        prop_assert!(weight(&gate, 1.0 - d) <= peak.weight * (1.0 + 1e-12));
    }
}

#[test]
fn gates_that_keep_nothing_are_neutral() {
    let never = parsed("thresholded:inner=power,lo=0,hi=0");
    assert_eq!((integral(&never, 0.0, 1.0), share_above(&never, 0.5)), (0.0, 0.0));
    assert_eq!(leaning(&never), Leaning::Neutral);
    assert_eq!((peak(&never).p, peak(&never).weight), (0.0, 0.0));
}

#[test]
fn bounds_of_the_integral() {
    assert!(integral(&Nll, f64::NAN, 1.0).is_nan() && integral(&Nll, 0.0, f64::NAN).is_nan());
    assert!(share_above(&Nll, f64::NAN).is_nan());
    assert_eq!((integral(&Nll, 0.7, 0.7), integral(&Nll, 0.9, 0.1)), (0.0, 0.0));
    assert!((integral(&Nll, -3.0, 7.0) - 0.5).abs() < 1e-13);
}

#[test]
fn words_for_people() {
    assert_eq!(format!("{:>14}|", Leaning::PriorAverse), "  prior-averse|");
    assert_eq!(Leaning::PriorLeaning.to_string(), "prior-leaning");
    assert_eq!(Leaning::Neutral.to_string(), "neutral");
    let all = [Convexity::Convex, Convexity::Concave, Convexity::Linear, Convexity::Neither];
    assert_eq!(all.map(|c| c.to_string()), ["convex", "concave", "linear", "neither"]);
}

// --- The population minimiser ------------------------------------------------------------------------------------

fn minimiser(alpha: f64, r: &[f64]) -> Vec<f64> {
    let mut out = vec![f64::NAN; r.len()];
    population_minimiser(alpha, r, &mut out).unwrap();
    out
}

#[test]
fn the_worked_example_of_the_minimiser() {
    let r = [0.5, 0.3, 0.2];
    for (alpha, want) in [
        (0.0, [0.5, 0.3, 0.2]),
        (0.3, [0.5707, 0.2751, 0.1542]),
        (0.5, [0.6579, 0.2368, 0.1053]),
        (0.8, [0.9191, 0.0715, 0.0094]),
        (1.0, [1.0, 0.0, 0.0]),
        (10.0, [1.0, 0.0, 0.0]),
    ] {
        for (got, want) in minimiser(alpha, &r).into_iter().zip(want) {
            assert!(printed(got, want, 4), "alpha {alpha}: {got} for {want}");
        }
    }
}

#[test]
fn ties_go_to_the_first() {
    let r = [0.2, 0.4, 0.4];
    assert_eq!(minimiser(1.0, &r), [0.0, 1.0, 0.0]);
    assert_eq!(minimiser(2.0, &r), [0.0, 1.0, 0.0]);
    let near = minimiser(0.999, &r);
    assert!((near[1] - 0.5).abs() < 1e-15 && near[0] < 1e-300, "below 1 a tie stays shared: {near:?}");
    // A class that never comes keeps nothing.
    assert_eq!(minimiser(-0.5, &[0.0, 0.5, 0.5])[0], 0.0);
}

fn simplex(n: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(0.01f64..1.0, n).prop_map(|x| {
        let sum: f64 = x.iter().sum();
        x.into_iter().map(|x| x / sum).collect()
    })
}

proptest! {
    #![proptest_config(cases(500))]

    /// No other distribution has a smaller expected loss.
    #[test]
    fn nothing_is_below_the_minimiser(
        alpha in prop_oneof![2 => -1.0f32..0.98, 1 => 1.0f32..4.0], r in simplex(4), q in simplex(4), step in 0.0f64..1.0) {
        let f = power(alpha);
        let best = minimiser(alpha.into(), &r);
        let expected = |p: &[f64]| -> f64 {
            r.iter().zip(p).map(|(r, p)| r * f.of_log_p(p.ln()).loss).sum()
        };
        // From a far one to one so near that the difference is of second order.
        for scale in [1.0, 1e-2, 1e-4] {
            let other: Vec<f64> = best.iter().zip(&q).map(|(p, q)| p + scale * step * (q - p)).collect();
            let (least, more) = (expected(&best), expected(&other));
            prop_assert!(least <= more + 1e-14 * least.abs().max(1.0), "{least} above {more} at {other:?}");
        }
        prop_assert!((best.iter().sum::<f64>() - 1.0).abs() <= 1e-15 * 4.0);
    }

    /// Only alpha = 0 is strictly proper; above it the target is sharpened.
    #[test]
    fn alpha_is_a_temperature(alpha in 0.05f64..0.95, r in simplex(5)) {
        let p = minimiser(alpha, &r);
        for (p, r) in minimiser(0.0, &r).iter().zip(&r) {
            prop_assert!((p - r).abs() <= 1e-15);
        }
        let top = |x: &[f64]| x.iter().copied().fold(0.0, f64::max);
        prop_assert!(top(&p) >= top(&r) - 1e-15);
        // Ratios are raised to 1 / (1 - alpha).
        prop_assert!(((p[0] / p[1]).ln() * (1.0 - alpha) - (r[0] / r[1]).ln()).abs() <= 1e-12);
    }
}

#[test]
fn what_is_no_distribution_is_an_error() {
    let try_with =
        |alpha: f64, r: &[f64], n: usize| population_minimiser(alpha, r, &mut vec![0.0; n]).unwrap_err();
    for (error, text) in [
        (try_with(f64::NAN, &[0.5, 0.5], 2), "alpha: expected a finite number, got NaN"),
        (try_with(f64::INFINITY, &[0.5, 0.5], 2), "alpha: expected a finite number, got inf"),
        (try_with(0.5, &[1.0], 1), "classes: expected at least 2, got 1"),
        (try_with(0.5, &[], 0), "classes: expected at least 2, got 0"),
        (try_with(0.5, &[0.5, 0.5], 3), "out: expected 2 probabilities, got 3"),
        (try_with(0.5, &[0.5, 0.6], 2), "r: the probabilities sum to 1.1, expected 1"),
        (
            try_with(0.5, &[1.5, -0.5], 2),
            "r: class 1 has probability -0.5, expected a finite number of at least 0",
        ),
        (
            try_with(0.5, &[f64::NAN, 0.5], 2),
            "r: class 0 has probability NaN, expected a finite number of at least 0",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
    assert_eq!(try_with(0.5, &[0.5, 0.5], 3), TheoryError::Length { what: "out", expected: 2, got: 3 });
}

#[test]
fn a_threshold_takes_the_lower_tail_off() {
    let gate = parsed("thresholded:inner=nll,lo=0.2");
    assert_eq!(integral(&gate, 0.0, 0.199_999), 0.0);
    let lo = f64::from(0.2f32);
    assert!((integral(&gate, 0.0, 1.0) - (1.0 - lo) * (1.0 - lo) / 2.0).abs() <= 1e-13);
}

proptest! {
    /// Below gamma = 1 the factor (1 - p)^gamma is concave by itself; the product is convex all the same.
    #[test]
    fn focal_is_convex_over_its_domain(f in named("focal")) {
        prop_assert_eq!(convexity(&f), Convexity::Convex);
    }
}
