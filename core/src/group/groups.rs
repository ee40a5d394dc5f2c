//! Judging a batch group by group.

use super::GroupObjective;
use crate::sequence::{Response, check_weights, is_live, scaled, weighted};
use crate::{Error, Reduction, RowVerdict, Segments, Totals, check_length};

/// `responses [sequences] -> losses [groups], slopes [sequences]`: each group's loss before weight and
/// reduction, and the derivative of the reduced loss by each sequence's `log_p`, which
/// [`Sequences::spread`](crate::sequence::Sequences::spread) takes back to rows.
///
/// `weights [groups]` multiply losses and slopes; without them each is 1. In the totals, rows are groups.
///
/// # Errors
/// * [`Error::Denominator`] for the reduction.
/// * [`Error::Length`] for `responses`, which are all in groups, and for `weights`, `losses` or `slopes`.
/// * [`Error::TooFew`] for the first group with fewer sequences than the objective is defined for.
/// * [`Error::Input`] as [`Needs::check`](crate::sequence::Needs::check), and for a weight that is negative
///   or not finite.
/// * What [`GroupObjective::check`] finds.
pub fn judge<O: GroupObjective>(
    objective: &O,
    reduction: Reduction,
    responses: &[Response<f64>],
    groups: Segments<'_>,
    weights: Option<&[f64]>,
    losses: &mut [f64],
    slopes: &mut [f64],
) -> Result<Totals, Error> {
    reduction.check()?;
    check_length("responses", groups.elements(), responses.len())?;
    check_length("losses", groups.count(), losses.len())?;
    check_length("slopes", responses.len(), slopes.len())?;
    check_weights(groups.count(), weights)?;
    objective.needs().check(responses)?;
    for (index, range) in groups.iter().enumerate() {
        if range.len() < objective.least() {
            let (needed, got) = (objective.least(), range.len());
            return Err(Error::TooFew { what: "groups", index, needed, got });
        }
        objective.check(&responses[range.clone()], range.start)?;
    }
    let mut totals = Totals::default();
    for (index, range) in groups.iter().enumerate() {
        let slopes = &mut slopes[range.clone()];
        let loss = objective.of_group(&responses[range], slopes);
        let weight = weights.map_or(1.0, |weights| weights[index]);
        slopes.iter_mut().for_each(|slope| *slope = weighted(*slope, weight));
        losses[index] = loss;
        let live = slopes.iter().any(|slope| is_live(*slope));
        totals.add(weight, RowVerdict { loss, kept: true, live });
    }
    Ok(scaled(reduction, totals, slopes))
}
