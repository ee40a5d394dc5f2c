use super::{Relation, Similarities, SimilarityObjective};
use crate::Error;
use crate::math::{narrow, wide};
use num_traits::Float;

/// How far positives are apart: the reconstruction half of entropy and reconstruction.
///
/// ```text
/// loss = -mean_(ij positive) logit_ij        dlogits_ij = -[ij positive] / positives
/// ```
///
/// For unit embeddings and `scale = kappa` it is, up to a constant, the cross entropy of a von Mises-Fisher
/// reconstruction of one view from the other. Alone it is minimised by a constant embedding;
/// [`KernelEntropy`](struct@super::KernelEntropy) is what it is added to.
///
/// ```
/// use tokenloss_core::embedding::{Alignment, Pairs, evaluate};
/// let (pairs, mut dsimilarities) = (Pairs::diagonal(2)?, [0.0f64; 4]);
/// let eval = evaluate(&Alignment::new()?, &pairs, &[0.5, 9.0, 9.0, 1.0], &mut dsimilarities)?;
/// assert_eq!((eval.loss, dsimilarities), (-0.75, [-0.5, 0.0, 0.0, -0.5]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Rodriguez-Galvez et al. 2023 (arXiv 2307.10907); Wang and Isola 2020 (arXiv 2005.10242), for whom the squared
/// distance of unit embeddings is `2 - 2 similarity`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alignment {}

impl SimilarityObjective for Alignment {
    const LEAST_COLUMNS: usize = 1;

    fn of_similarities<T: Float>(
        &self,
        similarities: &Similarities<'_, T>,
        dlogits: &mut [T],
    ) -> Result<(T, usize), Error> {
        let positives = || similarities.places().filter(|(_, cell)| cell.relation == Relation::Positive);
        let count = positives().count();
        if count == 0 {
            return Err(Error::TooFew { what: "positive pairs", index: 0, needed: 1, got: 0 });
        }
        let factor = narrow::<T>(1.0 / count as f64);
        let mut sum = 0.0;
        for (place, cell) in positives() {
            sum -= wide(cell.logit);
            dlogits[place] = dlogits[place] - factor;
        }
        Ok((narrow(sum / count as f64), count))
    }
}
