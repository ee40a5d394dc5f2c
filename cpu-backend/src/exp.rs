//! The exponential that the kernels use: of differences to a maximum, so of numbers up to 0.

use crate::simd::Simd;

/// Below this the result is 0. `exp(-87)` is 1.6e-38, the last power that is surely a normal `f32`: arithmetic
/// on subnormals takes a hundred times as long, and a share of 1e-38 next to the maximum's 1 is nothing.
pub(crate) const LOWEST: f32 = -87.0;

/// How exact an exponential is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digits {
    /// All that an `f32` holds.
    Full,
    /// More than the logits of a 16-bit storage type carry and its gradient keeps: three operations fewer, of which
    /// such rows, being short in memory, have the time.
    Half,
}

/// `exp(x)` for `x <= 0`: 0 below [`LOWEST`], exactly 1 at 0, NaN for NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and `exp(r) = 1 + r + r^2 q(r)` with `q` minimax in the relative error of
/// `exp(r)`. Measured over every `f32` in [-87, 0] (`cargo test -p tokenloss-cpu --release --lib -- --ignored
/// --nocapture`):
///
/// | | `q` of degree | its error | ln 2 in | total error |
/// |---|---|---|---|---|
/// | `Full` | 4 | 3.1e-9 | two parts | 0.89 ULP with a fused multiply-add, 1.18 ULP without |
/// | `Half` | 3 | 1.1e-7 | one part | 1.9e-7 + 2.7e-9 abs(x), relative; as `Full` without the fused form, which it needs |
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V, digits: Digits) -> S::V {
    const HALF: [f32; 4] = [0.499_992_3, 0.166_671_17, 0.041_890_55, 0.008_312_478];

    // What lies below LOWEST comes out as garbage, which the last step replaces by 0.
    let n = nearest(s, x);
    let p = if digits == Digits::Half && S::FUSED {
        with_tangent(s, s.mul_add(n, s.splat(-core::f32::consts::LN_2), x), HALF)
    } else {
        with_tangent(s, reduced(s, x, n), FULL)
    };
    s.scale_unless_lt(p, n, x, s.splat(LOWEST))
}

const FULL: [f32; 5] = [0.499_999_94, 0.166_665_2, 0.041_668_393, 0.008_368_781, 0.001_381_446_7];

/// ln 2 in two parts: this has 16 trailing zeros, so that an exponent times it is exact.
pub(crate) const LN_2_HI: f32 = 0.693_145_75;
/// The rest of ln 2.
pub(crate) const LN_2_LO: f32 = 1.428_606_8e-6;

/// `x / ln 2`, rounded. Adding 1.5 * 2^23 leaves no bits for a fraction.
#[inline(always)]
pub(crate) fn nearest<S: Simd>(s: S, x: S::V) -> S::V {
    let magic = s.splat(12_582_912.0);
    s.sub(s.mul_add(x, s.splat(core::f32::consts::LOG2_E), magic), magic)
}

/// `x - n ln 2`
#[inline(always)]
pub(crate) fn reduced<S: Simd>(s: S, x: S::V, n: S::V) -> S::V {
    s.mul_add(n, s.splat(-LN_2_LO), s.mul_add(n, s.splat(-LN_2_HI), x))
}

/// `1 + r + r^2 q(r)`
#[inline(always)]
fn with_tangent<S: Simd, const N: usize>(s: S, r: S::V, q: [f32; N]) -> S::V {
    let one = s.splat(1.0);
    s.mul_add(s.mul_add(polynomial(s, r, q), r, one), r, one)
}

/// `exp(x)` and `exp(x) - 1`, each to its own relative accuracy, for `x <= 0`: 0 and -1 below [`LOWEST`]. With n = 0, where the
/// second is small, nothing is added to it.
#[inline(always)]
pub(crate) fn exp_and_m1<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let (one, bounded) = (s.splat(1.0), s.max(x, s.splat(LOWEST)));
    let n = nearest(s, bounded);
    let r = reduced(s, bounded, n);
    let t = s.mul_add(s.mul(polynomial(s, r, FULL), r), r, r);
    let power = s.scale_unless_lt(one, n, x, s.splat(LOWEST));
    (s.mul_add(power, t, power), s.mul_add(power, t, s.sub(power, one)))
}

