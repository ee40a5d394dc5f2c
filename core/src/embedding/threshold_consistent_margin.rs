use super::{Relation, Similarities, SimilarityObjective};
use crate::Error;
use crate::math::{narrow, wide};
use crate::objective::cast;
use num_traits::Float;

/// The threshold-consistent margin: positives below one similarity and negatives above another are pushed, so that one
/// threshold serves all classes. Added to a base loss.
///
/// ```text
/// loss = weight_positive mean_(positive, s <= margin_positive) (margin_positive - s)
///      + weight_negative mean_(negative, s >= margin_negative) (s - margin_negative)
/// ```
///
/// Each mean is over the *active* pairs only, those that the condition names, and is 0 where there are none; their
/// number carries no gradient. [`count`](super::SimilarityEval::count) is the active pairs of both kinds. The loss jumps
/// where a pair becomes active.
///
/// **Domain.** Weights from 0 to 100, margins from -1 to 1: logits are cosine similarities.
///
/// ```
/// use tokenloss_core::embedding::{Pairs, ThresholdConsistentMargin, evaluate};
/// let objective = ThresholdConsistentMargin::new(1.0, 1.0, 0.9, 0.5)?;
/// let (pairs, mut dsimilarities) = (Pairs::diagonal(2)?, [0.0f32; 4]);
/// let eval = evaluate(&objective, &pairs, &[0.7, 0.0, 0.75, 1.0], &mut dsimilarities)?;
/// assert!((eval.loss - (0.2 + 0.25)).abs() < 1e-6 && dsimilarities == [-1.0, 0.0, 1.0, 0.0]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Zhang et al. 2023 (arXiv 2307.04047).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThresholdConsistentMargin {
    pub(crate) weight_positive: f32,
    pub(crate) weight_negative: f32,
    pub(crate) margin_positive: f32,
    pub(crate) margin_negative: f32,
}

impl SimilarityObjective for ThresholdConsistentMargin {
    const LEAST_COLUMNS: usize = 1;

    fn of_similarities<T: Float>(
        &self,
        similarities: &Similarities<'_, T>,
        dlogits: &mut [T],
    ) -> Result<(T, usize), Error> {
        let (mut loss, mut active) = (0.0, 0);
        for (relation, sign, weight, margin) in [
            (Relation::Positive, -T::one(), self.weight_positive, self.margin_positive),
            (Relation::Negative, T::one(), self.weight_negative, self.margin_negative),
        ] {
            // How far a pair lies on the wrong side; at least 0 where it is active.
            let wrong = || {
                similarities
                    .places()
                    .filter(move |(_, cell)| cell.relation == relation)
                    .map(move |(place, cell)| (place, sign * (cell.logit - cast(margin))))
                    .filter(|(_, wrong)| *wrong >= T::zero())
            };
            let count = wrong().count();
            active += count;
            let share = f64::from(weight) / (count.max(1) as f64);
            for (place, wrong) in wrong() {
                loss += share * wide(wrong);
                dlogits[place] = dlogits[place] + sign * narrow(share);
            }
        }
        Ok((narrow(loss), active))
    }

    fn kinks(&self) -> [Option<f32>; 2] {
        [Some(self.margin_positive), Some(self.margin_negative)]
    }
}
