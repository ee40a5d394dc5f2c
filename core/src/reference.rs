//! The whole computation in the plainest code: the oracle that every backend is tested against in `f64`, and a
//! description that can be read top to bottom.

use crate::{
    Batch, Element, Error, Linear, NonFinite, Reduction, RowMap, RowObjective, RowPartials, RowStats,
    RowSummary, RowVerdict, TargetProb, Totals, check_length, check_whole,
};
use num_traits::Float;

mod label;
mod pair;

pub use label::{classes, labels};
pub use pair::{divergence, entries, evaluate_pair, push_back_divergence};

/// Where [`evaluate`] writes; every slice is needed.
#[derive(Debug)]
pub struct Results<'a, T> {
    /// `[rows]`
    pub losses: &'a mut [T],
    /// `[rows]`
    pub summaries: &'a mut [RowSummary<T>],
    /// `[rows, stride]`
    pub dlogits: &'a mut [T],
}

/// The summary of one row, by two plain sums.
///
/// # Errors
/// [`Error::NonFinite`] or [`Error::NoMass`], with row 0.
pub fn summarise<T: Float>(logits: &[T], target: usize) -> Result<RowSummary<T>, Error> {
    summarise_mapped(None, logits, target)
}

/// The summary of what the logits of one row are taken for.
///
/// # Errors
/// Those of [`summarise`]; a value is that of the logit itself.
pub fn summarise_mapped<T: Float>(
    map: Option<RowMap<'_>>,
    logits: &[T],
    target: usize,
) -> Result<RowSummary<T>, Error> {
    let at = |column: usize| map.map_or(logits[column], |map| map.of(logits[column], column, target));
    if let Some(column) = logits.iter().position(|z| z.is_nan() || *z == T::infinity()) {
        let value = logits[column].to_f32().unwrap_or(f32::NAN);
        return Err(Error::NonFinite { row: 0, column, value });
    }
    let mut argmax = 0;
    for column in 0..logits.len() {
        if at(column) > at(argmax) {
            argmax = column;
        }
    }
    let max = at(argmax);
    if max == T::neg_infinity() {
        return Err(Error::NoMass { row: 0, vocab: logits.len() });
    }
    let zero = T::zero();
    let (mut tail, mut moment, mut collision, mut spread, mut energy, mut count) =
        (zero, zero, zero, zero, zero, 0);
    for column in 0..logits.len() {
        let z = at(column);
        let share = (z - max).exp();
        if column != argmax {
            tail = tail + share;
        }
        if share > zero {
            moment = moment + share * (z - max);
        }
        if z > T::neg_infinity() {
            collision = collision + share * share;
            spread = spread + (z - max);
            energy = energy + z * z;
            count += 1;
        }
    }
    let log_p = (at(target) - max) - tail.ln_1p();
    let one_minus_p = if target == argmax {
        tail / (T::one() + tail)
    } else {
        // Where the target ties with the maximum this is tail / (1 + tail), too.
        -log_p.exp_m1()
    };
    let stats = RowStats { max, tail, moment, collision, spread, energy, count, argmax: argmax as u32 };
    Ok(RowSummary { stats, target: TargetProb { log_p, one_minus_p } })
}

/// A logit guided by a teacher's: see [`Guidance`](crate::Guidance).
pub fn guided<T: Float>(strength: T, z: T, u: T) -> T {
    if strength == T::one() {
        return z;
    }
    if u.is_nan() || u == T::infinity() {
        return T::nan();
    }
    if z == T::neg_infinity() {
        return z;
    }
    strength * z + (T::one() - strength) * u
}

/// The gradient of one row, column by column.
pub fn push_back<T: Float>(
    logits: &[T],
    target: usize,
    row: &RowSummary<T>,
    partials: RowPartials<T>,
    dlogits: &mut [T],
) {
    push_back_mapped(None, logits, target, row, partials, dlogits);
}

/// The gradient of one row by the logits themselves, from the summary of what they are taken for.
pub fn push_back_mapped<T: Float>(
    map: Option<RowMap<'_>>,
    logits: &[T],
    target: usize,
    row: &RowSummary<T>,
    partials: RowPartials<T>,
    dlogits: &mut [T],
) {
    let RowPartials { d_lse, d_entropy, d_mean, d_energy, .. } = partials;
    let (stats, zero) = (&row.stats, T::zero());
    let mean = if d_mean == zero { zero } else { d_mean / stats.counted() };
    for (column, (&logit, d)) in logits.iter().zip(dlogits.iter_mut()).enumerate() {
        let z = map.map_or(logit, |map| map.of(logit, column, target));
        // Not z - lse, whose rounding is that of the maximum.
        let log_p = (z - stats.max) - stats.tail.ln_1p();
        let p = (z - stats.max).exp() / (T::one() + stats.tail);
        *d = if column == target {
            partials.target_gradient(row)
        } else if z == T::neg_infinity() {
            zero
        } else {
            let soft = if p == zero {
                zero
            } else if d_entropy == zero {
                d_lse * p
            } else {
                p * (d_lse - d_entropy * (log_p + stats.entropy()))
            };
            let energy = if d_energy == zero { zero } else { d_energy * (z + z) };
            soft + mean + energy
        };
        if let Some(map) = map.filter(|_| *d != zero) {
            *d = *d * map.derivative(logit);
        }
    }
}