/// `c_0 + c_1 x + c_2 x^2 ..` by Horner's rule; an array by value, so that the loop is unrolled.
#[inline(always)]
pub(crate) fn polynomial<S: Simd, const N: usize>(s: S, x: S::V, c: [f32; N]) -> S::V {
    let mut sum = s.splat(c[N - 1]);
    for at in (0..N - 1).rev() {
        sum = s.mul_add(sum, x, s.splat(c[at]));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::simd::{Kernel, Lanes, MAX_LANES};

    /// One vector of exponentials.
    struct Vector([f32; MAX_LANES], Digits);

    impl Kernel for Vector {
        type Output = [f32; MAX_LANES];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f32; MAX_LANES] {
            let mut out = [0.0; MAX_LANES];
            for (out, x) in out.chunks_exact_mut(S::LANES).zip(self.0.chunks_exact(S::LANES)) {
                f32::store(s, exp(s, f32::load(s, x), self.1), out);
            }
            out
        }
    }

    /// The largest errors over every `step`-th float from 0 down to LOWEST, as shares of what is documented.
    fn check(step: usize) {
        for level in Level::available() {
            let (first, last) = ((-0.0f32).to_bits(), LOWEST.to_bits());
            let (mut full, mut half) = (0.0f64, 0.0f64);
            for bits in (first..=last).step_by(step * MAX_LANES) {
                let x = core::array::from_fn(|i| f32::from_bits((bits + (i * step) as u32).min(last)));
                let (y, z) = (level.run(Vector(x, Digits::Full)), level.run(Vector(x, Digits::Half)));
                for i in 0..MAX_LANES {
                    let truth = f64::from(x[i]).exp();
                    let near = truth as f32;
                    let ulp = f64::from(f32::from_bits(near.to_bits() + 1) - near);
                    full = full.max((f64::from(y[i]) - truth).abs() / ulp);
                    let granted = 1.9e-7 + 2.7e-9 * f64::from(x[i].abs());
                    half = half.max((f64::from(z[i]) / truth - 1.0).abs() / granted);
                }
            }
            println!("exp, {level}: full {full:.3} ULP, half {half:.3} of what is documented");
            let documented = if level.name() == "portable" { 1.18 } else { 0.89 };
            assert!(full <= documented && half <= 1.0, "{level}: {full} ULP, {half}");
        }
    }

    #[test]
    fn a_sample_of_all_floats_is_within_the_documented_error() {
        check(997);
    }

    #[test]
    #[ignore = "a minute per level: every float"]
    fn every_float_is_within_the_documented_error() {
        check(1);
    }

    #[test]
    fn special_values() {
        for (level, digits) in
            Level::available().into_iter().flat_map(|l| [(l, Digits::Full), (l, Digits::Half)])
        {
            for (x, y) in [
                (0.0f32, 1.0f32),
                (-0.0, 1.0),
                (f32::NEG_INFINITY, 0.0),
                (-87.1, 0.0),
                (-1e4, 0.0),
                (-1e30, 0.0),
                (f32::MIN, 0.0),
            ] {
                assert_eq!(level.run(Vector([x; MAX_LANES], digits)), [y; MAX_LANES], "{level}: exp({x})");
            }
            // A payload must not make a number of a NaN.
            for bits in [0x7fc0_0000, 0x7fff_ffff, 0xffc0_0123, 0x7f80_0001] {
                let y = level.run(Vector([f32::from_bits(bits); MAX_LANES], digits));
                assert!(y.iter().all(|y| y.is_nan()), "{level}: exp of NaN {bits:x}");
            }
        }
    }
}
