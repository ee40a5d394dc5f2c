use super::GroupObjective;
use super::softmax::softmax;
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// Reward-weighted regression: nll, weighted by the softmax of the rewards.
///
/// ```text
/// w = softmax(reward / beta)        L = -sum_i w_i log_p_i / |y_i|^alpha        slope_i = -w_i / |y_i|^alpha
/// ```
///
/// A small `beta` takes the best sequence alone, a large one the mean over the group.
///
/// **Domain.** `beta` from 0.001 to 1000, `alpha` from 0 to 4. Needs `reward`, of which only the differences
/// count: if all are equal, all weights are.
///
/// **Numerics.** The greatest reward is subtracted before the division and the exponentials.
///
/// ```
/// use tokenloss_core::group::{GroupObjective, Rwr};
/// use tokenloss_core::sequence::Response;
/// let of = |reward: f64, log_p: f64| Response { reward, ..Response::new(log_p, 2.0) };
/// let mut slopes = [0.0; 2];
/// let loss = Rwr::new(1.0, 0.0)?.of_group(&[of(3f64.ln(), -1.0), of(0.0, -5.0)], &mut slopes);
/// assert!((loss - 2.0).abs() < 1e-15 && (slopes[0] + 0.75).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Peters and Schaal 2007; for language models Hu et al. 2023 (arXiv 2308.12050), where the
/// weights are normalised over the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rwr {
    pub(crate) beta: f32,
    pub(crate) alpha: f32,
}

impl GroupObjective for Rwr {
    fn needs(&self) -> Needs {
        Needs::REWARD
    }

    fn of_group<T: Float>(&self, group: &[Response<T>], slopes: &mut [T]) -> T {
        let best = group.iter().fold(T::neg_infinity(), |best, response| best.max(response.reward));
        for (slope, response) in slopes.iter_mut().zip(group) {
            *slope = (response.reward - best) / cast(self.beta);
        }
        softmax(slopes);
        let mut loss = T::zero();
        for (slope, response) in slopes.iter_mut().zip(group) {
            *slope = -*slope / response.length_power(self.alpha);
            loss = loss + *slope * response.log_p;
        }
        loss
    }
}
