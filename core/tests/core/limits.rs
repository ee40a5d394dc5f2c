//! What objectives become at the ends of their parameters and at the ends of [0, 1].

use crate::draw::{cases, gated, parsed, sampled, token};
use num_traits::Float;
use proptest::prelude::*;
use tokenloss_core::{AnyToken, Nll, Objective, Power, TargetProb, TokenEval, TokenObjective};

/// From p = 1 to p = 0; -1e-300 and -1e4 exist in one of the two float types only.
const EXTREME: [f64; 17] = [
    0.0,
    -0.0,
    -1e-300,
    -1e-45,
    -1e-38,
    -1e-30,
    -1e-15,
    -1e-7,
    -1e-3,
    -1.0,
    -20.0,
    -80.0,
    -87.0,
    -104.0,
    -700.0,
    -1e4,
    f64::NEG_INFINITY,
];

/// Where the loss may be infinite: where it is in exact arithmetic, at p = 0, and where a negative exponent
/// leaves the float type. The slope never is.
fn infinity_is_right(objective: &Objective, log_p: f64, greatest: f64) -> bool {
    // A loss with a bound has reached it long before: p is 1e-304 and less.
    let grows = objective.of_log_p(-1e4).loss > objective.of_log_p(-700.0).loss;
    let inner = match objective {
        Objective::Token(inner) => *inner,
        Objective::Thresholded(gate) => *gate.inner(),
    };
    let exponent = match inner {
        AnyToken::Power(_) => f64::from(inner.parameters()[0]).min(0.0) * log_p,
        _ => 0.0,
    };
    (log_p == f64::NEG_INFINITY && grows) || exponent >= 0.98 * greatest.ln()
}