/// All rows: summarise, judge, count, push back.
///
/// # Errors
/// Those of [`Evaluate::evaluate`](crate::Evaluate::evaluate).
pub fn evaluate<T: Float, O: RowObjective>(
    objective: &O,
    reduction: Reduction,
    batch: &Batch<'_>,
    logits: &[T],
    results: Results<'_, T>,
) -> Result<Totals, Error> {
    let shape = batch.shape();
    reduction.check()?;
    check_length("logits", shape.elements(), logits.len())?;
    check_length("losses", shape.rows(), results.losses.len())?;
    check_length("summaries", shape.rows(), results.summaries.len())?;
    check_length("dlogits", shape.elements(), results.dlogits.len())?;
    let columns = |row: usize| row * shape.stride()..row * shape.stride() + shape.vocab();

    let mut fault = None;
    for row in 0..shape.rows() {
        results.losses[row] = T::zero();
        results.summaries[row] = RowSummary::nan();
        if let Some(target) = batch.target(row) {
            let (summary, loss, error) = judge(objective, batch, row, &logits[columns(row)], target);
            (results.summaries[row], results.losses[row]) = (summary, loss);
            fault = fault.or(error);
        }
    }

    let totals = totals(objective, reduction, batch, results.losses, results.summaries);
    let scale = reduction.scale(totals.valid, totals.kept);

    for row in 0..shape.rows() {
        let dlogits = &mut results.dlogits[columns(row)];
        match batch.target(row) {
            None => dlogits.fill(T::zero()),
            Some(_) if !results.summaries[row].stats.is_valid() => dlogits.fill(T::nan()),
            Some(target) => {
                let weight = T::from(f64::from(batch.weight(row)) * scale).unwrap_or_else(T::nan);
                let summary = results.summaries[row];
                let partials = objective.of_row(&summary).partials.scaled(weight);
                push_back_mapped(
                    batch.row_map(row),
                    &logits[columns(row)],
                    target,
                    &summary,
                    partials,
                    dlogits,
                );
            }
        }
    }
    match fault {
        Some(error) if batch.non_finite() == NonFinite::Error => Err(error),
        _ => Ok(totals),
    }
}

/// The summary and the loss of a row, or NaN and what is wrong with it.
fn judge<T: Float, O: RowObjective>(
    objective: &O,
    batch: &Batch<'_>,
    row: usize,
    logits: &[T],
    target: usize,
) -> (RowSummary<T>, T, Option<Error>) {
    match summarise_mapped(batch.row_map(row), logits, target) {
        Ok(summary) => (summary, objective.of_row(&summary).loss, None),
        Err(error) => (RowSummary::nan(), T::nan(), Some(error.in_row(row))),
    }
}

fn totals<T: Float, O: RowObjective>(
    objective: &O,
    reduction: Reduction,
    batch: &Batch<'_>,
    losses: &[T],
    summaries: &[RowSummary<T>],
) -> Totals {
    let verdict = |row: usize| {
        let loss = losses[row].to_f64().unwrap_or(f64::NAN);
        if batch.target(row).is_none() {
            return RowVerdict { loss, kept: false, live: false };
        }
        let eval = objective.of_row(&summaries[row]);
        let weight = T::from(batch.weight(row)).unwrap_or_else(T::nan);
        // The gradient of a bad row is NaN.
        let live = !summaries[row].stats.is_valid() || eval.partials.scaled(weight).is_live();
        RowVerdict { loss, kept: eval.kept, live }
    };
    Totals::of_rows(batch, reduction, (0..batch.shape().rows()).map(verdict))
}

/// Where [`evaluate_linear`] works and writes; every slice is needed.
#[derive(Debug)]
pub struct LinearResults<'a, T> {
    /// `[rows]`
    pub losses: &'a mut [T],
    /// `[rows]`
    pub summaries: &'a mut [RowSummary<T>],
    /// `[rows, dim]`, overwritten
    pub dhidden: &'a mut [T],
    /// `[vocab, dim]`, added to
    pub dweight: &'a mut [T],
    /// `[vocab]`, added to
    pub dbias: &'a mut [T],
    /// `[2, vocab]`, for one row of logits and one of their gradient.
    pub scratch: &'a mut [T],
}

