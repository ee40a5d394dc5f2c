//! A pair of rows.

use super::{Results, push_back, summarise};
use crate::divergence::{Distillation, Divergence, Entry, EntrySums};
use crate::{
    Batch, Error, NonFinite, PairVerdict, Reduction, RowObjective, Totals, check_length, check_unmapped,
};
use num_traits::Float;

/// A row's logits divided by the temperature, as what [`entry`] needs of them: the maximum and `ln(1 + tail)`.
fn tempered<T: Float>(logits: &[T], temperature: T) -> Result<(T, T), Error> {
    let max = summarise(logits, 0)?.stats.max;
    let shares = logits.iter().map(|&z| ((z - max) / temperature).exp());
    // The maximum's own 1 is left out, once.
    let mut own = true;
    let tail = logits.iter().zip(shares).fold(T::zero(), |sum, (&z, share)| {
        if own && z == max {
            own = false;
            return sum;
        }
        sum + share
    });
    Ok((max, tail.ln_1p()))
}

/// The classes of two rows.
///
/// # Errors
/// Those of [`summarise`], and for the teacher's row [`Error::TeacherNonFinite`] and [`Error::TeacherNoMass`], with row 0.
pub fn entries<'a, T: Float>(
    temperature: f32,
    logits: &'a [T],
    teacher: &'a [T],
) -> Result<impl Iterator<Item = Entry<T>> + 'a, Error> {
    let temperature = crate::objective::cast::<T>(temperature);
    let (max, rest) = tempered(logits, temperature)?;
    let (teacher_max, teacher_rest) = tempered(teacher, temperature).map_err(Error::of_teacher)?;
    Ok(logits.iter().zip(teacher).map(move |(&z, &u)| {
        let (z, u) = (z - max, u - teacher_max);
        let (log_p, log_q) = (z / temperature - rest, u / temperature - teacher_rest);
        Entry::new(log_p.max(log_q), (z - u) / temperature - (rest - teacher_rest))
    }))
}

/// The sums over the classes of two rows.
///
/// # Errors
/// Those of [`entries`], and [`Error::Support`] with row 0.
pub fn divergence<T: Float, D: Divergence>(
    divergence: &D,
    temperature: f32,
    logits: &[T],
    teacher: &[T],
) -> Result<EntrySums<T>, Error> {
    let mut sums = EntrySums { value: T::zero(), pull: T::zero() };
    for (column, entry) in entries(temperature, logits, teacher)?.enumerate() {
        let eval = divergence.of_entry(&entry);
        if !eval.value.is_finite() {
            let narrow = |z: T| z.to_f32().unwrap_or(f32::NAN);
            let (student, teacher) = (narrow(logits[column]), narrow(teacher[column]));
            return Err(Error::Support { row: 0, column, student, teacher });
        }
        sums = sums.merge(EntrySums { value: eval.value, pull: eval.pull });
    }
    Ok(sums)
}

/// Adds `factor (pull_j - p_j sum_k pull_k)` to the gradient of one row.
///
/// # Errors
/// Those of [`entries`].
pub fn push_back_divergence<T: Float, D: Divergence>(
    divergence: &D,
    temperature: f32,
    logits: &[T],
    teacher: &[T],
    sums: &EntrySums<T>,
    factor: T,
    dlogits: &mut [T],
) -> Result<(), Error> {
    for (entry, d) in entries(temperature, logits, teacher)?.zip(dlogits) {
        let pull = divergence.of_entry(&entry).pull;
        *d = *d + factor * (pull - entry.p() * sums.pull);
    }
    Ok(())
}

/// All pairs of rows. `teacher` has the shape of `logits`.
///
/// # Errors
/// Those of [`EvaluatePair::evaluate_pair`](crate::EvaluatePair::evaluate_pair).
#[allow(clippy::too_many_arguments)]
pub fn evaluate_pair<O: RowObjective, D: Divergence>(
    objective: &O,
    distillation: &Distillation<D>,
    reduction: Reduction,
    batch: &Batch<'_>,
    logits: &[f64],
    teacher: &[f64],
    divergences: &mut [f64],
    results: Results<'_, f64>,
) -> Result<Totals, Error> {
    let shape = batch.shape();
    reduction.check()?;
    check_unmapped(batch)?;
    check_length("logits", shape.elements(), logits.len())?;
    check_length("teacher", shape.elements(), teacher.len())?;
    check_length("divergences", shape.rows(), divergences.len())?;
    check_length("losses", shape.rows(), results.losses.len())?;
    check_length("summaries", shape.rows(), results.summaries.len())?;
    check_length("dlogits", shape.elements(), results.dlogits.len())?;
    let columns = |row: usize| row * shape.stride()..row * shape.stride() + shape.vocab();
    let judge = |row: usize| match batch.target(row) {
        Some(target) => {
            let (z, u) = (&logits[columns(row)], &teacher[columns(row)]);
            judge(objective, distillation, batch.weight(row), z, u, target).map_err(|error| error.in_row(row))
        }
        None => Ok(PairVerdict::ignored()),
    };

    let mut fault = None;
    let rows = (0..shape.rows()).map(|row| {
        let verdict = judge(row).unwrap_or_else(|error| {
            fault = fault.or(Some(error));
            PairVerdict::bad(objective)
        });
        (results.losses[row], divergences[row]) = (verdict.judged.loss, verdict.sums.value);
        results.summaries[row] = verdict.judged.summary;
        verdict.verdict()
    });
    let totals = Totals::of_rows(batch, reduction, rows);
    let scale = reduction.scale(totals.valid, totals.kept);

    for row in 0..shape.rows() {
        let dlogits = &mut results.dlogits[columns(row)];
        dlogits.fill(0.0);
        let Some(target) = batch.target(row) else { continue };
        let Ok(verdict) = judge(row) else {
            dlogits.fill(f64::NAN);
            continue;
        };
        let (z, u) = (&logits[columns(row)], &teacher[columns(row)]);
        push_back(z, target, &verdict.judged.summary, verdict.judged.partials.scaled(scale), dlogits);
        let (divergence, temperature, factor) =
            (distillation.divergence(), distillation.temperature(), verdict.factor * scale);
        push_back_divergence(divergence, temperature, z, u, &verdict.sums, factor, dlogits)?;
    }
    match fault {
        Some(error) if batch.non_finite() == NonFinite::Error => Err(error),
        _ => Ok(totals),
    }
}

fn judge<O: RowObjective, D: Divergence>(
    objective: &O,
    distillation: &Distillation<D>,
    weight: f32,
    logits: &[f64],
    teacher: &[f64],
    target: usize,
) -> Result<PairVerdict, Error> {
    let summary = summarise(logits, target)?;
    let sums = divergence(distillation.divergence(), distillation.temperature(), logits, teacher)?;
    Ok(PairVerdict::of(objective, distillation, weight, summary, sums))
}
