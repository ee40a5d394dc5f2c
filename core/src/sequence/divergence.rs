//! Maximum likelihood seen as learning an implicit reward, under other divergences than Kullback-Leibler.

use super::{Response, SequenceEval};
use crate::objective::cast;
use num_traits::Float;

/// `-phi(x)` at `x = beta (log_p - reference)`, where `phi` and its derivative are given by `of`. Below
/// `floor`, near the end of what `phi` is defined for, it goes on along its tangent there.
#[inline]
pub(super) fn of_implicit_reward<T: Float>(
    response: &Response<T>,
    beta: f32,
    floor: f32,
    of: impl Fn(T) -> (T, T),
) -> SequenceEval<T> {
    let (beta, floor) = (cast::<T>(beta), cast::<T>(floor));
    let x = beta * response.log_ratio();
    let (phi, derivative) = of(x.max(floor));
    let loss = -phi - derivative * (x - floor).min(T::zero());
    SequenceEval { loss, slope: -beta * derivative, kept: true }
}

/// How far `x` is from the floor.
pub(super) fn from_floor<T: Float>(response: &Response<T>, beta: f32, floor: f32) -> T {
    cast::<T>(beta) * response.log_ratio() - cast(floor)
}
