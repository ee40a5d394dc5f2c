//! Rows and columns of logits as softmaxes.

use super::{Relation, Similarities};
use crate::math::{narrow, sigmoid, softplus, wide};
use crate::{Error, RowStats};
use num_traits::Float;

/// The statistics of those of a line's cells that are of one of these relations.
fn stats<T: Float>(
    similarities: &Similarities<'_, T>,
    line: impl Iterator<Item = usize>,
    relations: &[Relation],
) -> RowStats<T> {
    line.map(|place| similarities.cell(place))
        .filter(|cell| relations.contains(&cell.relation))
        .fold(RowStats::empty(), |stats, cell| stats.merge(RowStats::of(cell.logit, 0)))
}

fn positives<T: Float>(similarities: &Similarities<'_, T>, line: impl Iterator<Item = usize>) -> usize {
    line.filter(|&place| similarities.cell(place).relation == Relation::Positive).count()
}

/// The mean over the lines that have a positive of what `of_line` makes of one: its loss, its gradient times the factor
/// that it is given.
///
/// # Errors
/// [`Error::TooFew`] if no line has a positive.
fn mean<T: Float, L: Iterator<Item = usize> + Clone>(
    similarities: &Similarities<'_, T>,
    lines: impl Iterator<Item = L> + Clone,
    mut of_line: impl FnMut(L, T) -> T,
) -> Result<(T, usize), Error> {
    let lines = lines.filter(|line| positives(similarities, line.clone()) > 0);
    let count = lines.clone().count();
    if count == 0 {
        return Err(Error::TooFew { what: "rows with a positive", index: 0, needed: 1, got: 0 });
    }
    let factor = narrow(1.0 / count as f64);
    let sum: f64 = lines.map(|line| wide(of_line(line, factor))).sum();
    Ok((narrow(sum / count as f64), count))
}

/// The mean over lines of `-mean_(j positive) log softmax_j`.
pub(super) fn mean_log_p<T: Float, L: Iterator<Item = usize> + Clone>(
    similarities: &Similarities<'_, T>,
    lines: impl Iterator<Item = L> + Clone,
    weight: T,
    dlogits: &mut [T],
) -> Result<(T, usize), Error> {
    mean(similarities, lines, |line, factor| {
        let stats = stats(similarities, line.clone(), &[Relation::Positive, Relation::Negative]);
        let share = T::one() / narrow(positives(similarities, line.clone()) as f64);
        let factor = factor * weight;
        let mut loss = 0.0;
        for place in line {
            let cell = similarities.cell(place);
            let target = stats.target(cell.logit);
            match cell.relation {
                Relation::Excluded => {}
                Relation::Negative => dlogits[place] = dlogits[place] + factor * target.p(),
                Relation::Positive => {
                    loss -= wide(share * target.log_p);
                    // p - share, in which nothing cancels where there is one positive.
                    let pull = target.p() * (T::one() - share) - share * target.one_minus_p;
                    dlogits[place] = dlogits[place] + factor * pull;
                }
            }
        }
        narrow(loss)
    })
}

/// The mean over lines of `-log sum_(j positive) softmax_j`.
pub(super) fn log_sum_p<T: Float, L: Iterator<Item = usize> + Clone>(
    similarities: &Similarities<'_, T>,
    lines: impl Iterator<Item = L> + Clone,
    dlogits: &mut [T],
) -> Result<(T, usize), Error> {
    mean(similarities, lines, |line, factor| {
        let among_positives = stats(similarities, line.clone(), &[Relation::Positive]);
        let among_negatives = stats(similarities, line.clone(), &[Relation::Negative]);
        // The logarithm of what the negatives have for each unit of what the positives have.
        let odds = among_negatives.lse() - among_positives.lse();
        let missing = factor * sigmoid(odds);
        for place in line {
            let cell = similarities.cell(place);
            let pull = match cell.relation {
                Relation::Excluded => continue,
                Relation::Positive => -among_positives.target(cell.logit).p(),
                Relation::Negative => among_negatives.target(cell.logit).p(),
            };
            dlogits[place] = dlogits[place] + missing * pull;
        }
        softplus(odds)
    })
}

/// The mean over rows with a cell that takes part of `log mean_j exp logit_j`.
pub(super) fn log_mean_exp<T: Float>(
    similarities: &Similarities<'_, T>,
    dlogits: &mut [T],
) -> Result<(T, usize), Error> {
    let takes_part = |place: &usize| similarities.cell(*place).relation != Relation::Excluded;
    let cells = |row: usize| similarities.row(row).filter(takes_part);
    let count = (0..similarities.rows()).filter(|&row| cells(row).next().is_some()).count();
    if count == 0 {
        return Err(Error::TooFew { what: "rows", index: 0, needed: 1, got: 0 });
    }
    let factor = narrow::<T>(1.0 / count as f64);
    let mut sum = 0.0;
    for row in 0..similarities.rows() {
        let stats = stats(similarities, cells(row), &[Relation::Positive, Relation::Negative]);
        if !stats.is_valid() {
            continue;
        }
        sum += wide(stats.lse()) - Float::ln(cells(row).count() as f64);
        for place in cells(row) {
            let p = stats.target(similarities.cell(place).logit).p();
            dlogits[place] = dlogits[place] + factor * p;
        }
    }
    Ok((narrow(sum / count as f64), count))
}
