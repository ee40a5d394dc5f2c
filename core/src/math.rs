//! Functions of one number that more than one family of objectives needs.

use num_traits::Float;

/// `log(1 + exp x)`, without overflow and to relative accuracy at both ends; `-log sigmoid(-x)`.
#[inline]
pub(crate) fn softplus<T: Float>(x: T) -> T {
    x.max(T::zero()) + (-x.abs()).exp().ln_1p()
}

/// `1 / (1 + exp(-x))`, to relative accuracy at both ends; `1 - sigmoid(x)` is `sigmoid(-x)`.
#[inline]
pub(crate) fn sigmoid<T: Float>(x: T) -> T {
    let tail = (-x.abs()).exp();
    (if x < T::zero() { tail } else { T::one() }) / (T::one() + tail)
}

/// `log(1 - exp x)` of a negative `x`, to relative accuracy at both ends.
#[inline]
pub(crate) fn log_1m_exp<T: Float>(x: T) -> T {
    if x + x > -T::one() { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() }
}

/// A number as an `f64`.
#[inline]
pub(crate) fn wide<T: Float>(x: T) -> f64 {
    x.to_f64().unwrap_or(f64::NAN)
}

/// The nearest number of the type.
#[inline]
pub(crate) fn narrow<T: Float>(x: f64) -> T {
    T::from(x).unwrap_or_else(T::nan)
}
