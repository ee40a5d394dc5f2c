//! The logarithm that the kernels use.

use crate::exp::{LN_2_HI, LN_2_LO, polynomial};
use crate::simd::Simd;

/// `ln(1 + f) - f = f^2 k(f)`, with `k` minimax in its own relative error, 4.7e-8, for `sqrt(1/2) <= 1 + f < sqrt 2`.
#[inline(always)]
pub(crate) fn bend<S: Simd>(s: S, f: S::V) -> S::V {
    const K: [f32; 9] = [
        -0.499_999_97,
        0.333_333_25,
        -0.250_007_78,
        0.200_016_36,
        -0.166_270_93,
        0.141_961_44,
        -0.131_140_41,
        0.127_773_5,
        -0.077_780_455,
    ];
    s.mul(s.mul(f, f), polynomial(s, f, K))
}

/// `ln(1 + x)` and `1 / (1 + x)`, for `x` from 0 to the greatest float: at most 1 and 1.6 ULP off.
///
/// `1 + x = (1 + f) 2^n`; what rounding that sum lost is made good to first order, so that small `x` keep their relative
/// accuracy.
#[inline(always)]
pub(crate) fn ln_1p<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let one = s.splat(1.0);
    let sum = s.add(one, x);
    let inverse = s.inverse(sum);
    let taken = s.sub(sum, one);
    let lost = s.add(s.sub(one, s.sub(sum, taken)), s.sub(x, taken));
    let (m, n) = s.split(sum);
    // Exact, m being within a factor of two of 1.
    let f = s.sub(m, one);
    let small = s.mul_add(n, s.splat(LN_2_LO), s.mul_add(lost, inverse, bend(s, f)));
    (s.mul_add(n, s.splat(LN_2_HI), s.add(f, small)), inverse)
}
