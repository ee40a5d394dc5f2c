//! What an entry of two rows is computed with: a float, or a vector of them.

use core::ops::{Add, Div, Mul, Neg, Sub};
use num_traits::Float;

/// A number, or several at once: every float is one, and so is a backend's SIMD vector.
///
/// [`Divergence`](crate::divergence::Divergence)s are written in it once, so that what is tested in `f64` is what a backend
/// runs. There is no branch on values: both sides are computed, and one is picked.
pub trait Number:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// A constant.
    fn like(self, value: f32) -> Self;

    /// The greater of two; `other` if either is NaN.
    fn larger(self, other: Self) -> Self;

    /// `negative` where this is below 0, `otherwise` elsewhere and for NaN.
    fn pick(self, negative: Self, otherwise: Self) -> Self;

    /// `value` where this is a positive normal number, 0 elsewhere, whatever `value` is there.
    fn gate(self, value: Self) -> Self;

    /// `exp` of a number of at most 0, or above it by a rounding error.
    fn exp_of(self) -> Self;

    /// `exp` of a number of at most 0, and what it is apart from its tangents.
    fn exp_and_gaps(self) -> Exp<Self>;

    /// `e^x - 1 - x` for x from -1 to 1, to full relative accuracy; anything elsewhere.
    fn exp_gap(self) -> Self;

    /// `x - ln(1 + x)` for x from -1 to 0, to full relative accuracy: how far the logarithm lies below its tangent. `1 + x` is
    /// what the caller knows it to be, which near x = -1 is more than a sum gives.
    fn ln_gap(self, one_plus: Self) -> Self;
}

/// The exponential of `x <= 0`, in the forms in which nothing cancels near x = 0. All are finite for any `x`, but `x` itself
/// and `gap_at_0`, which are infinite where it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exp<N> {
    /// `x`
    pub x: N,
    /// `e^x`
    pub exp: N,
    /// `e^x - 1`
    pub exp_m1: N,
    /// `x e^x`
    pub x_exp: N,
    /// `e^x - 1 - x`: at `x`, how far above the tangent in 0.
    pub gap_at_0: N,
    /// `1 - e^x + x e^x`: at 0, how far above the tangent in `x`.
    pub gap_at_x: N,
}

impl<T: Float> Number for T {
    #[inline(always)]
    fn like(self, value: f32) -> Self {
        crate::objective::cast(value)
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other { self } else { other }
    }

    #[inline(always)]
    fn pick(self, negative: Self, otherwise: Self) -> Self {
        if self < T::zero() { negative } else { otherwise }
    }

    #[inline(always)]
    fn gate(self, value: Self) -> Self {
        if self >= T::min_positive_value() { value } else { T::zero() }
    }

    #[inline(always)]
    fn exp_of(self) -> Self {
        self.exp()
    }

    fn exp_and_gaps(self) -> Exp<Self> {
        let (x, exp, exp_m1) = (self, self.exp(), self.exp_m1());
        let x_exp = if exp == T::zero() { T::zero() } else { x * exp };
        let (gap_at_0, gap_at_x) = if x > -half::<T>() {
            let gap = x.exp_gap();
            (gap, x * exp_m1 - gap)
        } else {
            (exp_m1 - x, x_exp - exp_m1)
        };
        Exp { x, exp, exp_m1, x_exp, gap_at_0, gap_at_x }
    }

    fn exp_gap(self) -> Self {
        let x = self;
        // sum over k from 2 of x^k / k!
        series(|k, term| term * x / of(k + 2), x * x * half())
    }

    fn ln_gap(self, one_plus: Self) -> Self {
        let x = self;
        if x > -half::<T>() {
            // sum over k from 2 of (-x)^k / k
            series(|k, term| -(term * x) * of(k + 1) / of(k + 2), x * x * half())
        } else {
            x - one_plus.ln()
        }
    }
}

fn half<T: Float>() -> T {
    T::one() / (T::one() + T::one())
}

fn of<T: Float>(k: u8) -> T {
    T::from(k).unwrap_or_else(T::nan)
}

/// A sum whose terms shrink, by its first term and the next ones.
fn series<T: Float>(mut next: impl FnMut(u8, T) -> T, first: T) -> T {
    let (mut sum, mut term) = (first, first);
    for k in 1..64 {
        term = next(k, term);
        if term.abs() <= T::epsilon() * sum.abs() * half() {
            break;
        }
        sum = sum + term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways agree where they meet, and the series holds where the other way cancels.
    #[test]
    fn gaps_keep_their_relative_accuracy() {
        let near = |a: f64, b: f64| assert!((a - b).abs() <= 4e-15 * b.abs(), "{a:e} and {b:e}");
        // The plain forms cancel numbers of the size of x to one of half its square.
        let plain = |x: f64, a: f64, b: f64| {
            assert!((a - b).abs() <= 8.0 * f64::EPSILON / x.abs() * b.abs(), "{x}: {a:e} and {b:e}");
        };
        for x in [-0.4999f64, -0.3, -0.1, -0.5001, -2.0] {
            let exp = x.exp_and_gaps();
            plain(x, exp.gap_at_0, x.exp_m1() - x);
            plain(x, exp.gap_at_x, x * x.exp() - x.exp_m1());
            let x = x.max(-0.999);
            plain(x, x.ln_gap(1.0 + x), x - x.ln_1p());
        }
        for x in [-1e-5f64, -1e-8, -1e-100] {
            let exp = x.exp_and_gaps();
            near(exp.gap_at_0, x * x * (0.5 + x * (1.0 / 6.0 + x / 24.0)));
            near(exp.gap_at_x, x * x * (0.5 + x * (1.0 / 3.0 + x / 8.0)));
            near(x.ln_gap(1.0 + x), x * x * (0.5 - x * (1.0 / 3.0 - x / 4.0)));
        }
        let exp = f64::NEG_INFINITY.exp_and_gaps();
        assert_eq!((exp.exp, exp.exp_m1, exp.x_exp, exp.gap_at_x), (0.0, -1.0, 0.0, 1.0));
        assert_eq!(exp.gap_at_0, f64::INFINITY);
        let exp = 0f64.exp_and_gaps();
        assert_eq!((exp.exp, exp.exp_m1, exp.x_exp, exp.gap_at_0, exp.gap_at_x), (1.0, 0.0, 0.0, 0.0, 0.0));
    }
}
