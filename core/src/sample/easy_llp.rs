use super::{SampleObjective, Samples, count};
use crate::{Error, check_length, objective::cast};
use num_traits::Float;

/// EasyLLP: learning from the proportion of label 1 in bags, by an unbiased estimate of each sample's loss.
///
/// ```text
/// w_1 = k (a - p) + p, w_0 = 1 - w_1        for a bag of k samples of which a share a has label 1
/// loss = mean over bags of mean over samples of (w_1 l_i1 + w_0 l_i0)
/// ```
///
/// `l_iy` is the loss that sample `i` would have with label `y`, and `p` the share of label 1 in the data. The weights are
/// constants of the bag, negative for one of the labels unless `a` is within `1 / k` of `p`: they go through slopes. With
/// log losses it is the cross-entropy with the soft target `w_1`, which may lie outside 0 to 1.
///
/// **Domain.** `prior`, p, from 0 to 1.
///
/// **Inputs.** Losses `[samples, 2]`, of label 1 and then of label 0, so that a sample is a pair; bags
/// ([`Samples::with_groups`]) of whole pairs; [`Samples::with_proportions`].
///
/// **Errors.** [`Error::Length`] for a bag that ends in the middle of a pair.
///
/// ```
/// use tokenloss_core::{Segments, sample::{EasyLlp, SampleObjective, Samples}};
/// // One bag of two samples, one of them with label 1, in data that has it half of the time.
/// let losses = [0.25, 1.5, 2.0, 0.125];
/// let bags = Segments::new(&[0, 4], 4)?;
/// let samples = Samples::new(&losses)?.with_groups(bags)?.with_proportions(&[0.5])?;
/// let mut weights = [0.0; 4];
/// EasyLlp::new(0.5)?.of_losses(&samples, &mut weights, &mut [])?;
/// assert_eq!(weights, [0.25; 4]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Busa-Fekete et al. 2023 (arXiv 2302.03115). Public code adds 1e-8 to probabilities before the logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EasyLlp {
    pub(crate) prior: f32,
}

impl SampleObjective for EasyLlp {
    const NON_NEGATIVE: bool = false;

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        let (prior, bags) = (cast::<T>(self.prior), samples.groups()?);
        for (bag, &proportion) in bags.iter().zip(samples.proportions()?) {
            check_length("pairs of losses of a bag", bag.len() + bag.len() % 2, bag.len())?;
            let members = bag.len() / 2;
            let first = count::<T>(members) * (proportion - prior) + prior;
            let share = T::one() / (count::<T>(members) * count(bags.count()));
            for pair in weights[bag].chunks_exact_mut(2) {
                pair[0] = first * share;
                pair[1] = (T::one() - first) * share;
            }
        }
        Ok(samples.dot(weights))
    }
}
