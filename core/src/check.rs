//! A check for anyone's objective.

use crate::{TargetProb, TokenObjective};
use core::fmt;
use num_traits::Float;

/// Where an objective's slope and its loss disagree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckFailure {
    /// The log-probability.
    pub log_p: f64,
    /// The slope that the objective gave.
    pub slope: f64,
    /// The central difference of its loss.
    pub difference: f64,
}

impl fmt::Display for CheckFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log_p, slope, difference } = self;
        write!(f, "at log_p = {log_p} the slope is {slope}, but the loss changes by {difference} per unit")
    }
}

impl core::error::Error for CheckFailure {}

/// Compares the slope with central differences of the loss in `f64`, from log_p = -20 to -1e-6, stop-gradient
/// factors held, staying clear of declared kinks.
///
/// A point at which they differ while they agree on both sides of it is a kink of the slope that is not
/// declared, such as that of an objective inside a gate with two bounds of its own, and no failure.
///
/// # Errors
/// The first point at which they differ by more than the differences' own error.
pub fn check_objective<O: TokenObjective>(objective: &O) -> Result<(), CheckFailure> {
    const POINTS: i32 = 400;
    for i in 0..=POINTS {
        // Evenly spaced in log(-log_p): as many points near p = 1 as near p = 0.
        let t = f64::from(i) / f64::from(POINTS);
        let log_p = -Float::exp((1.0 - t) * Float::ln(20.0f64) + t * Float::ln(1e-6f64));
        let h = step(log_p);
        let crosses = |kink: Option<f32>| {
            kink.is_some_and(|kink| {
                let kink = Float::ln(f64::from(kink));
                (log_p - kink).abs() <= 2.0 * h
            })
        };
        if objective.kinks().into_iter().any(crosses) {
            continue;
        }
        if let Err(failure) = check_at(objective, log_p) {
            let beside = [log_p - 4.0 * h, log_p + 4.0 * h];
            if beside.into_iter().any(|log_p| check_at(objective, log_p).is_err()) {
                return Err(failure);
            }
        }
    }
    Ok(())
}

fn step(log_p: f64) -> f64 {
    1e-5 * log_p.abs().min(1.0)
}

fn check_at<O: TokenObjective>(objective: &O, log_p: f64) -> Result<(), CheckFailure> {
    let h = step(log_p);
    let frozen = TargetProb::from_log_p(log_p);
    let loss = |log_p: f64| objective.held(frozen, TargetProb::from_log_p(log_p));
    let (above, below) = (loss(log_p + h), loss(log_p - h));
    let difference = (above - below) / (2.0 * h);
    let slope = objective.of_target(frozen).slope;
    // Truncation is of the order h^2 of the third derivative, rounding of eps / h of the loss.
    let rounding = 4.0 * f64::EPSILON * (above.abs() + below.abs()) / h;
    let tolerance = 1e-7 * slope.abs() + rounding + 1e-12;
    if (slope - difference).abs() > tolerance || slope.is_nan() {
        return Err(CheckFailure { log_p, slope, difference });
    }
    Ok(())
}
