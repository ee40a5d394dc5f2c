//! The gradient lemma with its true sign, `dL/dz_j = slope ([j = t] - p_j)`, for everything in the list.

use crate::draw::{self, cases, named, objective, row, sampled};
use num_traits::Float;
use proptest::prelude::*;
use tokenloss_core::{
    AnyToken, Dft, Objective, Power, RowObjective, RowPartials, TargetProb, Thresholded, TokenEval,
    TokenObjective, check_objective, reference,
};

/// Step of the differences, in logits.
const STEP: f64 = 3e-4;

fn kinks(objective: &Objective) -> Vec<f64> {
    objective.kinks().into_iter().flatten().map(f64::from).collect()
}

/// Whether `p` changes sides within four steps of some logit. `d log_p / dz` is at most `1 - p`, and a kink is
/// known to the precision of an `f32`.
fn near_a_kink(objective: &Objective, target: TargetProb<f64>) -> bool {
    kinks(objective)
        .into_iter()
        .any(|kink| (target.p() - kink).abs() <= 4.0 * STEP * kink * (target.one_minus_p + 4.0 * STEP) + 2e-7)
}

/// `d loss / d z_j` by a difference of order 4, stop-gradient factors held at the row itself.
fn difference(objective: &impl TokenObjective, logits: &[f64], target: usize, j: usize) -> f64 {
    let frozen = reference::summarise(logits, target).unwrap().target;
    let loss = |steps: f64| {
        let mut z = logits.to_vec();
        z[j] += steps * STEP;
        objective.held(frozen, reference::summarise(&z, target).unwrap().target)
    };
    (8.0 * (loss(1.0) - loss(-1.0)) - (loss(2.0) - loss(-2.0))) / (12.0 * STEP)
}

fn analytic(objective: &impl TokenObjective, logits: &[f64], target: usize) -> (TokenEval<f64>, Vec<f64>) {
    let summary = reference::summarise(logits, target).unwrap();
    let eval = objective.of_target(summary.target);
    let mut dlogits = vec![f64::NAN; logits.len()];
    reference::push_back(logits, target, &summary, objective.of_row(&summary).partials, &mut dlogits);
    (eval, dlogits)
}

