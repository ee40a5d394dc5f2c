use super::{Relation, Similarities, SimilarityObjective};
use crate::Error;
use crate::math::{narrow, wide};
use crate::objective::cast;
use num_traits::Float;

/// VICReg's variance and covariance terms, of one view: each feature should vary, and no two together.
///
/// ```text
/// C = covariances of the centred features [dim, dim], unbiased
/// loss = mu / dim sum_i max(0, gamma - sqrt(C_ii + eps)) + nu / dim sum_(i != j) C_ij^2
/// dC_ii = -mu / (2 dim sqrt(C_ii + eps)) while the feature varies too little        dC_ij = 2 nu C_ij / dim
/// ```
///
/// With [`Pairs::diagonal`](super::Pairs::diagonal) of the dim, which is [`count`](super::SimilarityEval::count).
/// [`evaluate_covariance`](super::evaluate_covariance) goes from a view to its gradient. It is called once for each view; the third term, invariance, is
/// the mean of [`Squared`](struct@crate::score::Squared) of one view's features and the other's.
///
/// **Domain.** `mu` and `nu` from 0 to 1000, `gamma` from 0 to 100, `eps` from 1e-8 to 1.
///
/// ```
/// use tokenloss_core::embedding::{Pairs, VicReg, evaluate};
/// let (pairs, mut dcovariances) = (Pairs::diagonal(2)?, [0.0f64; 4]);
/// let eval = evaluate(&VicReg::new(25.0, 1.0, 1.0, 1e-4)?, &pairs, &[4.0, 0.5, 0.5, 4.0], &mut dcovariances)?;
/// assert_eq!((eval.loss, dcovariances), (0.25, [0.0, 0.5, 0.5, 0.0]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Bardes et al. 2021 (arXiv 2105.04906). Their code halves the variance term of each view and not the
/// covariance term: `mu = 12.5` for what it calls 25.
///
/// # Errors
/// [`Error::Input`] for a variance below 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VicReg {
    pub(crate) mu: f32,
    pub(crate) nu: f32,
    pub(crate) gamma: f32,
    pub(crate) eps: f32,
}

impl SimilarityObjective for VicReg {
    const LEAST_COLUMNS: usize = 1;

    fn of_similarities<T: Float>(
        &self,
        similarities: &Similarities<'_, T>,
        dlogits: &mut [T],
    ) -> Result<(T, usize), Error> {
        let [mu, nu, gamma, eps] = [self.mu, self.nu, self.gamma, self.eps].map(cast::<T>);
        let dim = similarities.rows();
        let (share, two) = (narrow::<T>(1.0 / dim as f64), T::one() + T::one());
        let mut sum = 0.0;
        for (index, cell) in similarities.places() {
            let covariance = cell.logit;
            if cell.relation == Relation::Negative {
                let pull = nu * covariance;
                sum += wide(pull * covariance);
                dlogits[index] = dlogits[index] + share * (pull + pull);
                continue;
            }
            if covariance < T::zero() {
                let (value, expected) = (wide(covariance), "a variance, at least 0, on the diagonal");
                return Err(Error::Input { what: "covariances", index, value, expected });
            }
            let deviation = (covariance + eps).sqrt();
            if deviation < gamma {
                sum += wide(mu * (gamma - deviation));
                dlogits[index] = dlogits[index] - share * mu / (two * deviation);
            }
        }
        Ok((narrow(sum / dim as f64), dim))
    }

    fn kinks(&self) -> [Option<f32>; 2] {
        [Some(self.gamma * self.gamma - self.eps), None]
    }
}