/// One row of `hidden @ weight^T + bias`.
pub fn logits_of_row<T: Float, E: Element>(linear: &Linear<'_, E>, row: usize, logits: &mut [T]) {
    let of = |e: &E| T::from(e.to_f32()).unwrap_or_else(T::nan);
    let hidden = &linear.hidden()[row * linear.dim()..][..linear.dim()];
    for (j, (z, weight)) in logits.iter_mut().zip(linear.weight().chunks_exact(linear.dim())).enumerate() {
        let bias = linear.bias().map_or(T::zero(), |bias| of(&bias[j]));
        *z = hidden.iter().zip(weight).fold(bias, |sum, (h, w)| sum + of(h) * of(w));
    }
}

/// The linear form, row by row: no chunks, no live rows, every logit computed twice.
///
/// # Errors
/// Those of [`EvaluateLinear::evaluate_linear`](crate::EvaluateLinear::evaluate_linear).
pub fn evaluate_linear<T: Float, E: Element, O: RowObjective>(
    objective: &O,
    reduction: Reduction,
    linear: &Linear<'_, E>,
    results: LinearResults<'_, T>,
) -> Result<Totals, Error> {
    check_whole(linear)?;
    reduction.check()?;
    let batch = linear.batch();
    let (rows, vocab, dim) = (linear.rows(), batch.shape().vocab(), linear.dim());
    check_length("losses", rows, results.losses.len())?;
    check_length("summaries", rows, results.summaries.len())?;
    check_length("dhidden", rows * dim, results.dhidden.len())?;
    check_length("dweight", vocab * dim, results.dweight.len())?;
    check_length("dbias", vocab, results.dbias.len())?;
    check_length("scratch", 2 * vocab, results.scratch.len())?;
    let (logits, dlogits) = results.scratch.split_at_mut(vocab);

    let mut fault = None;
    for row in 0..rows {
        results.losses[row] = T::zero();
        results.summaries[row] = RowSummary::nan();
        if let Some(target) = batch.target(row) {
            logits_of_row(linear, row, logits);
            let (summary, loss, error) = judge(objective, batch, row, logits, target);
            (results.summaries[row], results.losses[row]) = (summary, loss);
            fault = fault.or(error);
        }
    }

    let totals = totals(objective, reduction, batch, results.losses, results.summaries);
    let scale = reduction.scale(totals.valid, totals.kept);

    for row in 0..rows {
        let dhidden = &mut results.dhidden[row * dim..][..dim];
        dhidden.fill(T::zero());
        let Some(target) = batch.target(row) else { continue };
        let summary = results.summaries[row];
        if summary.stats.is_valid() {
            let weight = T::from(f64::from(batch.weight(row)) * scale).unwrap_or_else(T::nan);
            logits_of_row(linear, row, logits);
            let partials = objective.of_row(&summary).partials.scaled(weight);
            push_back_mapped(batch.row_map(row), logits, target, &summary, partials, dlogits);
        } else if batch.non_finite() == NonFinite::NanRow {
            dlogits.fill(T::nan());
        } else {
            dhidden.fill(T::nan());
            continue;
        }
        let hidden = &linear.hidden()[row * dim..][..dim];
        for (j, &gradient) in dlogits.iter().enumerate() {
            results.dbias[j] = results.dbias[j] + gradient;
            let weight = &linear.weight()[j * dim..][..dim];
            let dweight = &mut results.dweight[j * dim..][..dim];
            for k in 0..dim {
                let of = |e: E| T::from(e.to_f32()).unwrap_or_else(T::nan);
                dhidden[k] = dhidden[k] + gradient * of(weight[k]);
                dweight[k] = dweight[k] + gradient * of(hidden[k]);
            }
        }
    }
    match fault {
        Some(error) if batch.non_finite() == NonFinite::Error => Err(error),
        _ => Ok(totals),
    }
}

impl Error {
    /// The same fault, found in another row.
    pub fn in_row(self, row: usize) -> Self {
        match self {
            Self::NonFinite { column, value, .. } => Self::NonFinite { row, column, value },
            Self::NoMass { vocab, .. } => Self::NoMass { row, vocab },
            Self::TeacherNonFinite { column, value, .. } => Self::TeacherNonFinite { row, column, value },
            Self::TeacherNoMass { vocab, .. } => Self::TeacherNoMass { row, vocab },
            Self::Support { column, student, teacher, .. } => Self::Support { row, column, student, teacher },
            Self::Label { column, label, min, max, .. } => Self::Label { row, column, label, min, max },
            other => other,
        }
    }

    /// The same fault, found in the teacher's row.
    pub fn of_teacher(self) -> Self {
        match self {
            Self::NonFinite { row, column, value } => Self::TeacherNonFinite { row, column, value },
            Self::NoMass { row, vocab } => Self::TeacherNoMass { row, vocab },
            other => other,
        }
    }
}
