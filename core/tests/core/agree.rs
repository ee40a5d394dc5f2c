//! Whether an objective in `f32` agrees with itself in `f64`. Apart from the property tests that use it, so that
//! it can be used where nothing links std's floating point functions; see `no-std-proof`.

use tokenloss_core::{AnyToken, TargetProb, TokenObjective};

/// Compares loss and slope at a pair that both float types see exactly.
///
/// Tolerance: since `log_p` and `one_minus_p` are exact, only the objective's own operations count: at most 8,
/// each of at most 1 ulp (`exp`, `ln`, `exp_m1`, `ln_1p`, `powf`). `exp(k log_p)` adds `k |log_p|` half-ulps for the
/// rounding of its argument, and `exp(log_p)`, which is p where p is small, `|log_p|`. unlikelihood passes
/// through 0 at p = eps, where it has the rounding of the smaller of its two sums. Below the normal numbers
/// rounding is absolute.
pub(crate) fn agree(objective: AnyToken, log_p: f32, one_minus_p: f32) -> Result<(), String> {
    let single = TargetProb { log_p, one_minus_p };
    let double = TargetProb { log_p: f64::from(log_p), one_minus_p: f64::from(one_minus_p) };
    let (got, want) = (objective.of_target(single), objective.of_target(double));
    let ulp = f64::from(f32::EPSILON);
    let depth = double.log_p.abs();
    let exponent = objective.parameters().into_iter().fold(1.0, |k: f64, p| k.max(f64::from(p.abs())));
    let unit = ulp * (8.0 + 0.5 * exponent * depth + depth);
    let floor = f64::from(f32::MIN_POSITIVE);
    let crossing = if objective.name() == "unlikelihood" {
        let eps = f64::from(objective.parameters()[0]);
        [ulp * double.p().max(eps).min(double.one_minus_p + eps) * (1.0 + depth), 0.0]
    } else if objective.name() == "infosft" {
        // The weight passes through 0 at its ceiling, where it is 1 less the ratio of two differences of logarithms.
        let ceiling = f64::from(objective.parameters()[0]);
        let (low, high) = ((1.0 - ceiling).ln().abs(), (ceiling / (1.0 - ceiling)).ln());
        let weight = 4.0 * ulp * double.p() * (1.0 + (depth + double.one_minus_p.ln().abs() + low) / high);
        [weight * depth, weight]
    } else {
        [0.0; 2]
    };
    for (what, got, want, slack) in
        [("loss", got.loss, want.loss, crossing[0]), ("slope", got.slope, want.slope, crossing[1])]
    {
        let error = (f64::from(got) - want).abs();
        let close = error <= unit * want.abs() + slack + floor;
        if !close {
            return Err(format!(
                "{objective} at {double:?}: {what} {got:e} instead of {want:e}, relative {:e}",
                error / want.abs()
            ));
        }
    }
    Ok(())
}
