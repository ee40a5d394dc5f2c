use super::softmax::first_of;
use super::{GroupObjective, check_descending};
use crate::Error;
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// Preference ranking optimisation: each sequence is chosen in turn from those that are left, the more
/// sharply the more their rewards differ.
///
/// ```text
/// m = log_p / |y|        t_ki = reward_k - reward_i, and t_kk = max_(i > k) t_ki
/// L = sum_(k < n) (log sum_(i >= k) e^(t_ki m_i) - t_kk m_k) - lambda log_p_1
/// slope_i = sum_(k <= i, k < n) t_ki (softmax_k(t m)_i - [i = k]) / |y_i| - lambda [i = 1]
/// ```
///
/// Where all rewards are equal, all `t` are 0: the ranking teaches nothing, and the nll of the first sequence
/// is what is left.
///
/// **Domain.** `lambda` from 0 to 100. Needs `reward`, by which a group is sorted, best first. Groups of two
/// at least.
///
/// **Numerics.** The greatest exponent is subtracted before the exponentials, and the slope of a sequence
/// that is chosen nearly surely is minus the sum of the others' shares. The authors' code adds 1e-10 to a sum
/// of exponentials instead.
///
/// ```
/// use tokenloss_core::group::{GroupObjective, Pro};
/// use tokenloss_core::sequence::Response;
/// let of = |log_p: f64, reward: f64| Response { reward, ..Response::new(log_p, 2.0) };
/// let mut slopes = [0.0; 2];
/// let loss = Pro::new(0.0)?.of_group(&[of(-2.0, 1.0), of(-2.0, 0.0)], &mut slopes);
/// assert!((loss - 2f64.ln()).abs() < 1e-15 && slopes == [-0.25, 0.25]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Song et al. 2023 (arXiv 2306.17492). The authors multiply their weight of the nll, 0.05, by
/// the square of one less than the group's size; `lambda` is the product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pro {
    pub(crate) lambda: f32,
}

impl GroupObjective for Pro {
    fn needs(&self) -> Needs {
        Needs::REWARD
    }

    fn check(&self, group: &[Response<f64>], first: usize) -> Result<(), Error> {
        check_descending(group, first)
    }

    fn least(&self) -> usize {
        2
    }

    fn of_group<T: Float>(&self, group: &[Response<T>], slopes: &mut [T]) -> T {
        let lambda = cast::<T>(self.lambda);
        let mut loss = T::zero();
        slopes.fill(T::zero());
        for k in 0..group.len().saturating_sub(1) {
            let last = group.len() - 1;
            // Rewards fall, so that the greatest difference is that to the last.
            let sharpness = |i: usize| group[k].reward - group[if i == k { last } else { i }].reward;
            let mut sum = T::zero();
            let turn = first_of(
                group.len() - k,
                |i| sharpness(k + i) * group[k + i].mean_log_p(),
                |i, share| {
                    slopes[k + i] = slopes[k + i] + share * sharpness(k + i) / group[k + i].length;
                    sum = sum + share;
                },
            );
            loss = loss + turn;
            slopes[k] = slopes[k] - sum * sharpness(k) / group[k].length;
        }
        if let (Some(first), Some(slope)) = (group.first(), slopes.first_mut()) {
            loss = loss - lambda * first.log_p;
            *slope = *slope - lambda;
        }
        loss
    }
}
