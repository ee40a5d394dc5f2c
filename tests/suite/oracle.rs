//! What should come out, and how far from it a backend may be.

use crate::inputs::Matrix;
use tokenloss::{
    Element, Objective, RowObjective, RowPartials, RowSummary, TargetProb, TokenObjective, reference,
};

/// The relative error granted to every loss and gradient entry of a row whose deciding difference of logits is
/// `margin`: the difference of two f32 logits itself rounds by `margin` half ULPs.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Grant {
    pub(crate) base: f64,
    pub(crate) per_margin: f64,
}

impl Grant {
    /// What is asked of the CPU.
    pub(crate) const CPU: Self = Self { base: 1e-6, per_margin: 1e-7 };

    /// What WGSL grants `exp`, 3 + 2 |x| ULP of 2^-23 each, beside the CPU's.
    pub(crate) const GPU: Self = Self { base: 1e-6 + 3.0 * 1.2e-7, per_margin: 1e-7 + 2.0 * 1.2e-7 };

    pub(crate) fn at(self, margin: f64) -> f64 {
        self.base + self.per_margin * margin
    }
}

/// Below this, results are 0: the least normal f32, with the room that a flush of the share before its scaling
/// needs (exp(-87) is 1.6e-38).
pub(crate) const FLUSH: f64 = 2e-38;

/// A row's truth in f64, and what may be off.
pub(crate) struct Truth {
    pub(crate) summary: RowSummary<f64>,
    pub(crate) loss: f64,
    pub(crate) loss_tolerance: f64,
    pub(crate) dlogits: Vec<f64>,
    pub(crate) tolerances: Vec<f64>,
    /// The relative error granted to the row's sums.
    pub(crate) granted: f64,
    /// Whether the probability is so near a kink that an error of the last place decides the side.
    pub(crate) on_a_kink: bool,
}

pub(crate) fn truth<E: Element>(
    matrix: &Matrix<E>,
    row: usize,
    objective: &Objective,
    weight: f64,
    grant: Grant,
) -> Truth {
    truth_of(&matrix.row(row), matrix.targets[row] as usize, objective, weight, grant)
}

/// The same, of the row's logits themselves.
pub(crate) fn truth_of(z: &[f64], target: usize, objective: &Objective, weight: f64, grant: Grant) -> Truth {
    let summary = reference::summarise(z, target).expect("a finite row");
    let eval = objective.of_row(&summary);
    let partials = eval.partials.scaled(weight);
    let mut dlogits = vec![0.0; z.len()];
    reference::push_back(z, target, &summary, partials, &mut dlogits);

    let max = summary.stats.max;
    let argmax = summary.stats.argmax as usize;
    let runner_up =
        z.iter().enumerate().filter(|(j, _)| *j != argmax).map(|(_, z)| *z).fold(f64::MIN, f64::max);
    let margin = (max - z[target]).max(max - runner_up).clamp(0.0, 90.0);

    // An error in log_p of the granted size moves loss and slope by this much: the objective's own condition.
    let log_p = summary.target.log_p;
    let delta = grant.at(margin) * log_p.abs().min(1.0);
    let moved = |log_p: f64| {
        let target = TargetProb::from_log_p(log_p.min(0.0));
        let eval = objective.of_target(target);
        let partials = RowPartials::of_slope(eval.slope).scaled(weight);
        let at_target = partials.target_gradient(&RowSummary { target, ..summary });
        (eval.loss, eval.slope * weight, at_target)
    };
    let (above, below) = (moved(log_p + delta), moved(log_p - delta));
    let response = |a: f64, b: f64, here: f64| (a - here).abs().max((b - here).abs());
    let loss_tolerance =
        (grant.at(margin) * eval.loss.abs()).max(response(above.0, below.0, eval.loss)) + FLUSH;
    let slope = partials.d_target;
    let slope_error = if slope == 0.0 { 0.0 } else { response(above.1, below.1, slope) / slope.abs() };
    let tolerances = (z.iter().zip(&dlogits).enumerate())
        .map(|(j, (z, d))| {
            if j == target {
                (grant.at(margin) * d.abs()).max(response(above.2, below.2, *d)) + FLUSH
            } else {
                let own = grant.at((max - z).min(90.0).max(if argmax == target { margin } else { 0.0 }));
                own.max(slope_error) * d.abs() + FLUSH * partials.d_lse.abs().max(1.0)
            }
        })
        .collect();
    let p = summary.target.p();
    let near = |kink: Option<f32>| kink.is_some_and(|kink| (p - f64::from(kink)).abs() < 1e-5);
    let on_a_kink = objective.kinks().into_iter().any(near);
    Truth {
        summary,
        loss: eval.loss,
        loss_tolerance,
        dlogits,
        tolerances,
        granted: grant.at(margin),
        on_a_kink,
    }
}

/// Half the distance between neighbours of a storage type around a number: one rounding.
pub(crate) fn half_spacing<E: Element>(x: f64) -> f64 {
    let (digits, least) = match E::DTYPE {
        tokenloss::Dtype::F32 => return 0.0,
        tokenloss::Dtype::F16 => (10, -14),
        tokenloss::Dtype::Bf16 => (7, -126),
    };
    let exponent = if x == 0.0 { least } else { (x.abs().log2().floor() as i32).max(least) };
    0.5 * 2f64.powi(exponent - digits)
}
