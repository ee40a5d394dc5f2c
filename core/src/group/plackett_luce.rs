use super::softmax::first_of;
use super::{GroupObjective, check_descending};
use crate::Error;
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// List-wise DPO: the likelihood of a whole ranking, each sequence chosen in turn from those that are left.
///
/// ```text
/// s = beta (log_p - reference)        L = -sum_(k < n) log(e^s_k / sum_(i >= k) e^s_i)
/// slope_i = beta (sum_(k <= i, k < n) softmax_k(s)_i - [i < n])        softmax_k over those from k on
/// ```
///
/// Of two sequences it is [`Dpo`](struct@crate::preference::Dpo).
///
/// **Domain.** `beta` from 0.001 to 100. Needs `reference`, and `reward`, by which a group is sorted, best
/// first; the differences do not count, and equal ones keep the order that they are given in. Groups of two
/// at least.
///
/// **Numerics.** The slope of a sequence that is chosen nearly surely is minus the sum of the others' shares.
///
/// ```
/// use tokenloss_core::group::{GroupObjective, PlackettLuce};
/// use tokenloss_core::sequence::Response;
/// let of = |log_p: f64| Response { reference: -2.0, ..Response::new(log_p, 2.0) };
/// let mut slopes = [0.0; 3];
/// let loss = PlackettLuce::new(1.0)?.of_group(&[of(-2.0), of(-2.0), of(-2.0)], &mut slopes);
/// assert!((loss - 6f64.ln()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Rafailov et al. 2023 (arXiv 2305.18290), appendix A.3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlackettLuce {
    pub(crate) beta: f32,
}

impl GroupObjective for PlackettLuce {
    fn needs(&self) -> Needs {
        Needs { reference: true, reward: true, ..Needs::NOTHING }
    }

    fn check(&self, group: &[Response<f64>], first: usize) -> Result<(), Error> {
        check_descending(group, first)
    }

    fn least(&self) -> usize {
        2
    }

    fn of_group<T: Float>(&self, group: &[Response<T>], slopes: &mut [T]) -> T {
        let beta = cast::<T>(self.beta);
        let mut loss = T::zero();
        slopes.fill(T::zero());
        for k in 0..group.len().saturating_sub(1) {
            let mut sum = T::zero();
            let turn = first_of(
                group.len() - k,
                |i| beta * group[k + i].log_ratio(),
                |i, share| {
                    slopes[k + i] = slopes[k + i] + beta * share;
                    sum = sum + share;
                },
            );
            loss = loss + turn;
            slopes[k] = slopes[k] - beta * sum;
        }
        loss
    }
}
