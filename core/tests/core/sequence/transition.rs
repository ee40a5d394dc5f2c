//! The objective of a row and the row after it.

use crate::draw::cases;
use crate::errors::says;
use proptest::prelude::*;
use tokenloss_core::reference;
use tokenloss_core::sequence::{SequenceMatch, Transition};

const STEP: f64 = 3e-4;

proptest! {
    #![proptest_config(cases(300))]

    /// By every logit of both rows. The loss is quadratic in what it takes of them; a shift of all logits
    /// changes it.
    #[test]
    fn partials_are_derivatives_of_the_loss(row in prop::collection::vec(-4.0f64..4.0, 5), next in prop::collection::vec(-4.0f64..4.0, 5),
        alpha in 0.1f32..10.0, gamma in 0.0f32..=1.0, demonstration in 0.0f64..2.0, last in any::<bool>()) {
        let objective = SequenceMatch::new(alpha, gamma).unwrap();
        let of = |row: &[f64], next: &[f64]| {
            let (row, next) = (reference::summarise(row, 2).unwrap(), reference::summarise(next, 0).unwrap());
            objective.of_transition(&Transition::new(&row, (!last).then_some(&next), demonstration))
        };
        let eval = of(&row, &next);
        let (mut drow, mut dnext) = (vec![f64::NAN; 5], vec![f64::NAN; 5]);
        reference::push_back(&row, 2, &reference::summarise(&row, 2).unwrap(), eval.partials, &mut drow);
        reference::push_back(&next, 0, &reference::summarise(&next, 0).unwrap(), eval.next, &mut dnext);
        for j in 0..5 {
            let moved = |logits: &[f64], steps: f64| {
                let mut z = logits.to_vec();
                z[j] += steps * STEP;
                z
            };
            let difference = |loss: &dyn Fn(f64) -> f64| (8.0 * (loss(1.0) - loss(-1.0)) - (loss(2.0) - loss(-2.0))) / (12.0 * STEP);
            let want = difference(&|steps| of(&moved(&row, steps), &next).loss);
            // Rounding is eps / STEP = 7e-13 of the loss, truncation STEP^4 = 8e-15 of derivatives that are at most 100.
            let tolerance = 4e-12 * (1.0 + eval.loss.abs());
            prop_assert!((drow[j] - want).abs() <= tolerance, "row, {j}: {} instead of {want}", drow[j]);
            let want = difference(&|steps| of(&row, &moved(&next, steps)).loss);
            prop_assert!((dnext[j] - want).abs() <= tolerance, "row after, {j}: {} instead of {want}", dnext[j]);
        }
        // The partials do not cancel: a shift of the row moves the loss by 1 + w.
        prop_assert!((drow.iter().sum::<f64>() - (1.0 + eval.partials.d_target)).abs() <= 1e-14 * (1.0 + eval.partials.d_target.abs()));
    }
}

#[test]
fn parameters_are_held_to_their_domains() {
    says(SequenceMatch::new(0.0, 1.0), "sequence_match: alpha = 0 lies outside its domain 0.001 to 1000");
    says(SequenceMatch::new(1.0, 1.5), "sequence_match: gamma = 1.5 lies outside its domain 0 to 1");
}

/// IQ-Learn's formula, term by term.
#[test]
fn it_is_the_formula() {
    let (logit, lse, next, demonstration) = (1.25, 2.0, 3.5, 2.0);
    let (alpha, gamma) = (0.5f64, f64::from(0.9f32));
    let r = logit - gamma * next;
    let want = -demonstration * r + (lse - gamma * next) + r * r / (4.0 * alpha);
    let transition = Transition { logit, lse, next_lse: Some(next), demonstration };
    let eval = SequenceMatch::new(0.5, 0.9).unwrap().of_transition(&transition);
    assert!((eval.loss - want).abs() < 1e-14);
    for single in [SequenceMatch::new(1000.0, 1.0).unwrap(), SequenceMatch::new(0.001, 0.0).unwrap()] {
        for logit in [-1e6f32, 0.0, 1e6] {
            let transition = Transition { logit, lse: 1e6, next_lse: Some(-1e6), demonstration: 1.0 };
            let eval = single.of_transition(&transition);
            assert!(eval.loss.is_finite() && eval.partials.d_target.is_finite(), "{single:?} at {logit}");
        }
    }
}
