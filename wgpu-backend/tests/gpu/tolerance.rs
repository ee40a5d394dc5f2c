//! How far a GPU's result may lie from the oracle's: the one place with the constants.
//!
//! Nothing here is fitted. WGSL grants an exponential an error of (3 + 2|x|) ULP; the rest is one rounding per
//! operation. Those errors are carried through the row by its own formulas, and through the objective by
//! evaluating it in f64 at the ends of the interval in which its argument lies: its condition number.

use tokenloss_core::{Dtype, RowEval, RowObjective, RowSummary};

/// One unit in the last place of 1, in f32.
pub(crate) const ULP: f64 = 1.0 / (1 << 23) as f64;

/// Below exp(-87) an exponential is 0, and results below 2^-126 may be flushed: what either may lose.
const TINY: f64 = 1.7e-38;

/// Relative error of one exponential.
fn exp(x: f64) -> f64 {
    (3.0 + 2.0 * x.abs()) * ULP
}

/// Relative error of a value that an objective computes by arithmetic and by exponentials whose argument is at
/// most the logarithm of the value itself.
fn evaluated(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { (4.0 + 2.0 * value.abs().ln().abs()) * ULP * value.abs() }
}

/// Half the distance between neighbours of a value in a storage type.
pub(crate) fn rounding(dtype: Dtype, value: f64) -> f64 {
    match dtype {
        Dtype::F32 => 0.0,
        Dtype::Bf16 => value.abs() / 256.0,
        Dtype::F16 => (value.abs() / 2048.0).max(1.0 / (1 << 25) as f64),
    }
}

/// The least value that a storage type holds to full relative accuracy.
pub(crate) fn least(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 | Dtype::Bf16 => 1e-30,
        Dtype::F16 => 1.0 / (1 << 14) as f64,
    }
}

/// Allowed errors of one row.
pub(crate) struct Row {
    pub(crate) log_p: f64,
    pub(crate) lse: f64,
    pub(crate) entropy: f64,
    pub(crate) loss: f64,
    /// Of the slope, relative.
    slope: f64,
    /// Of 1 - p, relative.
    one_minus_p: f64,
    /// Of 1 + tail, relative.
    sum: f64,
    d_lse: f64,
    max: f64,
    p_is_small: bool,
    /// The row lies so near a threshold that either side is right.
    pub(crate) either_side: bool,
}

impl Row {
    pub(crate) fn new<O: RowObjective>(objective: &O, logits: &[f32], row: &RowSummary<f64>) -> Self {
        let stats = row.stats;
        // Each share's own error, weighted by the share, and one rounding per addition: of a lane's partial sums,
        // of the merges of at least 64 lanes.
        let mut shares = 0.0;
        let mut spread = 0.0;
        let mut count = 0.0;
        for z in logits {
            let delta = f64::from(*z) - stats.max;
            let share = delta.exp();
            if share > 0.0 && delta < 0.0 {
                shares += share * exp(delta);
                spread += share * (exp(delta) + 2.0 * ULP) * delta.abs();
                count += 1.0;
            }
        }
        let additions = (count / 256.0 + 10.0) * 0.5 * ULP;
        let tail = if stats.tail > 0.0 { shares / stats.tail + additions } else { 0.0 };
        let sum = stats.tail / (1.0 + stats.tail) * tail + ULP;
        let ln_1p = stats.tail.ln_1p();
        let ln_error = ln_1p * 4.0 * ULP + stats.tail / (1.0 + stats.tail) * tail;
        let log_p = row.target.log_p;
        let log_p_error = ln_error + log_p.abs() * ULP + TINY;
        let q = row.target.one_minus_p;
        let one_minus_p = if log_p <= -ln_1p && q > 0.0 && stats.max + log_p + ln_1p < stats.max {
            ((1.0 - q) / q).min(1.0 / q) * log_p_error + 4.0 * ULP
        } else {
            tail / (1.0 + stats.tail) + 2.0 * ULP
        };
        let moment = stats.moment.abs() / (1.0 + stats.tail);
        let entropy = ln_error + spread / (1.0 + stats.tail) + moment * (sum + additions + 2.0 * ULP) + TINY;

        // The objective at the ends of the interval in which its argument lies.
        let exact: RowEval<f64> = objective.of_row(row);
        let (mut loss, mut slope, mut either_side) = (0.0f64, 0.0f64, false);
        for sign in [-1.0, 1.0] {
            for other in [-1.0, 1.0] {
                let mut near = *row;
                near.target.log_p = (log_p + sign * log_p_error).min(0.0);
                near.target.one_minus_p = (q * (1.0 + other * one_minus_p)).min(1.0);
                let eval = objective.of_row(&near);
                loss = loss.max((eval.loss - exact.loss).abs());
                slope = slope.max((eval.partials.d_target - exact.partials.d_target).abs());
                either_side |= eval.kept != exact.kept;
            }
        }
        let d_target = exact.partials.d_target;
        let slope = slope + evaluated(d_target);
        Self {
            log_p: log_p_error,
            lse: ln_error + stats.lse().abs() * ULP + stats.max.abs() * ULP,
            entropy,
            loss: loss + evaluated(exact.loss) + TINY,
            slope: if d_target == 0.0 { 0.0 } else { slope / d_target.abs() },
            one_minus_p,
            sum,
            d_lse: d_target.abs(),
            max: stats.max,
            p_is_small: q > 0.5,
            either_side,
        }
    }

    /// Of the gradient of one column, whose oracle value is `expected`.
    pub(crate) fn gradient(
        &self,
        dtype: Dtype,
        logit: f32,
        is_target: bool,
        scale: f64,
        expected: f64,
    ) -> f64 {
        let relative = if is_target {
            // slope (1 - p): for small p from p, which is known as well as any other column's.
            let p = exp(f64::from(logit) - self.max) + self.sum;
            self.slope
                + if self.p_is_small { p.min(self.one_minus_p + p) } else { self.one_minus_p }
                + 4.0 * ULP
        } else {
            let delta = (f64::from(logit) - self.max).max(-104.0);
            self.slope + exp(delta) + self.sum + 4.0 * ULP
        };
        let own = relative * expected.abs() + TINY * (1.0 + (1.0 + self.d_lse) * scale);
        if dtype == Dtype::F16 && expected.abs() + own >= 65_520.0 {
            return f64::INFINITY; // rounds to it
        }
        own + rounding(dtype, expected.abs() + own)
    }
}
