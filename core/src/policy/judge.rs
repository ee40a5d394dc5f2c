use super::{PolicyObjective, Rollouts, saturated};
use crate::math::{exp_m1_m_x, narrow};
use crate::sequence::{Counts, SequenceReduction};
use crate::{Error, check_length};
use num_traits::Float;

/// What a batch of rollouts amounts to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicyTotals<T> {
    /// The reduced loss.
    pub loss: T,
    /// Tokens, without ignored rows.
    pub tokens: usize,
    /// Tokens whose ratio was clipped.
    pub clipped: usize,
    /// The mean ratio to the old policy: near 1 on its own rollouts.
    pub mean_ratio: T,
    /// The mean of `r - 1 - log r`: an estimate of KL(old || trained) that is never negative.
    pub kl: T,
}

impl<T: Float> PolicyTotals<T> {
    /// The share of the tokens whose ratio was clipped.
    pub fn clipped_share(&self) -> f64 {
        self.clipped as f64 / self.tokens as f64
    }
}

/// `rollouts -> slopes [rows]`: the derivative of the reduced loss by each row's `log_p`, 0 for ignored rows.
///
/// ```
/// use tokenloss_core::policy::{Advantages, Ppo, Rollouts, judge};
/// use tokenloss_core::sequence::{SequenceReduction, Sequences};
/// use tokenloss_core::{RowPartials, Segments};
///
/// let log_p = [-1.0f64, -0.5, -2.0];
/// let sequences = Sequences::new(Segments::new(&[0, 2, 3], 3)?);
/// let rollouts = Rollouts::new(sequences, &log_p, &log_p, Advantages::Sequences(&[1.0, -0.5]))?;
/// let mut slopes = [0.0; 3];
/// let totals = judge(&Ppo::new(0.2, 0.28)?, SequenceReduction::SequenceMean, sequences.counts(), &rollouts, &mut slopes)?;
/// assert_eq!((totals.loss, totals.mean_ratio, totals.kl), (-0.25, 1.0, 0.0));
/// assert_eq!(slopes, [-0.25, -0.25, 0.25]);
/// let partials = slopes.map(RowPartials::of_slope);
/// # let _ = partials;
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// `counts` are those of the batch or, with gradient accumulation, of the whole step.
///
/// # Errors
/// * Those of [`SequenceReduction::check`] and [`Counts::check`].
/// * [`Error::Length`] for `slopes`, and for a `reference` that is needed and not there.
pub fn judge<O: PolicyObjective, T: Float>(
    objective: &O,
    reduction: SequenceReduction,
    counts: Counts,
    rollouts: &Rollouts<'_, T>,
    slopes: &mut [T],
) -> Result<PolicyTotals<T>, Error> {
    let (reduction, sequences) = (reduction.check()?, rollouts.sequences());
    counts.check(sequences.counts())?;
    let rows = sequences.segments().elements();
    check_length("slopes", rows, slopes.len())?;
    if objective.needs_reference() && !rollouts.has_reference() {
        check_length("reference", rows, 0)?;
    }
    slopes.fill(T::zero());
    let mut totals =
        PolicyTotals { loss: T::zero(), tokens: 0, clipped: 0, mean_ratio: T::zero(), kl: T::zero() };
    for (sequence, range) in sequences.segments().iter().enumerate() {
        let rollout = rollouts.rollout(sequence);
        let slopes = &mut slopes[range];
        let eval = objective.of_rollout(&rollout, slopes);
        let scale = narrow::<T>(reduction.scale(sequences.length(sequence)?, counts));
        slopes.iter_mut().for_each(|slope| *slope = *slope * scale);
        totals.loss = totals.loss + eval.loss * scale;
        totals.clipped += eval.clipped;
        for (_, token) in rollout.tokens() {
            totals.tokens += 1;
            // Running means, which no ratio overflows.
            let share = T::one() / narrow(totals.tokens as f64);
            let log_ratio = saturated(token.log_ratio());
            totals.mean_ratio = totals.mean_ratio + (log_ratio.exp() - totals.mean_ratio) * share;
            totals.kl = totals.kl + (exp_m1_m_x(log_ratio) - totals.kl) * share;
        }
    }
    Ok(totals)
}
