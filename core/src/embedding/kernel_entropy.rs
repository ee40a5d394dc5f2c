use super::{Similarities, SimilarityObjective, softmax::log_mean_exp};
use crate::Error;
use num_traits::Float;

/// The negative entropy of embeddings by a kernel density estimate: the entropy half of entropy and reconstruction.
///
/// ```text
/// loss = mean_i log mean_j exp(logit_ij)        dlogits_ij = softmax_j(logits_i) / rows
/// ```
///
/// For unit embeddings beside themselves and `scale = kappa` it is `-H` up to a constant, where the density is a mean of
/// von Mises-Fisher kernels at all embeddings: Joe's estimate. Minimising it spreads them. With
/// [`Pairs::diagonal`](super::Pairs::diagonal) an embedding's own kernel is in its mean; with
/// [`Pairs::within`](super::Pairs::within) it is not, and labels do not matter. Negative squared distances make it a
/// Gaussian kernel's.
///
/// **Numerics.** Each row's maximum is subtracted.
///
/// ```
/// use tokenloss_core::embedding::{KernelEntropy, Pairs, evaluate};
/// let (pairs, mut dsimilarities) = (Pairs::diagonal(2)?, [0.0f64; 4]);
/// let eval = evaluate(&KernelEntropy::new()?, &pairs, &[1.0; 4], &mut dsimilarities)?;
/// assert!((eval.loss - 1.0).abs() < 1e-15 && dsimilarities == [0.25; 4]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Rodriguez-Galvez et al. 2023 (arXiv 2307.10907), whose code keeps each embedding's own kernel; Joe 1989.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelEntropy {}

impl SimilarityObjective for KernelEntropy {
    fn of_similarities<T: Float>(
        &self,
        similarities: &Similarities<'_, T>,
        dlogits: &mut [T],
    ) -> Result<(T, usize), Error> {
        log_mean_exp(similarities, dlogits)
    }
}
