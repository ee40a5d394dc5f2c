//! Judging a batch pair by pair.

use super::PreferenceObjective;
use crate::sequence::{Response, check_some, check_weight, is_live, needed_value, scaled, weighted};
use crate::{Error, Reduction, RowVerdict, Totals, check_length};

/// Two sequences of a batch, by their places. One sequence may be in many pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The preferred one.
    pub chosen: usize,
    /// The other one.
    pub rejected: usize,
    /// By how much the preferred one is better; NaN where that is not known.
    pub gap: f64,
    /// What its loss and slopes are multiplied by.
    pub weight: f64,
}

impl Pair {
    /// Of weight 1, and nothing known of the gap.
    pub const fn new(chosen: usize, rejected: usize) -> Self {
        Self { chosen, rejected, gap: f64::NAN, weight: 1.0 }
    }
}

/// `responses [sequences], pairs -> losses [pairs], slopes [sequences]`: each pair's loss before weight and
/// reduction, and the derivative of the reduced loss by each sequence's `log_p`, over all pairs that it is
/// in; 0 for a sequence in none. [`Sequences::spread`](crate::sequence::Sequences::spread) takes it back to
/// rows. In the totals, rows are pairs.
///
/// # Errors
/// * [`Error::Denominator`] for the reduction.
/// * [`Error::Length`] for `losses` or `slopes`.
/// * [`Error::TooFew`] if there are no pairs.
/// * [`Error::Input`] as [`Needs::check`](crate::sequence::Needs::check), for a gap that is needed and not
///   finite, for a weight that is negative or not finite, for a place that no sequence has, and for a pair of
///   a sequence with itself.
pub fn judge<O: PreferenceObjective>(
    objective: &O,
    reduction: Reduction,
    responses: &[Response<f64>],
    pairs: &[Pair],
    losses: &mut [f64],
    slopes: &mut [f64],
) -> Result<Totals, Error> {
    reduction.check()?;
    check_some("pairs", pairs.len())?;
    check_length("losses", pairs.len(), losses.len())?;
    check_length("slopes", responses.len(), slopes.len())?;
    let needs = objective.needs();
    needs.check(responses)?;
    for (index, pair) in pairs.iter().enumerate() {
        for (what, place) in [("chosen", pair.chosen), ("rejected", pair.rejected)] {
            if place >= responses.len() {
                let expected = "the place of a sequence";
                return Err(Error::Input { what, index, value: place as f64, expected });
            }
        }
        if pair.chosen == pair.rejected {
            let expected = "another sequence than the preferred one";
            return Err(Error::Input { what: "rejected", index, value: pair.rejected as f64, expected });
        }
        needed_value("gap", needs.gap, index, pair.gap)?;
        check_weight(index, pair.weight)?;
    }
    slopes.fill(0.0);
    let mut totals = Totals::default();
    for (pair, loss) in pairs.iter().zip(losses) {
        let eval = objective.of_pair(&responses[pair.chosen], &responses[pair.rejected], pair.gap);
        let chosen = weighted(eval.slope_chosen, pair.weight);
        let rejected = weighted(eval.slope_rejected, pair.weight);
        *loss = eval.loss;
        slopes[pair.chosen] += chosen;
        slopes[pair.rejected] += rejected;
        let live = is_live(chosen) || is_live(rejected);
        totals.add(pair.weight, RowVerdict { loss: eval.loss, kept: true, live });
    }
    Ok(scaled(reduction, totals, slopes))
}
