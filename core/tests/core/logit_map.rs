//! What logits are taken for: derivatives, masks, and the losses that are nll of mapped logits.

use crate::draw::{cases, objective, row};
use proptest::prelude::*;
use tokenloss_core::{
    Batch, ClassMask, Error, Link, LogitMap, Nll, Objective, RowMap, RowObjective, Shape, TokenObjective,
    aldr_lambda, reference,
};

const STEP: f64 = 3e-4;

fn link() -> impl Strategy<Value = Link> {
    prop_oneof![
        Just(Link::Identity),
        (0.5f32..60.0).prop_map(|cap| Link::Softcap { cap }),
        Just(Link::StableMax),
    ]
}

fn fourth_order(of: impl Fn(f64) -> f64) -> f64 {
    (8.0 * (of(1.0) - of(-1.0)) - (of(2.0) - of(-2.0))) / (12.0 * STEP)
}

fn summary(map: RowMap<'_>, z: &[f64], target: usize) -> tokenloss_core::RowSummary<f64> {
    reference::summarise_mapped(Some(map), z, target).unwrap()
}

fn dlogits(objective: &impl RowObjective, map: RowMap<'_>, z: &[f64], target: usize) -> Vec<f64> {
    let row = summary(map, z, target);
    let mut d = vec![f64::NAN; z.len()];
    reference::push_back_mapped(Some(map), z, target, &row, objective.of_row(&row).partials, &mut d);
    d
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn the_derivative_is_that_of_the_link(link in link(), z in -40.0f64..40.0) {
        // StableMax has a kink in its second derivative at 0.
        prop_assume!(z.abs() > 3.0 * STEP);
        let (got, want) = (link.derivative(z), fourth_order(|steps| link.of(z + steps * STEP)));
        prop_assert!((got - want).abs() <= 1e-9 * want.abs() + 2e-11, "{link:?} at {z}: {got:e}, difference {want:e}");
    }

    #[test]
    fn the_gradient_is_that_of_the_loss(objective in objective(), link in link(), scale in 0.1f32..4.0, margin in -3.0f32..3.0,
        bits in any::<u32>(), (z, target) in row()) {
        prop_assume!(z[target].is_finite() && z.iter().all(|z| z.abs() > 3.0 * STEP));
        let words = [bits | 1 << target];
        let map = RowMap { link, scale, margin, mask: Some(&words) };
        let frozen = summary(map, &z, target);
        let slack = 8.0 * STEP * f64::from(scale);
        prop_assume!(objective.kinks().into_iter().flatten().all(|kink| (frozen.target.p() - f64::from(kink)).abs() > slack));
        let eval = objective.of_target(frozen.target);
        for (j, d) in dlogits(&objective, map, &z, target).into_iter().enumerate() {
            let want = fourth_order(|steps| {
                let mut z = z.clone();
                z[j] += steps * STEP;
                objective.held(frozen.target, summary(map, &z, target).target)
            });
            let tolerance = 5e-9 * 64.0 * eval.slope.abs() + 4e-12 * eval.loss.abs() + 2e-12;
            prop_assert!((d - want).abs() <= tolerance, "{objective} {map:?} on {z:?}: column {j} has {d:e}, {want:e}");
            prop_assert!(map.allows(j) || d == 0.0);
        }
    }

    #[test]
    fn a_mask_is_minus_infinity(objective in objective(), bits in any::<u32>(), (z, target) in row()) {
        let words = [bits | 1 << target];
        let map = RowMap { mask: Some(&words), link: Link::Identity, scale: 1.0, margin: 0.0 };
        let masked: Vec<f64> =
            (0..z.len()).map(|j| if map.allows(j) { z[j] } else { f64::NEG_INFINITY }).collect();
        prop_assume!(masked.iter().any(|z| z.is_finite()));
        let (got, want) = (summary(map, &z, target), reference::summarise(&masked, target).unwrap());
        prop_assert_eq!(got, want);
        let mut truth = vec![0.0; z.len()];
        reference::push_back(&masked, target, &want, objective.of_row(&want).partials, &mut truth);
        prop_assert_eq!(dlogits(&objective, map, &z, target), truth);
    }

    /// s(z_t) / sum_k s(z_k), by the formula of the paper.
    #[test]
    fn stable_max_is_its_formula((z, target) in row()) {
        prop_assume!(z.iter().all(|z| z.is_finite()));
        let s = |x: f64| if x >= 0.0 { x + 1.0 } else { 1.0 / (1.0 - x) };
        let slope = |x: f64| if x >= 0.0 { 1.0 } else { 1.0 / ((1.0 - x) * (1.0 - x)) };
        let sum: f64 = z.iter().map(|z| s(*z)).sum();
        let map = RowMap { link: Link::StableMax, scale: 1.0, margin: 0.0, mask: None };
        let loss = Nll.of_target(summary(map, &z, target).target).loss;
        let want = -(s(z[target]) / sum).ln();
        prop_assert!((loss - want).abs() <= 1e-13 * (1.0 + want), "{loss} and {want}");
        for (j, d) in dlogits(&Nll, map, &z, target).into_iter().enumerate() {
            let hit = if j == target { 1.0 / s(z[j]) } else { 0.0 };
            let want = slope(z[j]) * (1.0 / sum - hit);
            prop_assert!((d - want).abs() <= 1e-13, "column {j}: {d} and {want}");
        }
    }

    /// lambda log((1/K) sum_k exp((z_k - z_t + c [k != t]) / lambda)), by the formula of the paper.
    #[test]
    fn label_distributionally_robust_loss((z, target) in row(), lambda in 0.2f64..5.0, c in 0.0f64..3.0) {
        prop_assume!(z.iter().all(|z| z.is_finite()));
        let (scale, margin) = ((1.0 / lambda) as f32, c as f32);
        let (lambda, c) = (1.0 / f64::from(scale), f64::from(margin));
        let classes = z.len() as f64;
        let map = RowMap { link: Link::Identity, scale, margin, mask: None };
        let row = summary(map, &z, target);
        let top = z.iter().fold(f64::MIN, |a, b| a.max(*b));
        let sum: f64 = (0..z.len())
            .map(|k| ((z[k] - top + if k == target { 0.0 } else { c }) / lambda).exp())
            .sum();
        let want = lambda * ((sum / classes).ln() + (top - z[target]) / lambda);
        let loss = lambda * (-row.target.log_p - classes.ln());
        prop_assert!((loss - want).abs() <= 1e-12 * (1.0 + want.abs()), "{loss} and {want}");
        // No factor 1 / lambda is left in the gradient.
        let weighted = objective_times(lambda);
        let d = dlogits(&weighted, map, &z, target);
        prop_assert!((d[target] + row.target.one_minus_p).abs() <= 1e-12);
        let next: f64 = aldr_lambda(&row, lambda as f32, 2.0).unwrap();
        prop_assert!(next > 0.0 && next <= lambda * (1.0 + 1e-6));
    }
}

