//! What steps lead to.

use tokenloss_core::sample::*;
use tokenloss_core::{Error, Segments};

#[test]
fn duals_of_resilient_learning_settle_at_the_closed_form() -> Result<(), Error> {
    let resilient = Resilient::new(1.0, 2.0, 0.5)?;
    let losses = [3.0, 0.5, 1.25];
    let samples = Samples::new(&losses)?;
    let mut duals = [1.0, 1.0, 0.0f64];
    for _ in 0..200 {
        resilient.step(&samples, &mut duals)?;
    }
    for (dual, want) in duals.into_iter().zip([4.0, 0.0, 0.5]) {
        assert!((dual - want).abs() < 1e-14, "{dual} and {want}");
    }
    Ok(())
}

#[test]
fn duals_of_a_met_constraint_fall_to_0_and_those_of_another_rise() -> Result<(), Error> {
    let feasible = Feasible::new(1.0, 0.25)?;
    let losses = [3.0, 0.0];
    let samples = Samples::new(&losses)?;
    let mut duals = [0.0, 1.0];
    for _ in 0..8 {
        feasible.step(&samples, &mut duals)?;
    }
    assert_eq!(duals, [4.0, 0.0]);
    // At the end of the float type they stay.
    let mut duals = [f64::MAX, 1.0];
    Feasible::new(-1e6, 1e6)?.step(&samples, &mut duals)?;
    assert_eq!(duals[0], f64::MAX);
    Ok(())
}

#[test]
fn the_weight_of_groups_goes_to_the_worst_and_keeps_its_sum() -> Result<(), Error> {
    let robust = GroupDro::new(1.0)?;
    let losses = [1.0, 3.0, 0.5, 700.0];
    let samples = Samples::new(&losses)?.with_groups(Segments::new(&[0, 2, 3, 4], 4)?)?;
    let mut q = [0.25, 0.25, 0.0];
    robust.step(&samples, &mut q)?;
    // The third group has a risk of 700, and no weight to multiply it with.
    assert!(q[2] == 0.0 && (q[0] + q[1] - 0.5f64).abs() < 1e-15);
    assert!((q[0] / q[1] - 1.5f64.exp()).abs() < 1e-14);
    let mut q = [0.5, 0.25, 0.25];
    robust.step(&samples, &mut q)?;
    assert!(q[2] == 1.0 && q[0] < 1e-300);
    Ok(())
}

#[test]
fn a_running_average_is_one_and_tends_to_what_it_sees() -> Result<(), Error> {
    let running = RunningKl::new(0.5, 0.1, 0.0, 0.0)?;
    let (first, second) = ([1.0, 2.0], [300.0f64, 310.0]);
    let (first, second) = (Samples::new(&first)?, Samples::new(&second)?);
    let log_u = running.step(&first, f64::NEG_INFINITY)?;
    let want = ((2f64.exp() + 4f64.exp()) / 2.0).ln();
    assert!((log_u - want).abs() < 1e-14, "{log_u} and {want}");
    // exp(620) leaves no trace of the first, but for the factor gamma.
    let after = running.step(&second, log_u)?;
    let alone = running.step(&second, f64::NEG_INFINITY)?;
    assert!((after - (alone + 0.1f32.ln() as f64)).abs() < 1e-6, "{after} and {alone}");
    let mut settled = log_u;
    for _ in 0..2000 {
        settled = running.step(&second, settled)?;
    }
    assert!((settled - alone).abs() < 1e-12, "{settled} and {alone}");
    // Losses without a spread, of any size, have themselves for an average.
    assert_eq!(RunningKl::new(1.0, 1.0, 0.0, 0.0)?.step(&Samples::new(&[5e4; 3])?, 7.0)?, 5e4);
    Ok(())
}

/// The weights hold the average: the derivative of the value would carry the factor gamma.
#[test]
fn the_gradient_of_a_running_average_is_the_compositional_one() -> Result<(), Error> {
    let (running, before) = (RunningKl::new(0.5, 0.25, 1e-3, 0.0)?, 1.5);
    let gamma = 0.25;
    let value = |losses: &[f64]| running.step(&Samples::new(losses).unwrap(), before).unwrap() * 0.5;
    let losses = [1.0, 0.25, 2.0];
    let mut weights = [0.0; 3];
    let log_u = running.step(&Samples::new(&losses)?, before)?;
    let loss = running.of_losses(&Samples::new(&losses)?.with_log_u(log_u)?, &mut weights, &mut [])?;
    assert_eq!(loss, value(&losses));
    for i in 0..3 {
        let at = |by: f64| {
            let mut moved = losses;
            moved[i] += by;
            value(&moved)
        };
        let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((gamma * weights[i] - difference).abs() < 1e-9, "{} and {difference}", gamma * weights[i]);
    }
    Ok(())
}
