use super::{Similarities, SimilarityObjective, softmax::mean_log_p};
use crate::Error;
use num_traits::Float;

/// InfoNCE: every row as a softmax over the columns, of which the positives are the targets.
///
/// ```text
/// p_ij = softmax_j(logits_i)
/// loss = -mean_i mean_(j positive) log p_ij        dlogits_ij = (p_ij - [j positive] / positives_i) / rows
/// ```
///
/// The mean over rows is over those that have a positive; [`count`](super::SimilarityEval::count) is how many. What the
/// cells mean decides the name under which it is known:
///
/// * [`Pairs::diagonal`](super::Pairs::diagonal): InfoNCE, in-batch softmax.
/// * [`Pairs::within`](super::Pairs::within): the supervised contrastive loss with the mean outside of the logarithm
///   (`L_out`); where every label has two members, as with two views of each thing, NT-Xent.
/// * [`Pairs::targets`](super::Pairs::targets) with [`with_log_q`](super::Pairs::with_log_q): sampled softmax. Over all
///   classes, or with all of them sampled alike, it is the full softmax. A sampled class that is a row's target once
///   more is masked by a similarity of -infinity.
///
/// **Numerics.** Rows are [`RowStats`](crate::RowStats): a row with one positive that leads by a margin of 80 keeps the
/// relative accuracy of loss and gradient.
///
/// ```
/// use tokenloss_core::embedding::{InfoNce, Pairs, evaluate};
/// let (pairs, mut dsimilarities) = (Pairs::diagonal(2)?, [0.0f64; 4]);
/// let eval = evaluate(&InfoNce::new()?, &pairs, &[0.5; 4], &mut dsimilarities)?;
/// assert!((eval.loss - 2f64.ln()).abs() < 1e-15 && dsimilarities == [-0.25, 0.25, 0.25, -0.25]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** van den Oord et al. 2018 (arXiv 1807.03748); Khosla et al. 2020 (arXiv 2004.11362), whose code multiplies by
/// the temperature over a base temperature and divides 0 by 0 for a row without positives; sampled softmax: Bengio and
/// Senecal 2008, Yi et al. 2019.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InfoNce {}

impl SimilarityObjective for InfoNce {
    fn of_similarities<T: Float>(
        &self,
        similarities: &Similarities<'_, T>,
        dlogits: &mut [T],
    ) -> Result<(T, usize), Error> {
        let rows = (0..similarities.rows()).map(|row| similarities.row(row));
        mean_log_p(similarities, rows, T::one(), dlogits)
    }
}