/// nll times a number.
fn objective_times(weight: f64) -> impl RowObjective {
    struct Times(f64);
    impl RowObjective for Times {
        fn of_row<T: num_traits::Float>(
            &self,
            row: &tokenloss_core::RowSummary<T>,
        ) -> tokenloss_core::RowEval<T> {
            let eval = Nll.of_row(row);
            let weight = T::from(self.0).unwrap();
            tokenloss_core::RowEval {
                loss: eval.loss * weight,
                partials: eval.partials.scaled(weight),
                kept: true,
            }
        }
    }
    Times(weight)
}

#[test]
fn extreme_logits() {
    let cap = Link::Softcap { cap: 30.0 };
    for z in [f64::MAX, 1e30, 700.0, -700.0, -1e30] {
        assert_eq!(cap.of(z), 30.0 * z.signum());
        assert!(cap.derivative(z) >= 0.0 && cap.derivative(z) < 1e-19);
    }
    // Where 1 - tanh^2 has no digits left: sech^2(x) = 4 exp(-2 x) for large x.
    assert!((cap.derivative(600.0) / (4.0 * (-40.0f64).exp()) - 1.0).abs() < 1e-14);
    assert!((cap.derivative(600.0f32) / (4.0 * (-40.0f32).exp()) - 1.0).abs() < 1e-5);
    for link in [cap, Link::StableMax, Link::Identity] {
        assert_eq!(link.of(f64::NEG_INFINITY), f64::NEG_INFINITY, "a mask stays one");
        assert_eq!(link.of(f64::INFINITY), f64::INFINITY);
        assert!(link.of(f64::NAN).is_nan());
        assert_eq!(link.of(0.0f64), 0.0);
        assert!((link.of(1e-20f64) / 1e-20 - 1.0).abs() < 1e-15);
    }
    assert!(Link::StableMax.of(f64::MAX).is_finite());
}

