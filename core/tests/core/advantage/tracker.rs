//! The tracker of single-stream policy optimisation.

use super::golden_file;
use crate::draw::cases;
use crate::listed::number;
use proptest::prelude::*;
use tokenloss_core::advantage::Spo;

fn published() -> Spo {
    Spo::new(0.875, 0.96, 0.06, 1e-8).unwrap()
}

#[test]
fn the_counts_agree_with_the_golden_ones() {
    let spo = published();
    let (mut wins, mut losses) = ([0.0f64], [0.0]);
    spo.init(&[0.5], &mut wins, &mut losses).unwrap();
    assert_eq!((wins[0], losses[0]), (4.0, 4.0));
    let golden = golden_file();
    let steps = golden["tracker"].as_array().unwrap();
    for step in steps {
        let mut baseline = [f64::NAN];
        spo.baselines(&[0], &wins, &losses, &mut baseline).unwrap();
        spo.update(&[0], &[number(&step[0])], &[number(&step[1])], &mut wins, &mut losses).unwrap();
        for (got, want) in [baseline[0], wins[0], losses[0]].into_iter().zip(&step.as_array().unwrap()[2..]) {
            assert!((got / number(want) - 1.0).abs() < 4e-15, "{got} instead of {want}");
        }
    }
    assert_eq!(steps.len(), 6);
}

proptest! {
    #![proptest_config(cases(100))]

    /// A constant reward and drift: the baseline becomes the reward, out of 1 / (1 - rho) rollouts, and stays there.
    #[test]
    fn the_fixed_point_is_the_reward(
        reward in 0.0f64..=1.0, drift in 0.0f64..0.1, rate in 0.0f64..=1.0, rho_min in 0.5f32..0.9) {
        let spo = Spo::new(rho_min, 0.96, 0.06, 0.0).unwrap();
        let rho = (-drift / f64::from(0.06f32)).exp2().clamp(f64::from(rho_min), f64::from(0.96f32));
        let (mut wins, mut losses) = ([0.0], [0.0]);
        spo.init(&[rate], &mut wins, &mut losses).unwrap();
        // .96^1000 is 2e-18.
        for _ in 0..1000 {
            spo.update(&[0], &[reward], &[drift], &mut wins, &mut losses).unwrap();
        }
        let mut baseline = [0.0];
        spo.baselines(&[0], &wins, &losses, &mut baseline).unwrap();
        prop_assert!((baseline[0] - reward).abs() <= 1e-13);
        prop_assert!(((wins[0] + losses[0]) * (1.0 - rho) - 1.0).abs() <= 1e-12);
        let before = (wins[0], losses[0]);
        spo.update(&[0], &[reward], &[drift], &mut wins, &mut losses).unwrap();
        prop_assert!((wins[0] - before.0).abs() <= 1e-13 && (losses[0] - before.1).abs() <= 1e-13);
    }

    /// What moved further is forgotten faster, between the two ends of rho.
    #[test]
    fn a_drift_forgets(near in 0.0f64..0.1, further in 0.0f64..10.0) {
        let spo = published();
        let kept = |drift: f64| {
            let (mut wins, mut losses) = ([8.0], [8.0]);
            spo.update(&[0], &[0.0], &[drift], &mut wins, &mut losses).unwrap();
            wins[0] / 8.0
        };
        prop_assert!(kept(near + further) <= kept(near));
        prop_assert!(kept(near) <= f64::from(0.96f32) && kept(near + further) >= 0.875);
    }
}

#[test]
fn prompts_are_updated_one_after_the_other_and_others_are_left_alone() {
    let spo = published();
    let (mut wins, mut losses) = ([4.0f64; 3], [4.0; 3]);
    spo.update(&[2, 0, 2], &[1.0, 0.5, 0.0], &[10.0; 3], &mut wins, &mut losses).unwrap();
    assert_eq!((wins[1], losses[1]), (4.0, 4.0));
    assert_eq!((wins[0], losses[0]), (4.0, 4.0), "rho = 7/8 of 8 rollouts, and one more");
    assert_eq!((wins[2], losses[2]), (0.875 * 4.5, 0.875 * 3.5 + 1.0));
}

#[test]
fn a_prompt_without_a_past_is_even() {
    let mut baseline = [0.0];
    published().baselines(&[0], &[0.0], &[0.0], &mut baseline).unwrap();
    assert_eq!(baseline, [0.5]);
}

#[test]
fn the_drift_is_the_mean_of_what_tokens_moved() {
    assert_eq!(Spo::drift(&[-1.0, -2.0, -3.0], &[-1.5, -1.0, -3.0]).unwrap(), 0.5);
}
