//! How far a GPU's result may lie from the oracle's: the one place with the constants.
//!
//! Nothing here is fitted. WGSL grants an exponential an error of (3 + 2|x|) ULP; the rest is one rounding per
//! operation. Those errors are carried through the row by its own formulas, and through the objective by
//! evaluating it in f64 at the ends of the intervals in which its arguments lie: its condition number. What the
//! objective's own arithmetic loses is four times what the same formula loses in f32 at these points.

use tokenloss_core::label::{AnyLabel, Class, ClassLink, EntryEval, LabelObjective};
use tokenloss_core::{
    Dtype, Link, RowEval, RowMap, RowObjective, RowPartials, RowStats, RowSummary, TargetProb, reference,
};

/// One unit in the last place of 1, in f32.
pub(crate) const ULP: f64 = 1.0 / (1 << 23) as f64;

/// Below exp(-87) an exponential is 0, and results below 2^-126 may be flushed: what either may lose.
const TINY: f64 = 1.7e-38;

/// Relative error of one exponential, which below -87 is 0.
fn exp(x: f64) -> f64 {
    if x < -87.0 { 1.0 } else { (3.0 + 2.0 * x.abs()) * ULP }
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

/// Numbers of a row that an objective looks at and that each have an error of their own.
const LOOKED_AT: usize = 6;

/// Allowed errors of one row.
pub(crate) struct Row {
    pub(crate) log_p: f64,
    pub(crate) lse: f64,
    pub(crate) entropy: f64,
    /// Of collision, spread and energy.
    pub(crate) moments: [f64; 3],
    pub(crate) loss: f64,
    summary: RowSummary<f64>,
    target: usize,
    /// What each logit is taken for, and the derivative of that by the logit.
    logits: Vec<(f64, f64)>,
    /// Of what a logit is taken for, absolute: the worst.
    logit: f64,
    /// Of the map.
    scale: f64,
    /// Of the map's derivative, relative, by what the logits are off.
    bend: f64,
    partials: RowPartials<f64>,
    /// Of each partial, absolute.
    errors: RowPartials<f64>,
    /// Of 1 - p, relative.
    one_minus_p: f64,
    /// Of 1 + tail, relative.
    sum: f64,
    /// The row lies so near a threshold that either side is right.
    pub(crate) either_side: bool,
}

impl Row {
    pub(crate) fn new<O: RowObjective>(
        objective: &O,
        logits: &[f32],
        target: usize,
        row: &RowSummary<f64>,
    ) -> Self {
        let logits: Vec<f64> = logits.iter().map(|z| f64::from(*z)).collect();
        Self::of_map(objective, None, &logits, 0.0, target, row)
    }

    /// Of logits that are themselves off by so much, absolute.
    pub(crate) fn of_map<O: RowObjective>(
        objective: &O,
        map: Option<RowMap<'_>>,
        logits: &[f64],
        off: f64,
        target: usize,
        row: &RowSummary<f64>,
    ) -> Self {
        let stats = row.stats;
        let mapped = |(column, z): (usize, &f64)| match map {
            Some(map) if map.allows(column) => (map.of(*z, column, target), map.derivative(*z)),
            Some(_) => (f64::NEG_INFINITY, 0.0),
            None => (*z, 1.0),
        };
        let logits: Vec<(f64, f64)> = logits.iter().enumerate().map(mapped).collect();
        // A division, an exponential or a logarithm, a division, and the margin and the scale.
        let logit = map.map_or(off, |map| {
            let size = |z: &(f64, f64)| if z.0.is_finite() { z.0.abs() } else { 0.0 };
            let largest = logits.iter().map(size).fold(0.0, f64::max);
            // No link is steeper than 1.
            16.0 * ULP * (largest + f64::from((map.margin * map.scale).abs())) + off * f64::from(map.scale)
        });
        // Each share's own error, weighted by the share, and one rounding per addition: of a lane's partial sums,
        // of the merges of at least 64 lanes.
        let mut shares = 0.0;
        let mut squares = 0.0;
        let mut spread = 0.0;
        let mut count = 0.0;
        for (z, _) in &logits {
            let delta = z - stats.max;
            let share = delta.exp();
            if share > 0.0 && delta < 0.0 {
                shares += share * (exp(delta) + 2.0 * logit);
                squares += share * share * 2.0 * (exp(delta) + 2.0 * logit);
                spread += share * ((exp(delta) + 2.0 * ULP + 2.0 * logit) * delta.abs() + 2.0 * logit);
                count += 1.0;
            }
        }
        let additions = (count / 256.0 + 10.0) * 0.5 * ULP;
        let all_additions = (stats.counted() / 256.0 + 10.0) * 0.5 * ULP;
        let tail = if stats.tail > 0.0 { shares / stats.tail + additions } else { 0.0 };
        let sum = stats.tail / (1.0 + stats.tail) * tail + ULP;
        let ln_1p = stats.tail.ln_1p();
        let ln_error = ln_1p * 4.0 * ULP + stats.tail / (1.0 + stats.tail) * tail;
        let log_p = row.target.log_p;
        // A masked target has log p = -infinity, exactly.
        let size = if log_p.is_finite() { log_p.abs() } else { 0.0 };
        let log_p_error = ln_error + size * ULP + TINY + 2.0 * logit;
        let lse = ln_error + stats.lse().abs() * ULP + stats.max.abs() * ULP + logit;
        let q = row.target.one_minus_p;
        let one_minus_p = if log_p <= -ln_1p && q > 0.0 && stats.max + log_p + ln_1p < stats.max {
            ((1.0 - q) / q).min(1.0 / q) * log_p_error + 4.0 * ULP
        } else {
            tail / (1.0 + stats.tail) + 2.0 * ULP
        };
        let moment = stats.moment.abs() / (1.0 + stats.tail);
        let entropy = ln_error + spread / (1.0 + stats.tail) + moment * (sum + additions + 2.0 * ULP) + TINY;
        let collision = squares + stats.collision * (additions + 2.0 * sum);

        let moments = [
            collision,
            (all_additions + ULP) * stats.spread.abs() + 2.0 * logit * stats.counted(),
            (all_additions + ULP) * stats.energy + 2.0 * logit * (stats.counted() * stats.energy).sqrt(),
        ];
        // The objective at the corners of the box in which its arguments lie.
        let exact: RowEval<f64> = objective.of_row(row);
        let mut moved = [0.0f64; 6];
        let mut lost = [0.0f64; 6];
        let mut either_side = false;
        for corner in 0..1 << LOOKED_AT {
            let sign = |at: usize| if corner >> at & 1 == 0 { -1.0 } else { 1.0 };
            let mut near = *row;
            near.target.log_p = (log_p + sign(0) * log_p_error).min(0.0);
            near.target.one_minus_p = (q * (1.0 + sign(1) * one_minus_p)).min(1.0);
            // What the logarithm adds to the one it takes from the other, and no formula sees the maximum by itself.
            near.stats.max -= sign(0) * lse;
            near.stats.moment = (stats.moment + sign(2) * entropy * (1.0 + stats.tail)).min(0.0);
            near.stats.collision += sign(3) * collision;
            near.stats.spread += sign(4) * moments[1];
            near.stats.energy += sign(5) * moments[2];
            // Both from the same numbers, as f32 holds them.
            let near = narrowed(&near);
            let (eval, plain) = (objective.of_row(&widened(&near)), objective.of_row(&near));
            either_side |= eval.kept != exact.kept || plain.kept != exact.kept;
            let [exact, eval] = [&exact, &eval].map(numbers);
            for i in 0..6 {
                moved[i] = greater(moved[i], eval[i], exact[i]);
                lost[i] = greater(lost[i], numbers(&plain)[i].into(), eval[i]);
            }
        }
        let values = numbers(&exact);
        // A factor that is 0 below exp(-87), and the logarithm that it multiplies.
        let faint = TINY * (1.0 + 2.0 * size);
        let [loss, d_target, d_lse, d_entropy, d_mean, d_energy] =
            std::array::from_fn(|i| moved[i] + 4.0 * lost[i] + evaluated(values[i]) + faint);
        Self {
            log_p: log_p_error,
            lse,
            entropy,
            moments,
            loss,
            summary: *row,
            target,
            logits,
            logit,
            scale: map.map_or(1.0, |map| map.scale.into()),
            // Of the derivative's logarithm by the logit: 2 tanh / cap, 1 / (1 + |z|), 0.
            bend: match map.map(|map| map.link) {
                Some(Link::Softcap { cap }) => 2.0 / f64::from(cap) * off,
                Some(Link::StableMax) => off,
                _ => 0.0,
            },
            partials: exact.partials,
            errors: RowPartials { d_target, d_lse, d_entropy, d_mean, d_energy },
            one_minus_p,
            sum,
            either_side,
        }
    }

    /// Whether a column may be the first of the greatest: with a map, those that it brings together are alike.
    pub(crate) fn is_argmax(&self, column: usize) -> bool {
        let stats = &self.summary.stats;
        column == stats.argmax as usize
            || self.logit > 0.0 && self.logits[column].0 + 2.0 * self.logit >= stats.max
    }

    /// Of the gradient of one column, whose oracle value is `expected`.
    pub(crate) fn gradient(&self, dtype: Dtype, column: usize, scale: f64, expected: f64) -> f64 {
        // A loss that is no f32 has factors that a driver may multiply in an order in which they are none, either.
        if self.loss.is_infinite() {
            return f64::INFINITY;
        }
        let (RowSummary { stats, target }, partials, errors) = (&self.summary, &self.partials, &self.errors);
        let ((z, derivative), is_target) = (self.logits[column], column == self.target);
        let delta = (z - stats.max).max(-104.0);
        let is_masked = z == f64::NEG_INFINITY;
        let p = if is_masked { 0.0 } else { delta.exp() / (1.0 + stats.tail) };
        let p_error = exp(delta) + self.sum + 2.0 * self.logit;

        // What comes by target and log-sum-exp. The two of a token objective are one number.
        let (d_target, d_lse) = (partials.d_target, partials.d_lse);
        let is_token = d_target == -d_lse;
        let direct = if !is_target {
            p * (errors.d_lse + d_lse.abs() * (p_error + 4.0 * ULP))
        } else if is_token {
            // slope (1 - p): for small p from p, which is known as well as any other column's.
            let q_error = if target.one_minus_p > 0.5 {
                p_error.min(self.one_minus_p + p_error)
            } else {
                self.one_minus_p
            };
            target.one_minus_p * (errors.d_lse + d_lse.abs() * (q_error + 4.0 * ULP))
        } else {
            let sizes = d_target.abs() + d_lse.abs();
            errors.d_target
                + errors.d_lse
                + sizes * 4.0 * ULP
                + d_lse.abs() * p * (p_error + self.one_minus_p)
        };
        // By the entropy.
        let entropy = if partials.d_entropy == 0.0 || p == 0.0 {
            0.0
        } else {
            let log_ratio = (z - stats.max) - stats.tail.ln_1p() + stats.entropy();
            let centre =
                self.lse + self.log_p + self.entropy + (stats.lse().abs() + z.abs()) * ULP + self.logit;
            let of_ratio = centre + log_ratio.abs() * (p_error + 4.0 * ULP);
            p * (errors.d_entropy * log_ratio.abs() + partials.d_entropy.abs() * of_ratio)
        };
        // By mean and energy.
        let affine = if is_masked {
            0.0
        } else {
            let mean = (errors.d_mean + partials.d_mean.abs() * 4.0 * ULP) / stats.counted();
            let energy = z.abs() * (errors.d_energy + partials.d_energy.abs() * 4.0 * ULP);
            mean + 2.0 * (energy + partials.d_energy.abs() * self.logit)
        };
        let faint = 1.0 + d_lse.abs() + 100.0 * partials.d_entropy.abs();
        // The derivative is a quotient, of an exponential where it is small.
        let share = (derivative / self.scale).max(1e-38);
        let of_derivative = if self.logit == 0.0 { 0.0 } else { exp(share.ln()) + 8.0 * ULP + self.bend };
        let own = (direct + entropy + affine) * derivative * scale
            + (4.0 * ULP + of_derivative) * expected.abs()
            + TINY * (1.0 + faint * scale);
        let most = if dtype == Dtype::F16 { 65_520.0 } else { f64::from(f32::MAX) };
        let reached = expected.abs() + own;
        if reached >= most || reached.is_nan() {
            return f64::INFINITY; // rounds to it
        }
        own + rounding(dtype, reached)
    }
}

/// The truth of a row with labels, and how far off it may be; loss and gradient are before weight and reduction.
pub(crate) struct LabelRow {
    pub(crate) loss: f64,
    pub(crate) loss_allowed: f64,
    pub(crate) dlogits: Vec<f64>,
    allowed: Vec<f64>,
}

impl LabelRow {
    /// Of a row without faults.
    pub(crate) fn new(objective: &AnyLabel, z: &[f64], labels: &[f64], weights: Option<&[f64]>) -> Self {
        let mut dlogits = vec![0.0; z.len()];
        let loss = reference::labels(objective, z, labels, weights, 1.0, &mut dlogits).unwrap();
        let classes: Vec<_> = reference::classes(objective.link(), z).unwrap().collect();
        let softmax = objective.link() == ClassLink::Softmax;
        let max = z.iter().copied().fold(f64::MIN, f64::max);
        let additions = (z.len() as f64 / 256.0 + 10.0) * 0.5 * ULP;
        // A power takes a logarithm times its exponent: what that is off is relative to the power.
        let exponents = objective.parameters().into_iter().map(|p| f64::from(p.abs()));
        let exponent = exponents.fold(1.0, f64::max).min(17.0);
        let moved = |class: &Class<f64>, label: f64, by: f64| {
            let class = if softmax {
                Class::softmax((class.log_p + by).min(0.0))
            } else {
                Class::sigmoid(class.log_p - class.log_rest + by)
            };
            objective.of_class(&class, label)
        };
        let (mut loss_allowed, mut values, mut off_pulls, mut pulls) = (0.0, 0.0, 0.0, 0.0f64);
        let mut of_pull = Vec::new();
        for (column, class) in classes.iter().enumerate() {
            let (label, weight) = (labels[column], weights.map_or(1.0, |weights| weights[column]));
            let here = objective.of_class(class, label);
            values += weight * here.value.abs();
            pulls += weight * here.pull.abs();
            if z[column] == f64::NEG_INFINITY {
                of_pull.push(0.0);
                continue;
            }
            // The logit's distance from the maximum, the normaliser and their difference, each rounded, and the shares that
            // the normaliser adds up; over the sigmoid an exponential, a sum and a quotient.
            let by = if softmax {
                ULP * ((max - z[column]).min(90.0) + 2.0 * class.log_p.abs().min(90.0))
                    + 3.0 * ULP
                    + additions
            } else {
                8.0 * ULP
            };
            let (above, below) = (moved(class, label, by), moved(class, label, -by));
            let response = |of: fn(&EntryEval<f64>) -> f64| {
                (of(&above) - of(&here)).abs().max((of(&below) - of(&here)).abs())
            };
            let logs = class.log_p.abs().min(90.0) + class.log_rest.abs().min(90.0);
            // An exponential, a logarithm and a quotient are off by three each, and a power by its exponent times the second.
            let own = ULP * (8.0 + 4.0 * exponent + exponent * logs);
            // What damps by a power is 0 below the least normal number.
            let flushed = TINY.powf(1.0 / exponent).min(2e-36) * 90.0;
            loss_allowed += weight * (response(|e| e.value) + own * here.value.abs() + flushed);
            // What is on and what is off pull against each other.
            let sides = |label: f64| objective.of_class(class, label).pull.abs();
            let size = match objective {
                AnyLabel::BinaryNll(_) | AnyLabel::BinaryFocal(_) | AnyLabel::AsymmetricFocal(_) => {
                    label.abs() * sides(1.0) + (1.0 - label).abs() * sides(0.0)
                }
                _ => here.pull.abs(),
            };
            let off = weight * (response(|e| e.pull) + own * size + flushed);
            of_pull.push(off);
            off_pulls += off;
        }
        off_pulls += additions * pulls;
        let of_class = |((column, class), off): ((usize, &Class<f64>), f64)| {
            let gradient = 4.0 * ULP * dlogits[column].abs() + TINY;
            if !softmax {
                return off + gradient;
            }
            let of_p = exp(0.0) + ULP * (max - z[column]).min(90.0) + additions;
            off + class.p * (off_pulls + of_p * pulls) + gradient + TINY * 90.0 * (1.0 + pulls)
        };
        let allowed = classes.iter().enumerate().zip(of_pull).map(of_class).collect();
        Self { loss, loss_allowed: loss_allowed + additions * values + TINY, dlogits, allowed }
    }

    /// Of the gradient of one column, times a factor.
    pub(crate) fn gradient(&self, dtype: Dtype, column: usize, factor: f64) -> f64 {
        let own = factor * self.allowed[column] + TINY;
        let reached = factor * self.dlogits[column].abs() + own;
        let most = if dtype == Dtype::F16 { 65_520.0 } else { f64::from(f32::MAX) };
        if reached >= most { f64::INFINITY } else { own + rounding(dtype, reached) }
    }
}

/// All numbers that an objective returns.
fn numbers<T: Copy>(eval: &RowEval<T>) -> [T; 6] {
    let RowPartials { d_target, d_lse, d_entropy, d_mean, d_energy } = eval.partials;
    [eval.loss, d_target, d_lse, d_entropy, d_mean, d_energy]
}

/// The greater error. What only one of both can hold is infinitely far off.
fn greater(so_far: f64, a: f64, b: f64) -> f64 {
    let error = if a == b { 0.0 } else { (a - b).abs() };
    if error.is_finite() { so_far.max(error) } else { f64::INFINITY }
}

fn narrowed(row: &RowSummary<f64>) -> RowSummary<f32> {
    let (RowStats { max, tail, moment, collision, spread, energy, count, argmax }, target) =
        (row.stats, row.target);
    let [max, tail, moment, collision, spread, energy, log_p, one_minus_p] =
        [max, tail, moment, collision, spread, energy, target.log_p, target.one_minus_p].map(|x| x as f32);
    let stats = RowStats { max, tail, moment, collision, spread, energy, count, argmax };
    RowSummary { stats, target: TargetProb { log_p, one_minus_p } }
}

fn widened(row: &RowSummary<f32>) -> RowSummary<f64> {
    let (RowStats { max, tail, moment, collision, spread, energy, count, argmax }, target) =
        (row.stats, row.target);
    let [max, tail, moment, collision, spread, energy, log_p, one_minus_p] =
        [max, tail, moment, collision, spread, energy, target.log_p, target.one_minus_p].map(f64::from);
    let stats = RowStats { max, tail, moment, collision, spread, energy, count, argmax };
    RowSummary { stats, target: TargetProb { log_p, one_minus_p } }
}
