//! What objectives become at the ends of their parameters, and what two of them have in common.

use super::families::{Case, case, families, losses};
use crate::draw::cases;
use proptest::prelude::*;
use tokenloss_core::sample::*;
use tokenloss_core::{Error, RowPartials, Segments, reference};

fn of(objective: impl SampleObjective, case: &Case) -> (f64, Vec<f64>) {
    let n = case.losses.len();
    let (mut weights, mut scratch) = (vec![f64::NAN; n], vec![0; objective.scratch(n)]);
    let loss = case.samples(|samples| objective.of_losses(&samples, &mut weights, &mut scratch)).unwrap();
    (loss, weights)
}

/// Equal to so many roundings of the losses' size.
#[track_caller]
fn same((loss, weights): (f64, Vec<f64>), (other, others): (f64, Vec<f64>), size: f64, roundings: f64) {
    let bound = roundings * f64::EPSILON;
    assert!((loss - other).abs() <= bound * size, "{loss} and {other}");
    for (a, b) in weights.iter().zip(&others) {
        assert!((a - b).abs() <= bound, "{weights:?} and {others:?}");
    }
}

fn mean() -> Mean {
    Mean::new().unwrap()
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_is_the_mean_at_an_end_of_its_parameters(case in case()) {
        let (want, size) = (of(mean(), &case), case.size());
        let n = case.losses.len();
        same(of(Cvar::new(1.0).unwrap(), &case), want.clone(), size, 32.0);
        same(of(MeanCvar::new(0.3, 0.0).unwrap(), &case), want.clone(), size, 32.0);
        same(of(TopK::new(n as f32).unwrap(), &case), want.clone(), size, 32.0);
        same(of(Extremile::new(1.0).unwrap(), &case), want.clone(), size, 32.0);
        same(of(Esrm::new(0.0).unwrap(), &case), want.clone(), size, 32.0);
        same(of(ChiSquareDro::new(0.0).unwrap(), &case), want.clone(), size, 32.0);
        same(of(Tilted::new(0.0).unwrap(), &case), want.clone(), size, 32.0);
        same(of(InversePropensity::new(1.0).unwrap(), &case), want.clone(), size, 32.0);
        same(of(SelfNormalised::new(1.0).unwrap(), &case), want.clone(), size, 32.0);
        same(of(Cadft::new(0.0).unwrap(), &case), want.clone(), size, 32.0);
        let flat = Case { weights: vec![0.75; n], difficulties: vec![1.5; n], ..case.clone() };
        same(of(WeightedMean::new().unwrap(), &flat), want.clone(), size, 32.0);
        same(of(Cadft::new(2.0).unwrap(), &flat), want.clone(), size, 32.0);
        let whole = Case { offsets: vec![0, n], group_weights: vec![1.0], proportions: vec![0.5], ..case.clone() };
        same(of(GroupDro::new(0.5).unwrap(), &whole), want.clone(), size, 32.0);
        same(of(Rex::new(3.0).unwrap(), &whole), want.clone(), size, 64.0);
        let unit = Case { duals: vec![1.0; n], ..case };
        same(of(Feasible::new(0.0, 0.1).unwrap(), &unit), want, size, 32.0);
    }

    #[test]
    fn what_is_the_maximum_at_an_end_of_its_parameters(losses in losses(8)) {
        let case = Case::of(&losses);
        let want = of(TopK::new(1.0).unwrap(), &case);
        prop_assert_eq!(want.0, case.extremes().1);
        prop_assert_eq!(&of(Cvar::new(0.1).unwrap(), &case), &want);
        prop_assert_eq!(&of(MeanCvar::new(1e-6, 1.0).unwrap(), &case), &want);
        same(of(ChiSquareDro::new(7.0).unwrap(), &case), want.clone(), case.size(), 4.0);
        prop_assert_eq!(&of(Esrm::new(1024.0).unwrap(), &case).0, &want.0);
        // Losses that are apart at all are thousandfold further apart than these temperatures.
        let gap = losses.iter().map(|l| want.0 - l).filter(|gap| *gap > 0.0).fold(1.0, f64::min);
        prop_assume!(gap > 1e-3);
        same(of(KlDro::new(1e-6, 0.0).unwrap(), &case), want.clone(), case.size() + 1e-6 * 2.1 / f64::EPSILON, 4.0);
        same(of(Tilted::new(1e6).unwrap(), &case), want, case.size() + 1e-6 * 2.1 / f64::EPSILON, 4.0);
    }

    #[test]
    fn cvar_of_a_share_is_the_average_of_as_many(losses in losses(10), k in 1usize..=10) {
        // Of ten, no share but one half and one is an f32.
        let case = Case::of(&losses);
        same(of(Cvar::new(k as f32 / 10.0).unwrap(), &case), of(TopK::new(k as f32).unwrap(), &case), case.size(), 1.0);
    }

    #[test]
    fn cvar_is_its_minimum_over_thresholds(losses in losses(9), alpha in 0.01f32..=1.0) {
        let case = Case::of(&losses);
        let share = f64::from(alpha) * 9.0;
        let dual = |eta: f64| eta + losses.iter().map(|l| (l - eta).max(0.0)).sum::<f64>() / share.max(1.0);
        let least = losses.iter().map(|eta| dual(*eta)).fold(f64::INFINITY, f64::min);
        let loss = of(Cvar::new(alpha).unwrap(), &case).0;
        prop_assert!((loss - least).abs() <= 1e-6 * (case.size() + 1.0), "{loss} and {least}");
    }

    /// The extremile of a whole number of draws is the expected maximum, here by counting: P(max <= l_(i)) = (i / n)^r.
    #[test]
    fn an_extremile_is_an_expected_maximum(losses in losses(5)) {
        let case = Case::of(&losses);
        let mut maxima = 0.0;
        for a in &losses { for b in &losses { for c in &losses { maxima += a.max(*b).max(*c) } } }
        let loss = of(Extremile::new(3.0).unwrap(), &case).0;
        prop_assert!((loss - maxima / 125.0).abs() <= 1e-13 * case.size(), "{loss} and {}", maxima / 125.0);
    }

    #[test]
    fn a_tilt_is_kl_dro_of_its_inverse(case in case(), log_tau in -3.0f32..3.0) {
        let tau = log_tau.exp2().round().max(0.25);
        let tau = tau.log2().round().exp2();
        let (robust, tilted) = (KlDro::new(tau, 0.0).unwrap(), Tilted::new(1.0 / tau).unwrap());
        same(of(robust, &case), of(tilted, &case), case.size(), 4.0);
        // The mirror image: the least of what the greatest was.
        let mirrored = Case { losses: case.losses.iter().map(|l| -l).collect(),
            reference: case.reference.as_ref().map(|r| r.iter().map(|l| -l).collect()), ..case.clone() };
        let (loss, weights) = of(Tilted::new(-1.0 / tau).unwrap(), &mirrored);
        prop_assert_eq!((-loss, weights), of(tilted, &case));
    }

    #[test]
    fn any_distribution_with_a_penalty_is_dro(case in case(), log_nu in -3.0f32..6.0) {
        let nu = log_nu.exp();
        let any = TopK::new(1.0).unwrap();
        let (kl, dro) = (of(Kl::new(any, nu).unwrap(), &case), of(KlDro::new(nu, 0.0).unwrap(), &case));
        // An exponent of l / nu carries that many half roundings.
        let steep = 1.0 + case.size() / f64::from(nu);
        same(kl, dro, case.size(), 16.0 * steep);
        // The ball through the optimum of the penalty has the same optimum.
        let (_, q) = of(ChiSquare::new(any, nu).unwrap(), &case);
        let n = q.len() as f64;
        let rho = n * q.iter().map(|q| (q - 1.0 / n).powi(2)).sum::<f64>();
        let (loss, weights) = of(ChiSquareDro::new(rho as f32).unwrap(), &case);
        for (a, b) in weights.iter().zip(&q) {
            // The radius is rounded to an f32, of which the weights are a square root.
            prop_assert!((a - b).abs() <= 1e-3, "{weights:?} and {q:?}, loss {loss}");
        }
    }

    /// The dual value: what the weights give, less the price of their divergence.
    #[test]
    fn kl_dro_is_its_dual_and_knows_its_temperature(case in case(), log_tau in -2.0f32..3.0, rho in 0.0f32..2.0) {
        let tau = log_tau.exp();
        let robust = KlDro::new(tau, rho).unwrap();
        let (loss, q) = of(robust, &case);
        let n = q.len() as f64;
        let kl: f64 = q.iter().filter(|q| **q > 0.0).map(|q| q * (n * q).ln()).sum();
        let linear: f64 = (0..q.len()).map(|i| q[i] * case.excess(i)).sum();
        let dual = linear - f64::from(tau) * (kl - f64::from(rho));
        prop_assert!((loss - dual).abs() <= 1e-13 * (case.size() + f64::from(tau)), "{loss} and {dual}");
        let d_tau = robust.d_tau(&q);
        // Of a neighbouring f32 on each side.
        let (up, down) = (tau * 1.0001, tau / 1.0001);
        let at = |tau: f32| of(KlDro::new(tau, rho).unwrap(), &case).0;
        let slope = (at(up) - at(down)) / (f64::from(up) - f64::from(down));
        prop_assert!((d_tau - slope).abs() <= 1e-6 * (1.0 + case.size() / f64::from(tau)).powi(2), "{d_tau} and {slope}");
    }

    /// While no weight is 0: the mean and a multiple of the standard deviation.
    #[test]
    fn a_small_chi_square_ball_is_a_penalty_on_the_deviation(losses in losses(8), rho in 0.0f32..0.1) {
        let case = Case::of(&losses);
        let (loss, weights) = of(ChiSquareDro::new(rho).unwrap(), &case);
        prop_assume!(weights.iter().all(|w| *w > 0.0));
        let (average, _) = of(mean(), &case);
        let variance = losses.iter().map(|l| (l - average).powi(2)).sum::<f64>() / 8.0;
        let want = average + (f64::from(rho) * variance).sqrt();
        prop_assert!((loss - want).abs() <= 1e-7 * (loss - average).abs() + 1e-13 * case.size(), "{loss} and {want}");
        let distance = 8.0 * weights.iter().map(|q| (q - 0.125).powi(2)).sum::<f64>();
        prop_assert!(variance == 0.0 || (distance - f64::from(rho)).abs() <= 1e-12, "{distance} in a ball of {rho}");
    }

    #[test]
    fn no_penalty_is_the_risk_itself_and_an_infinite_one_the_mean(case in case()) {
        let n = case.losses.len() as f64;
        let (lo, hi) = case.extremes();
        let spectra = (Cvar::new(0.3).unwrap(), Extremile::new(3.0).unwrap(), Esrm::new(4.0).unwrap());
        let (average, flat) = of(mean(), &case);
        // The penalty is worth no more than it costs: nu ln n and nu (n - 1) / 2 at the most.
        let risk = |plain: f64, kl: f64, chi: f64| {
            let slack = 1e-14 * case.size();
            assert!(kl <= plain + slack && kl >= plain - 1e-6 * n.ln() - slack, "{plain} {kl}");
            assert!(chi <= plain + slack && chi >= plain - 1e-6 * (n - 1.0) / 2.0 - slack, "{plain} {chi}");
        };
        let far = |(loss, weights): (f64, Vec<f64>)| {
            // Of a first order in the range over nu, and bounded by the mean from below.
            assert!(loss >= average - 1e-9 && loss - average <= n * (hi - lo).powi(2) / 1e6 + 1e-9, "{loss} {average}");
            weights.iter().zip(&flat).for_each(|(a, b)| assert!((a - b).abs() <= 2.0 * (hi - lo) / 1e6 + 1e-12));
        };
        macro_rules! both { ($($s:expr),*) => { $(
            let plain = of($s, &case).0;
            risk(plain, of(Kl::new($s, 1e-6).unwrap(), &case).0, of(ChiSquare::new($s, 1e-6).unwrap(), &case).0);
            far(of(Kl::new($s, 1e6).unwrap(), &case));
            far(of(ChiSquare::new($s, 1e6).unwrap(), &case));
        )* } }
        both!(spectra.0, spectra.1, spectra.2);
    }

    #[test]
    fn a_reference_of_0_changes_nothing(case in case()) {
        let none = Case { reference: None, ..case.clone() };
        let zero = Case { reference: Some(vec![0.0; case.losses.len()]), ..case };
        for family in families() {
            let values: Vec<f32> = family.parameters.iter().map(|p| p.default).collect();
            let (mut none, mut zero) = (none.clone(), zero.clone());
            family.prepare(&values, &mut none);
            family.prepare(&values, &mut zero);
            let objective = family.make(&values);
            prop_assert_eq!(objective.f64(&none), objective.f64(&zero), "{}", family.name);
        }
    }

    #[test]
    fn the_squared_hinge_is_resilience_with_the_best_duals(case in case(), epsilon in -1.0f32..4.0, alpha in 0.1f32..8.0) {
        let best: Vec<f64> = (0..case.losses.len())
            .map(|i| f64::from(alpha) * (case.excess(i) - f64::from(epsilon)).max(0.0))
            .collect();
        let hinge = of(SquaredHinge::new(epsilon, alpha).unwrap(), &case);
        let size = 8.0 * (case.size() + 4.0).powi(2);
        let resilient = Resilient::new(epsilon, alpha, 0.1).unwrap();
        same(of(resilient, &Case { duals: best.clone(), ..case.clone() }), hinge.clone(), size, 32.0);
        // The best, because all others give less.
        for by in [-0.1, 0.1] {
            let others = best.iter().map(|dual| (dual + by).max(0.0)).collect();
            let (less, _) = of(resilient, &Case { duals: others, ..case.clone() });
            prop_assert!(less <= hinge.0 + 1e-14 * size);
        }
    }

    #[test]
    fn a_running_average_of_one_step_is_kl_dro(case in case(), log_tau in -1.0f32..3.0) {
        let tau = log_tau.exp();
        let running = RunningKl::new(tau, 0.3, 0.0, 0.5).unwrap();
        let log_u = case.samples(|samples| running.step(&samples, f64::NEG_INFINITY)).unwrap();
        let want = of(KlDro::new(tau, 0.5).unwrap(), &case);
        let steep = 1.0 + case.size() / f64::from(tau);
        same(of(running, &Case { log_u: Some(log_u), ..case.clone() }), want, case.size() + f64::from(tau), 32.0 * steep);
    }
}

