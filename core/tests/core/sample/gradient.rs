//! The weights are the derivatives of the loss, and f32 does what f64 does.

use super::families::for_each_family;
use proptest::prelude::*;

/// Central differences, at any samples and any parameters. Between the one-sided differences lies every derivative there
/// is, at a kink any of them: so far apart are they granted to be.
#[test]
fn the_weights_are_the_derivatives_of_the_loss() {
    for_each_family(150, |family, objective, values, case| {
        let (loss, weights) = objective.f64(&case).unwrap();
        let n = case.losses.len();
        let h = 1e-6 * (1.0 + case.size());
        let at = |i: usize, by: f64| {
            let mut moved = case.clone();
            moved.losses[i] += by;
            objective.held(&case, &moved).unwrap()
        };
        let held = objective.held(&case, &case).unwrap();
        // What the sums that make the loss round by.
        let size = case.size() + family.value(values, "epsilon").abs();
        let terms = weights.iter().map(|w| w.abs() * size).sum::<f64>() + loss.abs();
        for (i, weight) in weights.iter().enumerate() {
            let (up, down) = ((at(i, h) - held) / h, (held - at(i, -h)) / h);
            let rounding = 4.0 * (n as f64) * f64::EPSILON * (terms + h * weight.abs()) / h;
            let (central, between) = ((up + down) / 2.0, (up - down).abs());
            prop_assert!(
                (weight - central).abs() <= between + rounding,
                "{:?}: weight {} is {:e}, the difference is {:e} and its sides are {:e} apart, in {:?}",
                values,
                i,
                weight,
                central,
                between,
                case
            );
        }
        Ok(())
    });
}

/// f32 may be off by what the rounding of its inputs makes of the result, and by its own sums.
#[test]
fn f32_agrees_with_f64() {
    let unit = f64::from(f32::EPSILON);
    for_each_family(150, |family, objective, values, case| {
        let (loss, weights) = objective.f64(&case).unwrap();
        let (single, singles) = objective.f32(&case).unwrap();
        let n = case.losses.len();
        let (mut loose, mut slack) = (vec![0.0f64; n], 0.0f64);
        for pattern in 0..16u32 {
            let sign = |i: usize| {
                if (pattern.wrapping_add(1).wrapping_mul(2_654_435_761) >> (i % 24)) & 1 == 1 {
                    1.0
                } else {
                    -1.0
                }
            };
            let mut moved = case.clone();
            for i in 0..n {
                let size = case.losses[i].abs() + case.reference.as_ref().map_or(0.0, |r| r[i].abs());
                moved.losses[i] += 2.0 * unit * sign(i) * size;
                moved.difficulties[i] *= 1.0 + 2.0 * unit * sign(n - i);
            }
            if let Some(log_u) = &mut moved.log_u {
                *log_u *= 1.0 + 2.0 * unit * sign(n);
            }
            let (other, others) = objective.f64(&moved).unwrap();
            slack = slack.max((other - loss).abs());
            (0..n).for_each(|i| loose[i] = loose[i].max((others[i] - weights[i]).abs()));
        }
        let greatest = weights.iter().fold(0.0f64, |greatest, w| greatest.max(w.abs()));
        let size = case.size() + family.value(values, "epsilon").abs();
        let own = 4.0 * (n as f64) * unit;
        for i in 0..n {
            let off = (f64::from(singles[i]) - weights[i]).abs();
            prop_assert!(
                off <= 4.0 * loose[i] + own * greatest + f64::from(f32::MIN_POSITIVE),
                "{:?}: weight {} is {:e} and not {:e}, in {:?}",
                values,
                i,
                singles[i],
                weights[i],
                case
            );
        }
        let terms = loss.abs() + greatest * (n as f64) * size;
        prop_assert!(
            (f64::from(single) - loss).abs() <= 4.0 * slack + own * terms + f64::from(f32::MIN_POSITIVE),
            "{:?}: loss {:e} and not {:e}, in {:?}",
            values,
            single,
            loss,
            case
        );
        Ok(())
    });
}