fn nothing_is_nan<T: Float + std::fmt::Display>(objective: &Objective) {
    for log_p in EXTREME {
        let TokenEval { loss, slope, .. } = objective.of_log_p(T::from(log_p).unwrap());
        assert!(!loss.is_nan() && !slope.is_nan(), "{objective} at {log_p}: {loss} and {slope}");
        assert!(slope.is_finite() && slope <= T::zero(), "{objective} at {log_p}: slope {slope}");
        let right = infinity_is_right(objective, log_p, T::max_value().to_f64().unwrap());
        assert!(loss.is_finite() || right, "{objective} at {log_p}: loss {loss}");
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn extreme_probabilities_give_no_nan(token in token(), gated in gated()) {
        for objective in [Objective::Token(token), gated] {
            nothing_is_nan::<f32>(&objective);
            nothing_is_nan::<f64>(&objective);
        }
    }

    /// f is non-increasing by definition; the slope says so, and the value must follow. Where a factor is held it need
    /// not: -p log p of dft rises to p = 1/e and falls from there.
    #[test]
    fn the_loss_never_rises_with_the_probability(token in token(), a in -60.0f64..0.0, u in 0.0f64..1.0) {
        let [x, y] = [-1.0f64, -2.0].map(TargetProb::from_log_p);
        prop_assume!(token.held(x, y) == token.of_target(y).loss);
        let b = a * u;
        let (low, high) = (token.of_log_p(a).loss, token.of_log_p(b).loss);
        // Equal values may be rounded apart; unlikelihood passes through 0, where only eps - p is exact.
        let slack = 8.0 * f64::EPSILON * (1.0 + a.abs()) * low.abs().max(high.abs()).max(f64::MIN_POSITIVE);
        let zero = if token.name() == "unlikelihood" { 2.0 * f64::EPSILON * (1.0 + a.abs()) * b.exp() } else { 0.0 };
        prop_assert!(high <= low + slack + zero, "{token}: {low:e} at {a}, {high:e} at {b}");
    }
}

#[test]
fn every_end_of_every_domain_gives_no_nan() {
    for token in sampled() {
        nothing_is_nan::<f32>(&Objective::Token(token));
        nothing_is_nan::<f64>(&Objective::Token(token));
    }
}

/// A masked target, `log_p = -inf`: the loss that the documentation gives.
#[test]
fn a_masked_target_has_the_documented_loss() {
    let eps = f64::from(1e-3f32);
    for (spec, loss, slope) in [
        ("nll", f64::INFINITY, -1.0),
        ("power:alpha=0", f64::INFINITY, -1.0),
        ("power:alpha=1", 1.0, 0.0),
        ("power:alpha=4", 0.25, 0.0),
        ("unlikelihood", eps.ln_1p(), 0.0),
        ("focal:gamma=0", f64::INFINITY, -1.0),
        ("focal:gamma=2", f64::INFINITY, -1.0),
        ("huber:delta=0.5", 0.375, 0.0),
        ("mix:lambda=0", 1.0, 0.0),
        ("mix:lambda=0.5", f64::INFINITY, -0.5),
        ("dft", 0.0, 0.0),
        ("thresholded:inner=nll,lo=0.1", 0.0, 0.0),
        ("thresholded:inner=nll,hi=0.1", f64::INFINITY, -1.0),
    ] {
        let eval = parsed(spec).of_log_p(f64::NEG_INFINITY);
        assert_eq!((eval.loss, eval.slope), (loss, slope), "{spec}");
    }
}

/// A certain target, `log_p = 0`.
#[test]
fn a_certain_target_costs_nothing() {
    for token in sampled() {
        let eval = token.of_log_p(0.0f64);
        let want = match token.name() {
            "unlikelihood" => f64::from(token.parameters()[0]).ln(),
            _ => 0.0,
        };
        assert!((eval.loss - want).abs() <= 2.0 * f64::EPSILON * want.abs(), "{token}: {}", eval.loss);
    }
}

proptest! {
    #[test]
    fn alpha_to_0_is_nll(log_p in -40.0f64..-1e-9, exponent in -30.0f64..-4.0, negative in any::<bool>()) {
        let alpha = exponent.exp() as f32 * if negative { -1.0 } else { 1.0 };
        let (near, at) = (Power::new(alpha).unwrap().of_log_p(log_p), Nll.of_log_p(log_p));
        // (1 - e^(a x)) / a = -x - a x^2 / 2 - .. and e^(a x) = 1 + a x + ..; the rest of the series is below
        // its first term where |a x| < 1, and so is it in rounding.
        let ax = (f64::from(alpha) * log_p).abs();
        prop_assert!((near.loss - at.loss).abs() <= at.loss * (ax + 4.0 * f64::EPSILON));
        prop_assert!((near.slope - at.slope).abs() <= 2.0 * ax + f64::EPSILON);
    }

    #[test]
    fn the_ends_of_focal_and_mix_are_nll_and_one_minus_p(log_p in -60.0f64..-1e-12) {
        let close = |a: TokenEval<f64>, b: TokenEval<f64>| {
            let near = |x: f64, y: f64| (x - y).abs() <= 4.0 * f64::EPSILON * (1.0 + log_p.abs()) * y.abs();
            near(a.loss, b.loss) && near(a.slope, b.slope)
        };
        let (nll, one) = (Nll.of_log_p(log_p), Power::new(1.0).unwrap().of_log_p(log_p));
        prop_assert_eq!(Power::new(0.0).unwrap().of_log_p(log_p), nll);
        prop_assert!(close(parsed("focal:gamma=0").of_log_p(log_p), nll));
        prop_assert!(close(parsed("mix:lambda=1").of_log_p(log_p), nll));
        prop_assert!(close(parsed("mix:lambda=0").of_log_p(log_p), one));
        // huber with delta = 1 is half the square of the error everywhere.
        let half = parsed("huber:delta=1").of_log_p(log_p);
        prop_assert!((half.loss - 0.5 * one.loss * one.loss).abs() <= 4.0 * f64::EPSILON * half.loss);
        // A gate that cuts nothing off is no gate.
        prop_assert_eq!(parsed("thresholded:inner=nll").of_log_p(log_p), nll);
    }

    #[test]
    fn a_negative_alpha_pushes_harder_than_nll(alpha in -1.0f32..-0.001, log_p in -700.0f64..-1e-6) {
        let eval = Power::new(alpha).unwrap().of_log_p(log_p);
        let exponent = f64::from(alpha) * log_p;
        prop_assert!(eval.slope < -1.0 && eval.loss > -log_p);
        prop_assert!((eval.slope / -exponent.exp() - 1.0).abs() <= 4.0 * f64::EPSILON * (1.0 + exponent));
    }
}

#[test]
fn a_negative_alpha_saturates_at_the_greatest_finite_slope() {
    let power = Power::new(-1.0).unwrap();
    for log_p in [-89.0f32, -700.0, f32::NEG_INFINITY] {
        let slope = power.of_log_p(log_p).slope;
        // exp(ln MAX) in f32: the exponent of 88.72 is rounded to 4e-6 of an e-fold.
        assert!(slope.is_finite() && slope < -3.4e38, "{slope}");
    }
    let slope = power.of_log_p(f64::NEG_INFINITY).slope;
    assert!(slope.is_finite() && slope < -1.79e308, "{slope}");
}