/// d/dw of the risk of logits times w, at w = 1.
#[test]
fn the_invariance_penalty_is_the_squared_derivative_of_the_risk_in_the_scale() {
    let rows: [(&[f64], usize); 5] = [
        (&[2.0, 0.0, -1.0], 0),
        (&[0.5, 1.5, 0.0], 2),
        (&[40.0, 0.0, -3.0], 0),
        (&[1000.0, 1002.5, 999.25, 1001.0], 1),
        (&[-1.0, 3.0], 0),
    ];
    let offsets = [0, 2, 5];
    let environments = Segments::new(&offsets, 5).unwrap();
    let risk = |range: std::ops::Range<usize>, w: f64| {
        let of = |(z, target): &(&[f64], usize)| {
            let scaled: Vec<f64> = z.iter().map(|z| w * z).collect();
            -reference::summarise(&scaled, *target).unwrap().target.log_p
        };
        let n = range.len() as f64;
        rows[range].iter().map(of).sum::<f64>() / n
    };
    let penalty = |logits: &[Vec<f64>]| -> (f64, Vec<f64>, Vec<RowPartials<f64>>) {
        let evals: Vec<_> = logits
            .iter()
            .zip(&rows)
            .map(|(z, (_, target))| scale_derivative(&reference::summarise(z, *target).unwrap()))
            .collect();
        let d: Vec<f64> = evals.iter().map(|eval| eval.loss).collect();
        let mut weights = vec![0.0; 5];
        let samples = Samples::new(&d).unwrap().with_groups(environments).unwrap();
        let loss = Irm::new().unwrap().of_losses(&samples, &mut weights, &mut []).unwrap();
        let partials = evals.iter().zip(&weights).map(|(eval, w)| eval.partials.scaled(*w)).collect();
        (loss, d, partials)
    };
    let logits: Vec<Vec<f64>> = rows.iter().map(|(z, _)| z.to_vec()).collect();
    let (loss, d, partials) = penalty(&logits);
    let mut want = 0.0;
    for range in environments.iter() {
        let h = 1e-5;
        let slope = (risk(range.clone(), 1.0 + h) - risk(range.clone(), 1.0 - h)) / (2.0 * h);
        let mean = d[range.clone()].iter().sum::<f64>() / range.len() as f64;
        // Truncation, h^2 times the third derivative in the scale, and the rounding of logits of 1000.
        assert!((slope - mean).abs() <= 1e-7, "{slope} and {mean}");
        want += slope * slope / 2.0;
    }
    assert!((loss - want).abs() <= 1e-7, "{loss} and {want}");
    // And its gradient goes through slope and entropy.
    for row in 0..5 {
        let summary = reference::summarise(rows[row].0, rows[row].1).unwrap();
        let mut dlogits = vec![f64::NAN; rows[row].0.len()];
        reference::push_back(rows[row].0, rows[row].1, &summary, partials[row], &mut dlogits);
        for (j, got) in dlogits.iter().enumerate() {
            let at = |by: f64| {
                let mut moved = logits.clone();
                moved[row][j] += by;
                penalty(&moved).0
            };
            let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((got - difference).abs() <= 1e-7, "row {row}, column {j}: {got} and {difference}");
        }
    }
}

