//! What surrogates become of each other.

use super::{Rows, rollout};
use crate::draw::cases;
use proptest::prelude::*;
use tokenloss_core::policy::*;
use tokenloss_core::{Mix, Nll, Power};

/// One token of a rollout alone, with its own advantage.
fn alone(rows: &Rows, token: usize) -> Rows {
    let advantage = rows.advantages[if rows.advantages.len() == 1 { 0 } else { token }];
    Rows {
        log_p: vec![rows.log_p[token]],
        old: vec![rows.old[token]],
        reference: vec![rows.reference[token]],
        advantages: vec![advantage],
    }
}

/// With the mean advantage for the sequence.
fn of_sequence(rows: &Rows) -> Rows {
    let mean = rows.advantages.iter().sum::<f64>() / rows.advantages.len() as f64;
    Rows { advantages: vec![mean], ..rows.clone() }
}

fn same(
    rows: &Rows,
    a: &impl PolicyObjective,
    b: &impl PolicyObjective,
    ulps: f64,
) -> Result<(), TestCaseError> {
    let ((loss_a, slopes_a, _), (loss_b, slopes_b, _)) = (rows.eval(a), rows.eval(b));
    let unit = ulps * f64::EPSILON;
    let size = 1e-300 + slopes_b.iter().map(|slope| slope.abs()).sum::<f64>() + loss_b.abs();
    prop_assert!((loss_a - loss_b).abs() <= unit * size, "{loss_a} and {loss_b}");
    for (a, b) in slopes_a.iter().zip(&slopes_b) {
        prop_assert!((a - b).abs() <= unit * b.abs(), "{slopes_a:?} and {slopes_b:?}");
    }
    Ok(())
}

