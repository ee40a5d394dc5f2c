//! Judging the sequences of a batch one by one.

use super::{Response, SequenceObjective};
use crate::{Error, Reduction, RowPartials, RowVerdict, Totals, check_length};

/// `responses [sequences] -> losses, slopes [sequences]`: each sequence's loss before weight and reduction,
/// and the derivative of the reduced loss by its `log_p`, which
/// [`Sequences::spread`](super::Sequences::spread) takes back to rows.
///
/// `weights [sequences]` multiply losses and slopes; without them each is 1. In the totals, rows are
/// sequences.
///
/// # Errors
/// * [`Error::Denominator`] for the reduction.
/// * [`Error::Length`] for `weights`, `losses` or `slopes`.
/// * [`Error::TooFew`] if there are no sequences.
/// * [`Error::Input`] as [`Needs::check`](super::Needs::check), and for a weight that is negative or not
///   finite.
pub fn judge<O: SequenceObjective>(
    objective: &O,
    reduction: Reduction,
    responses: &[Response<f64>],
    weights: Option<&[f64]>,
    losses: &mut [f64],
    slopes: &mut [f64],
) -> Result<Totals, Error> {
    reduction.check()?;
    check_some("responses", responses.len())?;
    check_length("losses", responses.len(), losses.len())?;
    check_length("slopes", responses.len(), slopes.len())?;
    check_weights(responses.len(), weights)?;
    objective.needs().check(responses)?;
    let mut totals = Totals::default();
    for (index, response) in responses.iter().enumerate() {
        let eval = objective.of_sequence(response);
        let weight = weights.map_or(1.0, |weights| weights[index]);
        losses[index] = eval.loss;
        slopes[index] = weighted(eval.slope, weight);
        totals.add(weight, RowVerdict { loss: eval.loss, kept: eval.kept, live: is_live(slopes[index]) });
    }
    Ok(scaled(reduction, totals, slopes))
}

/// Checks that there are any.
pub(crate) fn check_some(what: &'static str, got: usize) -> Result<(), Error> {
    if got == 0 { Err(Error::TooFew { what, index: 0, needed: 1, got }) } else { Ok(()) }
}

/// Checks weights, if there are any.
pub(crate) fn check_weights(count: usize, weights: Option<&[f64]>) -> Result<(), Error> {
    let Some(weights) = weights else { return Ok(()) };
    check_length("weights", count, weights.len())?;
    weights.iter().enumerate().try_for_each(|(index, weight)| check_weight(index, *weight))
}

/// Checks one weight.
pub(crate) fn check_weight(index: usize, value: f64) -> Result<(), Error> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::Input { what: "weights", index, value, expected: "a finite number of at least 0" })
}

/// A weight of 0 switches off even a slope that is not finite.
pub(crate) fn weighted(slope: f64, weight: f64) -> f64 {
    if weight == 0.0 { 0.0 } else { slope * weight }
}

pub(crate) fn is_live(slope: f64) -> bool {
    RowPartials::of_slope(slope).is_live()
}

/// The reduction's part, once all is judged.
pub(crate) fn scaled(reduction: Reduction, totals: Totals, slopes: &mut [f64]) -> Totals {
    let scale = reduction.scale(totals.valid, totals.kept);
    slopes.iter_mut().for_each(|slope| *slope = weighted(*slope, scale));
    Totals { denominator: reduction.denominator(totals.valid, totals.kept), ..totals }
}
