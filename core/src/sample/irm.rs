use super::{SampleObjective, Samples, count};
use crate::{Error, RowEval, RowPartials, RowSummary};
use num_traits::Float;

/// The invariance penalty of IRMv1: how much an environment's risk would change if its logits were scaled.
///
/// ```text
/// d_i = d/dw nll(w z_i) at w = 1 = sum_k p_k z_k - z_y = -log_p - entropy        D_e = mean d_i of environment e
/// loss = mean_e D_e^2        weight_i = 2 D_e / (m n_e)        for m environments
/// ```
///
/// A function of the samples' `d_i`, which take the place of the losses and come, with their partials, from
/// [`scale_derivative`]; what is trained is the risk plus this times a multiplier. Weights have the sign of `D_e`: they go
/// through partials.
///
/// **Inputs.** [`Samples::with_groups`], the environments.
///
/// **Numerics.** Squares are biased estimates where a batch is small; [`IrmUnbiased`](struct@super::IrmUnbiased) is not.
///
/// ```
/// use tokenloss_core::{RowPartials, Segments, reference};
/// use tokenloss_core::sample::{Irm, SampleObjective, Samples, scale_derivative};
///
/// // A row for each of two environments.
/// let rows = [[2.0f64, 0.0, -1.0], [0.5, 1.0, 0.0]].map(|z| reference::summarise(&z, 0));
/// let (mut d, mut weights, mut partials) = ([0.0; 2], [0.0; 2], [RowPartials::default(); 2]);
/// for (row, d) in rows.iter().zip(&mut d) {
///     *d = scale_derivative(row.as_ref().unwrap()).loss;
/// }
/// let samples = Samples::new(&d)?.with_groups(Segments::new(&[0, 1, 2], 2)?)?;
/// let penalty = Irm::new()?.of_losses(&samples, &mut weights, &mut [])?;
/// assert_eq!(penalty, (d[0] * d[0] + d[1] * d[1]) / 2.0);
/// for i in 0..2 {
///     partials[i] = scale_derivative(rows[i].as_ref().unwrap()).partials.scaled(weights[i]);
/// }
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Arjovsky et al. 2019 (arXiv 1907.02893); "On Invariance Penalties for Risk Minimization" (arXiv
/// 2106.09777). DomainBed's code has the product of two halves, [`IrmUnbiased`](struct@super::IrmUnbiased).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Irm {}

/// The derivative of a row's nll in the scale of its logits, and its partials: `-log_p - entropy`.
///
/// Its `loss` is negative where the target is less of a surprise than the row on average. It is a row objective's
/// evaluation, and what [`Irm`](struct@Irm) takes.
pub fn scale_derivative<T: Float>(row: &RowSummary<T>) -> RowEval<T> {
    // z_y - max, exactly 0 where the target is the maximum, and then mean z - max: nothing that cancels.
    let target = row.target.log_p + row.stats.tail.ln_1p();
    let mean = row.stats.moment / (T::one() + row.stats.tail);
    let partials = RowPartials { d_entropy: -T::one(), ..RowPartials::of_slope(-T::one()) };
    RowEval { loss: mean - target, partials, kept: true }
}

impl SampleObjective for Irm {
    const NON_NEGATIVE: bool = false;
    const SUMS_TO_ONE: bool = false;

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        let environments = samples.groups()?;
        let share = T::one() / count(environments.count());
        let mut loss = T::zero();
        for environment in environments.iter() {
            let pull = samples.mean(environment.clone());
            loss = loss + share * pull * pull;
            let members = count::<T>(environment.len());
            weights[environment].fill(share * (pull + pull) / members);
        }
        Ok(loss)
    }
}
