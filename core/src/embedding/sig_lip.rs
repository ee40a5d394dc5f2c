use super::{Relation, Similarities, SimilarityObjective};
use crate::Error;
use crate::math::{narrow, sigmoid, softplus, wide};
use num_traits::Float;

/// SigLIP: every cell as a binary classification of its own, so that no row needs to see all columns.
///
/// ```text
/// y_ij = 1 for a positive, else -1
/// loss = -sum_ij log sigmoid(y_ij logit_ij) / rows        dlogits_ij = -y_ij sigmoid(-y_ij logit_ij) / rows
/// ```
///
/// The sum over cells is divided by the rows and not by the cells; [`count`](super::SimilarityEval::count) is the rows
/// with a cell that takes part. The bias starts at -10, since negatives are many.
///
/// **Numerics.** By softplus: relative accuracy of every cell at both ends.
///
/// ```
/// use tokenloss_core::embedding::{Pairs, SigLip, evaluate};
/// let pairs = Pairs::diagonal(2)?.with_scale(10.0)?.with_bias(-10.0)?;
/// let mut dsimilarities = [0.0f32; 4];
/// let eval = evaluate(&SigLip::new()?, &pairs, &[1.0, 0.0, 0.0, 1.0], &mut dsimilarities)?;
/// assert!((eval.loss - 2f32.ln()).abs() < 1e-4 && eval.d_bias < 0.0);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Zhai et al. 2023 (arXiv 2303.15343).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SigLip {}

impl SimilarityObjective for SigLip {
    const LEAST_COLUMNS: usize = 1;

    fn of_similarities<T: Float>(
        &self,
        similarities: &Similarities<'_, T>,
        dlogits: &mut [T],
    ) -> Result<(T, usize), Error> {
        let takes_part = |place| similarities.cell(place).relation != Relation::Excluded;
        let count = (0..similarities.rows()).filter(|&row| similarities.row(row).any(takes_part)).count();
        if count == 0 {
            return Err(Error::TooFew { what: "rows", index: 0, needed: 1, got: 0 });
        }
        let factor = narrow::<T>(1.0 / count as f64);
        let mut sum = 0.0;
        for (place, cell) in similarities.places() {
            let away = if cell.relation == Relation::Positive { -cell.logit } else { cell.logit };
            sum += wide(softplus(away));
            let push = factor * sigmoid(away);
            dlogits[place] = dlogits[place] + if cell.relation == Relation::Positive { -push } else { push };
        }
        Ok((narrow(sum / count as f64), count))
    }
}
