use super::{Similarities, SimilarityObjective, softmax::mean_log_p};
use crate::Error;
use num_traits::Float;

/// CLIP's symmetric loss: the mean of [`InfoNce`](struct@super::InfoNce) of the matrix and of its transpose.
///
/// ```text
/// loss = (InfoNCE(logits) + InfoNCE(logits^T)) / 2
/// ```
///
/// [`count`](super::SimilarityEval::count) is that of the rows. A `log_q` is the same for a whole column, so that it
/// counts in the rows' half only.
///
/// **Numerics.** As for [`InfoNce`](struct@super::InfoNce).
///
/// ```
/// use tokenloss_core::embedding::{Clip, Pairs, evaluate};
/// let (pairs, mut dsimilarities) = (Pairs::diagonal(2)?.with_scale(100.0)?, [0.0f32; 4]);
/// let eval = evaluate(&Clip::new()?, &pairs, &[0.3, 0.1, 0.2, 0.25], &mut dsimilarities)?;
/// assert!(eval.loss > 0.0 && eval.d_scale < 0.0);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Radford et al. 2021 (arXiv 2103.00020), who learn the logarithm of the scale and keep the scale at 100 or
/// less.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {}

impl SimilarityObjective for Clip {
    fn of_similarities<T: Float>(
        &self,
        similarities: &Similarities<'_, T>,
        dlogits: &mut [T],
    ) -> Result<(T, usize), Error> {
        let half = T::one() / (T::one() + T::one());
        let rows = (0..similarities.rows()).map(|row| similarities.row(row));
        let columns = (0..similarities.columns()).map(|column| similarities.column(column));
        let (of_rows, count) = mean_log_p(similarities, rows, half, dlogits)?;
        let (of_columns, _) = mean_log_p(similarities, columns, half, dlogits)?;
        Ok((half * of_rows + half * of_columns, count))
    }
}
