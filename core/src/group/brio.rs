use super::{GroupObjective, check_descending};
use crate::Error;
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// BRIO's ranking: a better sequence is to be likelier, by a margin that grows with the difference in rank.
///
/// ```text
/// f = log_p / |y|^alpha        L = sum_(i < j) max(0, f_j - f_i + (j - i) margin) / (n - (j - i))^per_gap
/// slope_k = (sum over its pairs that count of +1 as the worse, -1 as the better, by the same divisor) / |y_k|^alpha
/// ```
///
/// `per_gap = 0` is the sum over all pairs that the paper prints, `per_gap = 1` the sum over gaps `j - i` of
/// the mean over the pairs with that gap, which is what the authors' code computes.
///
/// **Domain.** `margin` from 0 to 100, `alpha` from 0 to 4, `per_gap` from 0 to 1. Needs `reward`, by which a
/// group is sorted, best first; the differences do not count, and equal ones keep the order that they are
/// given in. Groups of two at least. Every pair has a declared kink, where its slopes are 0.
///
/// ```
/// use tokenloss_core::group::{Brio, GroupObjective};
/// use tokenloss_core::sequence::Response;
/// let group = [Response::new(-4.0, 2.0), Response::new(-2.0, 2.0)];
/// let mut slopes = [0.0; 2];
/// assert_eq!(Brio::new(0.5, 1.0, 1.0)?.of_group(&group, &mut slopes), 1.5);
/// assert_eq!(slopes, [-0.5, 0.5]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Liu et al. 2022 (arXiv 2203.16804). Their code scores by probabilities instead of their
/// logarithms on request; the nll of the reference text, and a hinge against it with a margin and a weight of
/// its own, which they add, are left to the caller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Brio {
    pub(crate) margin: f32,
    pub(crate) alpha: f32,
    pub(crate) per_gap: f32,
}

impl Brio {
    /// `f_j - f_i + (j - i) margin`, by how much `j` is too near.
    fn near<T: Float>(&self, group: &[Response<T>], i: usize, j: usize) -> T {
        let score = |k: usize| group[k].log_p / group[k].length_power(self.alpha);
        score(j) - score(i) + count::<T>(j - i) * cast(self.margin)
    }
}

/// Every pair with the better one first.
fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |i| (i + 1..n).map(move |j| (i, j)))
}

fn count<T: Float>(n: usize) -> T {
    T::from(n).unwrap_or_else(T::nan)
}

impl GroupObjective for Brio {
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
        let mut loss = T::zero();
        slopes.fill(T::zero());
        for (i, j) in pairs(group.len()) {
            let near = self.near(group, i, j);
            if near > T::zero() {
                let weight = count::<T>(group.len() - (j - i)).powf(-cast::<T>(self.per_gap));
                loss = loss + weight * near;
                slopes[i] = slopes[i] - weight / group[i].length_power(self.alpha);
                slopes[j] = slopes[j] + weight / group[j].length_power(self.alpha);
            }
        }
        loss
    }

    fn kink<T: Float>(&self, group: &[Response<T>]) -> Option<T> {
        pairs(group.len())
            .map(|(i, j)| self.near(group, i, j))
            .reduce(|a, b| if b.abs() < a.abs() { b } else { a })
    }
}
