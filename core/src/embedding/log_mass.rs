use super::{Similarities, SimilarityObjective, softmax::log_sum_p};
use crate::Error;
use num_traits::Float;

/// The log-mass of a subset: every row as a softmax over the columns, of which it does not matter which positive has the
/// probability.
///
/// ```text
/// p_ij = softmax_j(logits_i)        M_i = sum_(j positive) p_ij
/// loss = -mean_i log M_i            dlogits_ij = p_ij (1 - [j positive] / M_i) / rows
/// ```
///
/// The mean is over the rows that have a positive. With one positive a row it is [`InfoNce`](struct@super::InfoNce); with
/// more, that one asks for all of them and this for any.
///
/// * [`Pairs::across`](super::Pairs::across): the contrastive adversarial domain bottleneck, which makes embeddings say
///   nothing of the domain that they come from, given labels or not.
/// * [`Pairs::within`](super::Pairs::within) or [`Pairs::labels`](super::Pairs::labels): multiple-instance and
///   partial-label softmax; with the constant `mean_i log positives_i` added it is the supervised contrastive `L_in`.
///
/// **Numerics.** Positives and negatives are summed apart, so that `1 - M` of a row that is nearly right is not a
/// difference.
///
/// ```
/// use tokenloss_core::embedding::{LogMass, Pairs, evaluate};
/// let (pairs, mut dsimilarities) = (Pairs::across(&[0, 0, 1], None)?, [0.0f64; 9]);
/// let eval = evaluate(&LogMass::new()?, &pairs, &[0.5; 9], &mut dsimilarities)?;
/// assert!((eval.loss - 2.0 * 2f64.ln() / 3.0).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Ruan et al. 2021 (arXiv 2201.00057); Miech et al. 2019 (arXiv 1912.06430). The former's code has an option
/// to minimise the log-mass of the same domain instead, which has the same optima, and leaves rows out whose loss is
/// infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogMass {}

impl SimilarityObjective for LogMass {
    fn of_similarities<T: Float>(
        &self,
        similarities: &Similarities<'_, T>,
        dlogits: &mut [T],
    ) -> Result<(T, usize), Error> {
        let rows = (0..similarities.rows()).map(|row| similarities.row(row));
        log_sum_p(similarities, rows, dlogits)
    }
}
