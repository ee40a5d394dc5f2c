use super::{Relation, Similarities, SimilarityObjective};
use crate::Error;
use crate::math::{narrow, wide};
use crate::objective::cast;
use num_traits::Float;

/// Barlow Twins: the correlations of two views' features should be the identity.
///
/// ```text
/// C = correlations of the standardised features [dim, dim]
/// loss = sum_i (1 - C_ii)^2 + lambda sum_(i != j) C_ij^2        dC = 2 (C_ii - 1), 2 lambda C_ij
/// ```
///
/// With [`Pairs::diagonal`](super::Pairs::diagonal) of the dim. A sum and no mean;
/// [`count`](super::SimilarityEval::count) is the dim. [`evaluate_correlation`](super::evaluate_correlation) goes from the two views to their gradients, through
/// the standardisation ([`standard_columns_backward`](super::standard_columns_backward)).
///
/// **Domain.** `lambda` from 0 to 1.
///
/// ```
/// use tokenloss_core::embedding::{BarlowTwins, Pairs, evaluate};
/// let (pairs, mut dcorrelations) = (Pairs::diagonal(2)?, [0.0f64; 4]);
/// let eval = evaluate(&BarlowTwins::new(0.5)?, &pairs, &[1.0, 0.5, 0.0, 0.5], &mut dcorrelations)?;
/// assert_eq!((eval.loss, dcorrelations), (0.375, [0.0, 0.5, 0.0, -1.0]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Zbontar et al. 2021 (arXiv 2103.03230), whose code has `lambda = 0.0051` and standardises by a batch norm
/// without affine parameters: biased variance, `eps = 1e-5`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BarlowTwins {
    pub(crate) lambda: f32,
}

impl SimilarityObjective for BarlowTwins {
    const LEAST_COLUMNS: usize = 1;

    fn of_similarities<T: Float>(
        &self,
        similarities: &Similarities<'_, T>,
        dlogits: &mut [T],
    ) -> Result<(T, usize), Error> {
        let lambda = cast::<T>(self.lambda);
        let mut sum = 0.0;
        for (place, cell) in similarities.places() {
            let (weight, off) = match cell.relation {
                Relation::Positive => (T::one(), cell.logit - T::one()),
                _ => (lambda, cell.logit),
            };
            let pull = weight * off;
            sum += wide(pull * off);
            dlogits[place] = dlogits[place] + (pull + pull);
        }
        Ok((narrow(sum), similarities.rows()))
    }
}