fn gradient_is_difference(objective: &Objective, logits: &[f64], target: usize) -> Result<(), TestCaseError> {
    let (eval, dlogits) = analytic(objective, logits, target);
    for (j, &d) in dlogits.iter().enumerate() {
        if logits[j] == f64::NEG_INFINITY {
            prop_assert_eq!(d, 0.0, "a masked column");
            continue;
        }
        let want = difference(objective, logits, target, j);
        // Truncation: STEP^4 / 30 of the fifth derivative, 16^5 slopes for an exponent of 16, makes 3e-10. The
        // rounding of `z + h` at an offset of 1000 makes 4e-10 and that of the loss eps / STEP = 7e-13 of it.
        let tolerance = 5e-9 * eval.slope.abs() + 2e-12 * eval.loss.abs() + 1e-300;
        prop_assert!(
            (d - want).abs() <= tolerance,
            "{} on {:?}, target {}: column {} has {:e}, the difference is {:e}",
            objective,
            logits,
            target,
            j,
            d,
            want
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn the_gradient_is_that_of_the_loss(objective in objective(), (logits, target) in row()) {
        let summary = reference::summarise(&logits, target).unwrap();
        // A masked target has a loss that is infinite or constant; see `oracle`.
        prop_assume!(logits[target].is_finite() && !near_a_kink(&objective, summary.target));
        gradient_is_difference(&objective, &logits, target)?;
    }

    #[test]
    fn its_sign_is_the_true_one(objective in objective(), (logits, target) in row()) {
        // Descent pushes the target's logit up by W and every other one down by s p_j: the opposite sign of the
        // lemma as the paper prints it.
        let summary = reference::summarise(&logits, target).unwrap();
        let (eval, dlogits) = analytic(&objective, &logits, target);
        prop_assert!(eval.slope <= 0.0);
        for (j, &d) in dlogits.iter().enumerate() {
            prop_assert!(if j == target { d <= 0.0 } else { d >= 0.0 }, "column {j} has {d}");
        }
        let weight = -eval.slope * summary.target.one_minus_p;
        prop_assert!((dlogits[target] + weight).abs() <= 4.0 * f64::EPSILON * weight);
    }

    #[test]
    fn a_row_sums_to_d_target_plus_d_lse(
        (logits, target) in row(), d_target in -2.0f64..2.0, d_lse in -2.0f64..2.0, d_entropy in -2.0f64..2.0) {
        let summary = reference::summarise(&logits, target).unwrap();
        let partials = RowPartials { d_target, d_lse, d_entropy, ..RowPartials::zero() };
        let mut dlogits = vec![f64::NAN; logits.len()];
        reference::push_back(&logits, target, &summary, partials, &mut dlogits);
        let sum: f64 = dlogits.iter().sum();
        // A share p_j carries |z_j - max| half-ulps, which p_j itself makes less than .4 in all, and a few more;
        // there are at most 11 of them, times partials of at most 2. Measured: 10 eps. The entropy's part, which
        // sums to 0, is no larger.
        let off = sum - (d_target + d_lse);
        prop_assert!(off.abs() <= 40.0 * f64::EPSILON, "off by {off:e}");
    }

    #[test]
    fn the_entropy_direction_is_the_derivative_of_the_entropy((logits, target) in row()) {
        let summary = reference::summarise(&logits, target).unwrap();
        let mut dlogits = vec![f64::NAN; logits.len()];
        let partials = RowPartials { d_entropy: 1.0, ..RowPartials::zero() };
        reference::push_back(&logits, target, &summary, partials, &mut dlogits);
        for (j, &d) in dlogits.iter().enumerate().filter(|(j, _)| logits[*j].is_finite()) {
            let entropy = |steps: f64| {
                let mut z = logits.clone();
                z[j] += steps * STEP;
                reference::summarise(&z, target).unwrap().stats.entropy()
            };
            let want = (8.0 * (entropy(1.0) - entropy(-1.0)) - (entropy(2.0) - entropy(-2.0))) / (12.0 * STEP);
            prop_assert!((d - want).abs() <= 5e-10, "column {j}: {d:e}, the difference is {want:e}");
        }
    }

    #[test]
    fn a_shift_of_the_logits_changes_nothing(objective in objective(), (logits, target) in row(), by in -100i32..100) {
        // Logits and shift on a grid of 2^-10, so that the shifted logits are exact, and so is every
        // difference: the results are the same bit for bit.
        let grid = |z: f64| (z * 1024.0).round() / 1024.0;
        let logits: Vec<f64> = logits.into_iter().map(grid).collect();
        let shifted: Vec<f64> = logits.iter().map(|z| z + f64::from(by)).collect();
        prop_assert_eq!(analytic(&objective, &logits, target), analytic(&objective, &shifted, target));
    }

    #[test]
    fn check_objective_passes_for_every_listed_objective(objective in draw::token()) {
        check_objective(&objective).map_err(|e| TestCaseError::fail(format!("{objective}: {e}")))?;
    }

    #[test]
    fn check_objective_passes_behind_every_gate(inner in draw::token(), a in 0.0f32..=1.0, b in 0.0f32..=1.0) {
        let gate = Thresholded::new(inner, a.min(b), a.max(b)).unwrap();
        check_objective(&gate).map_err(|e| TestCaseError::fail(format!("{inner} in {a} to {b}: {e}")))?;
    }
}

/// The target's column of the lse direction is p itself, to relative accuracy at both ends: where p is small it
/// is not what is left of 1.
#[test]
fn the_lse_direction_is_exact_at_both_ends() {
    for margin in [-80.0f64, -40.0, -17.0, 0.0, 17.0, 80.0] {
        let summary = reference::summarise(&[margin, 0.0], 0).unwrap();
        let of = |d_target, d_lse| {
            RowPartials { d_target, d_lse, ..RowPartials::zero() }.target_gradient(&summary)
        };
        let (p, e) = (1.0 / (1.0 + (-margin).exp()), 1.0 / (1.0 + margin.exp()));
        // The exponent of 80 is exact, so that only a few operations round.
        assert!((of(0.0, 1.0) / p - 1.0).abs() <= 1e-15 * (1.0 + margin.abs()), "p at a margin of {margin}");
        assert!(
            (of(1.0, -1.0) / e - 1.0).abs() <= 1e-15 * (1.0 + margin.abs()),
            "1 - p at a margin of {margin}"
        );
    }
}

#[test]
fn a_weight_of_0_switches_any_partials_off() {
    let wild = RowPartials { d_target: f64::NEG_INFINITY, d_lse: f64::INFINITY, ..RowPartials::nan() };
    assert_eq!(wild.scaled(0.0), RowPartials::zero());
    assert!(wild.is_live() && !wild.scaled(0.0).is_live());
    assert_eq!(RowPartials::of_slope(-0.5).scaled(3.0), RowPartials::of_slope(-1.5));
}

#[test]
fn the_gradient_is_right_on_both_sides_of_every_kink() {
    let mut sides = 0;
    let gates = [(0.2, 1.0), (0.0, 0.9), (0.3, 0.7), (0.001, 0.999)];
    let objectives = sampled().into_iter().flat_map(|inner| {
        let gated = gates.map(|(lo, hi)| Objective::Thresholded(Thresholded::new(inner, lo, hi).unwrap()));
        gated.into_iter().chain([Objective::Token(inner)])
    });
    for objective in objectives {
        for kink in kinks(&objective) {
            if kink <= 0.0 || kink >= 1.0 {
                continue;
            }
            for side in [-1.0, 1.0] {
                // Five steps of the difference away, in the logit of a row of two classes.
                let logits = [(kink / (1.0 - kink)).ln() + side * 5.0 * STEP, 0.0];
                let p = reference::summarise(&logits, 0).unwrap().target.p();
                assert_eq!(p > kink, side > 0.0);
                gradient_is_difference(&objective, &logits, 0).unwrap();
                sides += 1;
            }
        }
    }
    assert!(sides >= 380, "only {sides} sides looked at");
}

#[test]
fn a_gate_keeps_its_bounds_and_drops_what_lies_beside_them() {
    for name in AnyToken::NAMES {
        let [lo, hi] = [0.25f32, 0.75];
        let inner = AnyToken::with_parameters(name, defaults(name)).unwrap().unwrap();
        let gate = Thresholded::new(inner, lo, hi).unwrap();
        // exp(ln p) may miss p by a rounding, so the bound itself is given as the exact pair.
        for (p, kept) in [(0.25, true), (0.75, true), (0.25 - 1e-9, false), (0.75 + 1e-9, false), (0.5, true)]
        {
            let target = TargetProb { log_p: f64::ln(p), one_minus_p: 1.0 - p };
            let eval = gate.of_target(target);
            assert_eq!(eval.kept, kept, "{name} at {p}");
            let want =
                if kept { inner.of_target(target) } else { TokenEval { loss: 0.0, slope: 0.0, kept: false } };
            assert_eq!(eval, want, "{name} at {p}");
        }
    }
}

fn defaults(name: &str) -> [f32; 4] {
    let mut values = [0.0; 4];
    for (value, parameter) in values.iter_mut().zip(AnyToken::parameters_of(name).unwrap()) {
        *value = parameter.default;
    }
    values
}

/// A wrong objective: what `slope` makes of the right one, `1 - p`.
struct Wrong<F>(F);

impl<F: Fn(f64, f64) -> f64> TokenObjective for Wrong<F> {
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        let log_p = target.log_p.to_f64().unwrap();
        let slope = self.0(log_p, -log_p.exp());
        TokenEval { loss: target.one_minus_p, slope: T::from(slope).unwrap(), kept: true }
    }
}

#[test]
fn check_objective_fails_for_a_wrong_slope() {
    check_objective(&Wrong(|_, slope| slope)).expect("the right one passes");
    check_objective(&Wrong(|_, slope: f64| -slope)).expect_err("the paper's printed sign");
    check_objective(&Wrong(|_, slope: f64| slope * (1.0 + 1e-5))).expect_err("a slope off by 1e-5");
    check_objective(&Wrong(|_, _| -1.0)).expect_err("f' in place of f' p");
    check_objective(&Wrong(|_, _| 0.0)).expect_err("no slope at all");
    check_objective(&Wrong(|_, _| f64::NAN)).expect_err("NaN");
    check_objective(&Wrong(|log_p, slope| if log_p < -19.0 { 0.0 } else { slope }))
        .expect_err("wrong at one end");
    check_objective(&Wrong(|log_p, slope| if log_p > -2e-6 { 0.0 } else { slope }))
        .expect_err("and at the other");
    let failure = check_objective(&Wrong(|_, slope: f64| -slope)).unwrap_err();
    let text = failure.to_string();
    let (start, end) = text.split_once(", but the loss changes by ").expect("both numbers");
    assert!(start.starts_with("at log_p = -19.99") && start.contains("the slope is 0.00000000206"), "{text}");
    assert!(end.starts_with("-0.00000000205") && end.ends_with(" per unit"), "{text}");
}

/// DFT as one might write it by mistake: without saying what is held.
struct LooseDft;

impl TokenObjective for LooseDft {
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        Dft.of_target(target)
    }
}

#[test]
fn check_objective_holds_what_the_objective_holds() {
    check_objective(&Dft).expect("declared");
    check_objective(&LooseDft).expect_err("not declared");
}

proptest! {
    #[test]
    fn dft_has_the_gradient_of_one_minus_p_and_another_value(log_p in -30.0f64..-1e-9) {
        let (dft, power) = (Dft.of_log_p(log_p), Power::new(1.0).unwrap().of_log_p(log_p));
        prop_assert_eq!(dft.slope, power.slope);
        prop_assert_eq!(dft.loss, -log_p.exp() * log_p);
        // -p log p < 1 - p on (0, 1), strictly.
        prop_assert!(dft.loss < power.loss, "{} and {}", dft.loss, power.loss);
    }

    #[test]
    fn the_slope_is_that_of_the_declared_domain_only(objective in named("focal"), log_p in -30.0f64..0.0) {
        // A slope is never steeper than (1 + gamma) times that of nll: what the closed form allows.
        let gamma = f64::from(objective.parameters()[0]);
        let slope = objective.of_log_p(log_p).slope;
        prop_assert!(slope <= 0.0 && slope >= -(1.0 + gamma));
    }
}