/// A margin at which -log_p - entropy has lost the row in f32.
#[test]
fn the_derivative_in_the_scale_is_exact_for_a_confident_row() {
    for margin in [5.0f32, 15.0, 30.0, 80.0] {
        let row = reference::summarise(&[margin, 0.0], 0).unwrap();
        let tail = f64::from(-margin).exp();
        let want = -f64::from(margin) * tail / (1.0 + tail);
        let got = f64::from(scale_derivative(&row).loss);
        assert!((got / want - 1.0).abs() <= 1e-6, "margin {margin}: {got} and {want}");
    }
}

/// With log losses it is the cross-entropy with the soft target.
#[test]
fn easy_llp_of_bags_with_one_sample_is_the_soft_target() -> Result<(), Error> {
    let losses = [0.25, 1.5, 2.0, 0.125];
    let samples =
        Samples::new(&losses)?.with_groups(Segments::new(&[0, 2, 4], 4)?)?.with_proportions(&[1.0, 0.25])?;
    let mut weights = [0.0f64; 4];
    // Of a bag of one, the proportion is the target whatever the prior.
    for prior in [0.0, 0.3, 1.0] {
        let loss = EasyLlp::new(prior)?.of_losses(&samples, &mut weights, &mut [])?;
        assert!((loss - (0.25 + 0.25 * 2.0 + 0.75 * 0.125) / 2.0).abs() < 1e-15);
    }
    // The estimate is unbiased: over all labels of a bag of two, drawn with the prior, it is the expected loss.
    let p = 0.25f64;
    let mut expected = 0.0;
    for (labels, chance) in [(0, (1.0 - p) * (1.0 - p)), (1, p * (1.0 - p)), (1, p * (1.0 - p)), (2, p * p)] {
        let bag = Samples::new(&losses)?.with_groups(Segments::new(&[0, 4], 4)?)?;
        let share = [f64::from(labels) / 2.0];
        expected +=
            chance * EasyLlp::new(0.25)?.of_losses(&bag.with_proportions(&share)?, &mut weights, &mut [])?;
    }
    let want = (p * (0.25 + 2.0) + (1.0 - p) * (1.5 + 0.125)) / 2.0;
    assert!((expected - want).abs() < 1e-15, "{expected} and {want}");
    Ok(())
}

#[test]
fn class_weights_are_those_of_the_targets_and_ignored_rows_have_none() {
    let (mut weights, targets) = ([f32::NAN; 4], [1, -100, 0, 1]);
    let denominator = class_weights(&[0.5, 2.0], &targets, &mut weights).unwrap();
    assert_eq!((weights, denominator), ([2.0, 0.0, 0.5, 2.0], 4.5));
}
