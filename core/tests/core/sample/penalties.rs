//! Penalised spectral risks are solved exactly: the weights are feasible, and no feasible ones are better. Both are checked
//! without pooling anything.

use proptest::prelude::*;
use tokenloss_core::for_each_objective;
use tokenloss_core::sample::*;

use super::families::losses;
use crate::draw::cases;

/// The masses of `n` places, worst first.
fn masses(spectrum: &impl Spectrum, n: usize) -> Vec<f64> {
    (0..n).map(|j| spectrum.mass(j as f64, j as f64 + 1.0, n as f64)).collect()
}

fn descending(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(|a, b| b.partial_cmp(a).unwrap());
    values
}

/// How far the worst-first sums of `q` exceed those of the masses: 0 exactly where `q` is a convex combination of their
/// permutations.
fn infeasible(q: &[f64], masses: &[f64]) -> f64 {
    let (mut own, mut allowed, mut worst) = (0.0, 0.0, 0.0f64);
    for (q, mass) in descending(q.iter().copied()).iter().zip(masses) {
        own += q;
        allowed += mass;
        worst = worst.max(own - allowed);
    }
    worst.max((own - 1.0).abs())
}

/// The Frank-Wolfe gap at `q`: an upper bound of what any feasible weights could win, from a sort of the gradient alone.
fn gap(gradient: &[f64], q: &[f64], masses: &[f64]) -> f64 {
    let best: f64 = descending(gradient.iter().copied()).iter().zip(masses).map(|(g, m)| g * m).sum();
    best - gradient.iter().zip(q).map(|(g, q)| g * q).sum::<f64>()
}

fn is_solved<S: Spectrum + Copy + std::fmt::Debug>(
    spectrum: S,
    losses: &[f64],
    nu: f32,
) -> Result<(), TestCaseError> {
    let n = losses.len();
    let samples = Samples::new(losses).unwrap();
    let (all, price) = (n as f64, f64::from(nu));
    let masses = masses(&spectrum, n);
    let size = losses.iter().fold(0.0f64, |size, l| size.max(l.abs()));
    let (mut q, mut scratch) = (vec![f64::NAN; n], vec![0; 2 * n]);

    let chi_square = ChiSquare::new(spectrum, nu).unwrap();
    let loss = chi_square.of_losses(&samples, &mut q, &mut scratch).unwrap();
    prop_assert!(
        infeasible(&q, &masses) <= 1e-12,
        "{spectrum:?}, nu {nu}: chi-square is not feasible, {q:?}"
    );
    let gradient: Vec<f64> = losses.iter().zip(&q).map(|(l, q)| l - all * price * (q - 1.0 / all)).collect();
    // A rounding of a weight, n nu times, on every weight.
    let slack = 1e-14 * (size + price) * all.sqrt();
    let won = gap(&gradient, &q, &masses);
    prop_assert!(won <= slack, "{spectrum:?}, nu {nu}: chi-square may win {won:e}");
    let distance: f64 = q.iter().map(|q| (q - 1.0 / all).powi(2)).sum();
    let value = q.iter().zip(losses).map(|(q, l)| q * l).sum::<f64>() - 0.5 * price * all * distance;
    prop_assert!((value - loss).abs() <= 1e-13 * size, "{spectrum:?}, nu {nu}: {value} and not {loss}");

    let kl = Kl::new(spectrum, nu).unwrap();
    let loss = kl.of_losses(&samples, &mut q, &mut scratch).unwrap();
    prop_assert!(infeasible(&q, &masses) <= 1e-12, "{spectrum:?}, nu {nu}: KL is not feasible, {q:?}");
    let divergence: f64 = q.iter().filter(|q| **q > 0.0).map(|q| q * (all * q).ln()).sum();
    let value = q.iter().zip(losses).map(|(q, l)| q * l).sum::<f64>() - price * divergence;
    let slack = 1e-14 * (size + price) * all.sqrt();
    prop_assert!((value - loss).abs() <= slack, "{spectrum:?}, nu {nu}: {value} and not {loss}");
    // The gradient of the divergence needs weights that have not underflown.
    if q.iter().all(|q| *q > 1e-290) {
        let gradient: Vec<f64> = losses.iter().zip(&q).map(|(l, q)| l - price * (all * q).ln()).collect();
        let slack = 1e-13 * (size + price) * all.sqrt();
        let won = gap(&gradient, &q, &masses);
        prop_assert!(won <= slack, "{spectrum:?}, nu {nu}: KL may win {won:e}");
    }
    Ok(())
}

macro_rules! solved {
    ($($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => { $(
        mod $module {
            use super::*;
            use tokenloss_core::Listed;

            proptest! {
                #![proptest_config(cases(300))]

                #[test]
                fn penalties_are_solved_exactly(
                    (losses, values) in (1usize..40).prop_flat_map(|n| {
                        let values: Vec<_> = $type::PARAMETERS.iter().map(|p| {
                            let max = if p.name == "k" { n as f32 } else { p.max };
                            crate::draw::within(&tokenloss_core::Parameter { max, ..*p })
                        }).collect();
                        (losses(n), values)
                    }),
                    log_nu in -9.0f32..9.0,
                ) {
                    let mut values = values.into_iter();
                    $(let $param = values.next().unwrap();)*
                    is_solved($type::new($($param),*).unwrap(), &losses, log_nu.exp())?;
                }
            }

            #[test]
            fn of_many_samples_too() {
                let losses: Vec<f64> = (0..2000u32).map(|i| f64::from(i.wrapping_mul(2_654_435_761) >> 8) / 2e6).collect();
                for nu in [1e-3, 0.1, 10.0] {
                    is_solved($type::new($($default),*).unwrap(), &losses, nu).unwrap();
                }
            }
        }
    )* };
}
for_each_objective!(spectra, solved);