/// Clips that are off: no ratio in the tests reaches 1e6.
fn open() -> Ppo {
    Ppo::new(1.0, 1e6).unwrap()
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn an_open_clip_is_importance_weighting(rows in rollout()) {
        same(&rows, &open(), &ImportanceWeighted, 0.0)?;
        same(&rows, &DualClip::new(1.0, 1e6, 1e6).unwrap(), &ImportanceWeighted, 0.0)?;
    }

    /// On the old policy itself all of them are the policy gradient: no token is clipped, every slope is -advantage.
    #[test]
    fn on_the_old_policy_every_slope_is_minus_the_advantage(
        rows in rollout(), low in 0.0f32..1.0, high in 0.0f32..3.0, tau in 0.01f32..10.0) {
        let rows = Rows { old: rows.log_p.clone(), ..of_sequence(&rows) };
        let want = vec![-rows.advantages[0]; rows.log_p.len()];
        macro_rules! check {
            ($($objective:expr),*) => { $(
                let (_, slopes, clipped) = rows.eval(&$objective);
                prop_assert_eq!((slopes, clipped), (want.clone(), 0));
            )* };
        }
        check!(
            Reinforce, ImportanceWeighted, Bgpo, Ppo::new(low, high).unwrap(), Cispo::new(low, high).unwrap(),
            DualClip::new(low, high, 1.0 + high).unwrap(), Gspo::new(low, high).unwrap(),
            GspoToken::new(low, high).unwrap(), Gmpo::new(low, high).unwrap()
        );
        // 4 sigmoid(0)^2 is 1 exactly.
        check!(Sapo::new(tau, tau).unwrap());
    }

    #[test]
    fn one_token_of_a_sequence_objective_is_ppo(rows in rollout(), low in 0.0f32..2.0, high in 0.0f32..2.0) {
        for token in 0..rows.log_p.len() {
            let rows = alone(&rows, token);
            let (clip_low, clip_high) = (low.min(1.0), high);
            same(&rows, &Gspo::new(clip_low, clip_high).unwrap(), &Ppo::new(clip_low, clip_high).unwrap(), 0.0)?;
            same(&rows, &GspoToken::new(clip_low, clip_high).unwrap(), &Ppo::new(clip_low, clip_high).unwrap(), 0.0)?;
            // Both clips are rounded to f32, in which they are not quite the same.
            let (low_ratio, high_ratio) = (-(-low).exp_m1(), high.exp_m1());
            let log_ratio = rows.log_p[0] - rows.old[0];
            prop_assume!((log_ratio + f64::from(low)).abs() > 1e-6 && (log_ratio - f64::from(high)).abs() > 1e-6);
            let rounding = f64::from(f32::EPSILON) / f64::EPSILON;
            same(&rows, &Gmpo::new(low, high).unwrap(), &Ppo::new(low_ratio, high_ratio).unwrap(), 8.0 * rounding)?;
        }
    }

    /// Without its clip the geometric mean is the ratio of the sequence.
    #[test]
    fn an_open_gmpo_is_an_open_gspo(rows in rollout()) {
        same(&rows, &Gmpo::new(1000.0, 1000.0).unwrap(), &Gspo::new(1.0, 1e6).unwrap(), 8.0)?;
    }

    #[test]
    fn gspo_of_tokens_is_gspo_where_advantages_are_the_sequence_s(rows in rollout(), low in 0.0f32..1.0, high in 0.0f32..1.0) {
        let rows = of_sequence(&rows);
        same(&rows, &GspoToken::new(low, high).unwrap(), &Gspo::new(low, high).unwrap(), 0.0)?;
    }

    /// The clip that only acts on the upper side, on demonstrations: proximal supervised fine-tuning.
    #[test]
    fn psft_is_ppo_with_an_advantage_of_1(rows in rollout()) {
        let rows = Rows { advantages: vec![1.0], ..rows };
        let high = 1.0 + f64::from(0.28f32);
        let (loss, slopes, clipped) = rows.eval(&Ppo::new(0.28, 0.28).unwrap());
        let ratios: Vec<f64> = rows.log_ratios().into_iter().map(f64::exp).collect();
        let want: f64 = ratios.iter().map(|ratio| -ratio.min(high)).sum();
        prop_assert!((loss - want).abs() <= 8.0 * f64::EPSILON * want.abs());
        for (slope, ratio) in slopes.iter().zip(&ratios) {
            prop_assert_eq!(*slope, if *ratio > high { 0.0 } else { -ratio });
        }
        prop_assert_eq!(clipped, ratios.iter().filter(|ratio| **ratio > high).count());
        // The lower clip is never felt.
        same(&rows, &Ppo::new(0.0, 0.28).unwrap(), &Ppo::new(1.0, 0.28).unwrap(), 0.0)?;
    }

    /// A clip is felt only on the side that the advantage pushes to.
    #[test]
    fn the_clip_bounds_what_is_gained_and_not_what_is_lost(rows in rollout(), low in 0.0f32..1.0, high in 0.0f32..1.0) {
        for token in 0..rows.log_p.len() {
            let rows = alone(&rows, token);
            let (ppo, open) = (rows.eval(&Ppo::new(low, high).unwrap()), rows.eval(&ImportanceWeighted));
            let dual = rows.eval(&DualClip::new(low, high, 3.0).unwrap());
            prop_assert!(ppo.0 >= open.0 - 1e-15, "PPO is a pessimistic bound");
            prop_assert!(dual.0 <= ppo.0 && dual.0 <= 3.0 * rows.advantages[0].abs());
            // A greater high is a looser clip: DAPO's.
            let dapo = rows.eval(&Ppo::new(low, high + 0.08).unwrap());
            prop_assert!(dapo.0 <= ppo.0);
            if rows.advantages[0] <= 0.0 {
                prop_assert_eq!(dapo, ppo);
            }
        }
    }

    #[test]
    fn cispo_keeps_every_token_and_bounds_its_weight(rows in rollout(), low in 0.0f32..1.0, high in 0.0f32..2.0) {
        let (_, slopes, clipped) = rows.eval(&Cispo::new(low, high).unwrap());
        let (least, most) = (1.0 - f64::from(low), 1.0 + f64::from(high));
        for (token, slope) in slopes.iter().enumerate() {
            let advantage = alone(&rows, token).advantages[0];
            prop_assert!(advantage == 0.0 || (least..=most).contains(&(-slope / advantage)));
        }
        let outside = rows.log_ratios().into_iter().filter(|d| !(least..=most).contains(&d.exp())).count();
        // A ratio of exactly 1 is inside of a clip of 0, whatever its exponential rounds to.
        prop_assert_eq!(clipped, outside);
        same(&rows, &Cispo::new(0.0, 0.0).unwrap(), &Reinforce, 0.0)?;
    }

    /// BGPO bounds -A exp(mean of d) from above, and both touch where all d are 0.
    #[test]
    fn bgpo_is_a_bound_of_the_sequence_s_surrogate(rows in rollout()) {
        let rows = of_sequence(&rows);
        let n = rows.log_p.len() as f64;
        let bound = rows.eval(&Bgpo).0 / n;
        let surrogate = rows.eval(&Gspo::new(1.0, 1e6).unwrap()).0 / n;
        prop_assert!(bound >= surrogate - 1e-14 * surrogate.abs().max(1.0), "{bound} below {surrogate}");
    }

    #[test]
    fn sapo_with_a_small_tau_has_the_slopes_of_importance_weighting(rows in rollout()) {
        let (soft, open) = (rows.eval(&Sapo::new(0.01, 0.01).unwrap()), rows.eval(&ImportanceWeighted));
        for ((soft, open), log_ratio) in soft.1.iter().zip(&open.1).zip(rows.log_ratios()) {
            // 4 s (1 - s) = 1 - x^2 / 4 + .., x = tau (r - 1); it is never above 1.
            let x = 0.01 * (log_ratio.exp() - 1.0);
            prop_assert!(soft.abs() <= open.abs() && (soft - open).abs() <= open.abs() * (x * x / 4.0 + 1e-9));
        }
    }

    #[test]
    fn the_unified_estimator_is_what_its_parts_say(rows in rollout()) {
        let minus_p = Power::new(1.0).unwrap();
        let slopes = |objective: &Unified<Power>| rows.eval(objective).1;
        let close = |a: &[f64], b: &[f64]| {
            // exp(log_p) exp(-old) against exp(log_p - old), with log-probabilities of at most 18.
            a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 64.0 * f64::EPSILON * b.abs())
        };
        let over_old = Unified::new(minus_p, Divisor::Old);
        prop_assert!(close(&slopes(&over_old), &rows.eval(&ImportanceWeighted).1));
        prop_assert!(close(&slopes(&Unified::new(minus_p, Divisor::Current)), &rows.eval(&Reinforce).1));
        prop_assert_eq!(rows.eval(&Unified::new(Nll, Divisor::One)), rows.eval(&Reinforce));
        // PPO's mask: the same tokens are dropped, the others have the same slope.
        let (masked, ppo) = (over_old.with_mask(0.2, 0.28).unwrap(), Ppo::new(0.2, 0.28).unwrap());
        prop_assert!(close(&slopes(&masked), &rows.eval(&ppo).1));
        prop_assert_eq!(rows.eval(&masked).2, rows.eval(&ppo).2);
        // p + log p is twice the even mix, up to a constant.
        let mix = rows.eval(&Unified::new(Mix::new(0.5).unwrap(), Divisor::One)).1;
        for (token, slope) in mix.iter().enumerate() {
            let want = -alone(&rows, token).advantages[0] * (1.0 + rows.log_p[token].exp()) / 2.0;
            prop_assert!((slope - want).abs() <= 8.0 * f64::EPSILON * want.abs());
        }
    }

    #[test]
    fn penalties_add_up(rows in rollout(), beta in 0.0f32..1.0) {
        let both = Penalised { surrogate: Ppo::new(0.2, 0.2).unwrap(), penalty: K3::new(beta).unwrap() };
        let (loss, slopes, clipped) = rows.eval(&both);
        let (ppo, k3) = (rows.eval(&both.surrogate), rows.eval(&both.penalty));
        prop_assert_eq!((loss, clipped), (ppo.0 + k3.0, ppo.2));
        let sums: Vec<f64> = ppo.1.iter().zip(&k3.1).map(|(a, b)| a + b).collect();
        prop_assert_eq!(slopes, sums);
        prop_assert!(k3.0 >= 0.0 && rows.eval(&K2::new(beta).unwrap()).0 >= 0.0);
    }

    /// Near the reference k2 and k3 are the same, down to distances whose square is beside nothing.
    #[test]
    fn k3_is_k2_near_the_reference(exponent in -20.0f64..-7.0, up in any::<bool>()) {
        let d = exponent.exp() * if up { 1.0 } else { -1.0 };
        let token = RolloutToken { log_p: 0.0, old: 0.0, reference: -d, advantage: 0.0 };
        let (k2, k3) = (K2::new(1.0).unwrap().of_token(&token), K3::new(1.0).unwrap().of_token(&token));
        // exp(-d) - 1 + d = d^2 / 2 - d^3 / 6 + d^4 / 24 - ..
        let rest = d * d + 8.0 * f64::EPSILON;
        prop_assert!((k3.loss / k2.loss - (1.0 - d / 3.0)).abs() <= rest);
        prop_assert!((k3.slope / k2.slope - (1.0 - d / 2.0)).abs() <= rest);
    }

    /// Over all classes: k1 and k3 have the mean KL(p || q); the mean gradient of k1 is 0, that of k2 the gradient of
    /// KL(p || q), and that of k3 the gradient of KL(q || p).
    #[test]
    fn penalties_estimate_the_divergence_that_they_say(
        z in prop::collection::vec(-3.0f64..3.0, 2..8), w in prop::collection::vec(-3.0f64..3.0, 8)) {
        let softmax = |z: &[f64]| {
            let mass: f64 = z.iter().map(|z| z.exp()).sum();
            z.iter().map(|z| z.exp() / mass).collect::<Vec<f64>>()
        };
        let (p, q) = (softmax(&z), softmax(&w[..z.len()]));
        let divergence = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
        let (forward, reverse) = (divergence(&p, &q), divergence(&q, &p));
        let token = |j: usize| RolloutToken { log_p: p[j].ln(), old: f64::NAN, reference: q[j].ln(), advantage: f64::NAN };
        let mean = |of: &dyn Fn(usize) -> f64| (0..p.len()).map(|j| p[j] * of(j)).sum::<f64>();
        let (k1, k2, k3) = (K1::new(1.0).unwrap(), K2::new(1.0).unwrap(), K3::new(1.0).unwrap());
        prop_assert!((mean(&|j| k1.of_token(&token(j)).loss) - forward).abs() <= 1e-13);
        prop_assert!((mean(&|j| k3.of_token(&token(j)).loss) - forward).abs() <= 1e-13);
        prop_assert!(reverse >= -1e-15);
        for i in 0..p.len() {
            // d log p_j / d z_i = [i = j] - p_i
            let gradient = |slope: &dyn Fn(usize) -> f64| mean(&|j| slope(j) * (f64::from(u8::from(i == j)) - p[i]));
            prop_assert!(gradient(&|j| k1.of_token(&token(j)).slope).abs() <= 1e-14);
            let of_forward = p[i] * ((p[i] / q[i]).ln() - forward);
            prop_assert!((gradient(&|j| k2.of_token(&token(j)).slope) - of_forward).abs() <= 1e-13);
            prop_assert!((gradient(&|j| k3.of_token(&token(j)).slope) - (p[i] - q[i])).abs() <= 1e-13);
        }
    }
}

#[test]
fn the_hybrid_switch_is_strict() {
    for (rate, gate, reinforce) in
        [(0.0, 0.0, 0.0), (0.125, 0.0, 1.0), (0.5, 0.5, 0.0), (0.625, 0.5, 1.0), (1.0, 1.0, 0.0)]
    {
        let Hybrid { reinforce: r, supervise } = hybrid(rate, gate).unwrap();
        assert_eq!((r, supervise), (reinforce, 1.0 - reinforce), "{rate} at {gate}");
    }
}
