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

/// `e^x - 1 - x`, at least 0: near 0 it is about `x^2 / 2`, which no subtraction leaves.
pub(crate) fn exp_m1_m_x<T: Float>(x: T) -> T {
    if x.abs() > T::one() {
        return x.exp_m1() - x;
    }
    // x^2 / 2 (1 + x / 3 (1 + x / 4 (..))); the first term left out is x^20 / 20!, 8e-19 of the whole at most.
    let mut divisor = T::from(19).unwrap_or_else(T::nan);
    let mut rest = T::one();
    while divisor > T::one() + T::one() {
        rest = T::one() + x / divisor * rest;
        divisor = divisor - T::one();
    }
    x * x / (T::one() + T::one()) * rest
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

/// Sums of exponentials whose exponents are at most 0, one of them 0.
pub(crate) struct Exponents<T> {
    /// `sum exp x`.
    pub(crate) sum: T,
    /// `sum (exp x - 1)`, exact where all are near 0.
    deficit: T,
    members: T,
}

impl<T: Float> Exponents<T> {
    pub(crate) fn of(exponents: impl Iterator<Item = T>) -> Self {
        let zero = Self { sum: T::zero(), deficit: T::zero(), members: T::zero() };
        exponents.fold(zero, |all, x| Self {
            sum: all.sum + x.exp(),
            deficit: all.deficit + x.exp_m1(),
            members: all.members + T::one(),
        })
    }

    /// `log mean exp x`, at most 0.
    pub(crate) fn log_mean(&self) -> T {
        let below = self.deficit / self.members;
        if below + below > -T::one() { below.ln_1p() } else { (self.sum / self.members).ln() }
    }
}