/// (1 - kappa) nll of lower bound at the target and upper bounds elsewhere.
#[test]
fn mixed_bounds() {
    let (lo, hi, target) = ([0.5, -1.0, 2.0], [1.5, 0.25, 2.5], 0);
    let mixed = [lo[0], hi[1], hi[2]];
    let map = RowMap { link: Link::Identity, scale: 1.0, margin: (hi[0] - lo[0]) as f32, mask: None };
    let (got, want) = (summary(map, &hi, target), reference::summarise(&mixed, target).unwrap());
    assert_eq!(got, want);
}

#[test]
fn the_oracle_maps_a_batch() {
    let logits = [1.0f64, 2.0, -1.0, 0.5, 3.0, -2.0];
    let targets = [0, 2];
    let (scales, margins, words) = ([0.5, 2.0], [0.0, 1.0], [0b111, 0b110]);
    let map = LogitMap::softcap(4.0).unwrap().with_scales(&scales).unwrap().with_margins(&margins).unwrap();
    let batch = Batch::new(Shape::new(2, 3).unwrap(), &targets).unwrap();
    let batch = batch.with_map(map.with_mask(ClassMask::per_row(&words))).unwrap();
    let mut losses = [0.0; 2];
    let mut summaries = [tokenloss_core::RowSummary::nan(); 2];
    let mut dlogits = [f64::NAN; 6];
    let results =
        reference::Results { losses: &mut losses, summaries: &mut summaries, dlogits: &mut dlogits };
    reference::evaluate(&Nll, tokenloss_core::Reduction::Sum, &batch, &logits, results).unwrap();
    for (row, z) in logits.chunks(3).enumerate() {
        let map = batch.row_map(row).unwrap();
        assert_eq!((map.scale, map.margin), (scales[row], margins[row]));
        let want = summary(map, z, targets[row] as usize);
        assert_eq!(summaries[row], want);
        assert_eq!(losses[row], -want.target.log_p);
        assert_eq!(dlogits[3 * row..][..3], self::dlogits(&Nll, map, z, targets[row] as usize));
    }
    assert_eq!(dlogits[3], 0.0, "masked");
}

#[test]
fn errors() {
    let input = |what, index, value: f64, expected| Err(Error::Input { what, index, value, expected });
    let positive = "a positive normal number";
    assert_eq!(LogitMap::softcap(0.0), input("cap", 0, 0.0, positive));
    assert_eq!(LogitMap::default().with_scale(-1.0), input("scale", 0, -1.0, positive));
    assert_eq!(
        LogitMap::default().with_scales(&[1.0, f32::INFINITY]),
        input("scales", 1, f64::INFINITY, positive)
    );
    assert_eq!(
        LogitMap::default().with_margin(f32::INFINITY),
        input("margin", 0, f64::INFINITY, "a finite number")
    );
    let text = LogitMap::default().with_margins(&[0.0, f32::NAN]).unwrap_err().to_string();
    assert_eq!(text, "margins: value 1 is NaN, expected a finite number");
    let targets = [1, -100, 40];
    let batch = Batch::new(Shape::new(3, 50).unwrap(), &targets).unwrap();
    let long = [1.0; 4];
    let error = batch.with_map(LogitMap::default().with_scales(&long).unwrap()).unwrap_err();
    assert_eq!(error, Error::Length { what: "scales", expected: 3, got: 4 });
    let error = batch.with_map(LogitMap::default().with_margins(&long).unwrap()).unwrap_err();
    assert_eq!(error, Error::Length { what: "margins", expected: 3, got: 4 });
    let mask = |mask| batch.with_map(LogitMap::default().with_mask(mask));
    assert_eq!(
        mask(ClassMask::shared(&[0])).unwrap_err(),
        Error::Length { what: "mask", expected: 2, got: 1 }
    );
    assert_eq!(
        mask(ClassMask::per_row(&[0])).unwrap_err(),
        Error::Length { what: "mask", expected: 6, got: 1 }
    );
    let error = mask(ClassMask::shared(&[0b10, 0])).unwrap_err();
    assert_eq!(error, Error::MaskedTarget { row: 2, target: 40 });
    assert_eq!(error.to_string(), "mask: row 2 has target 40, a class that the mask leaves out");
    assert!(mask(ClassMask::shared(&[0b10, 1 << 8])).is_ok());
    let row = reference::summarise(&[0.0, 1.0], 0).unwrap();
    assert!(aldr_lambda(&row, 0.0, 2.0).is_err() && aldr_lambda(&row, 1.0, 0.5).is_err());
    let _: Objective = Nll.into();
}
