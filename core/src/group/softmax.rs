//! Softmaxes over the sequences of a group.

use crate::math::Exponents;
use num_traits::Float;

/// Overwrites numbers with their softmax and returns the logarithm of the mean of their exponentials. At
/// least one must not be -infinity.
pub(super) fn softmax<T: Float>(values: &mut [T]) -> T {
    let max = values.iter().copied().fold(T::neg_infinity(), T::max);
    let exponents = Exponents::of(values.iter().map(|&value| value - max));
    values.iter_mut().for_each(|value| *value = (*value - max).exp() / exponents.sum);
    max + exponents.log_mean()
}

/// `-log` of the first one's share in the softmax of `count` scores. `others` receives the share of every
/// other one: minus their sum is the derivative by the first score, which `share - 1` would lose where the
/// first is nearly sure.
pub(super) fn first_of<T: Float>(
    count: usize,
    score: impl Fn(usize) -> T,
    mut others: impl FnMut(usize, T),
) -> T {
    let first = score(0);
    let max = (1..count).map(&score).fold(T::neg_infinity(), T::max);
    let top = first.max(max);
    let rest = (1..count).fold(T::zero(), |sum, i| sum + (score(i) - top).exp());
    let own = (first - top).exp();
    (1..count).for_each(|i| others(i, (score(i) - top).exp() / (rest + own)));
    if first >= max { rest.ln_1p() } else { (top - first) + (rest + own).ln() }
}
