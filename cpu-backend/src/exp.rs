//! The exponential that the kernels use: of differences to a maximum, so of numbers up to 0.

use crate::simd::Simd;

/// Below this the result is 0. `exp(-87)` is 1.6e-38, the last power that is surely a normal `f32`: arithmetic
/// on subnormals takes a hundred times as long, and a share of 1e-38 next to the maximum's 1 is nothing.
pub(crate) const LOWEST: f32 = -87.0;

/// `exp(x)` for `x <= 0`: 0 below [`LOWEST`], exactly 1 at 0, NaN for NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and `exp(r) = 1 + r + r^2 q(r)` with `q` of degree 4, minimax in the
/// relative error of `exp(r)`: 3.1e-9. The rest of the error is rounding: over every `f32` in [-87, 0] at most
/// 0.89 ULP with a fused multiply-add and 1.18 ULP without (`cargo test -p tokenloss-cpu --release --lib -- --ignored --nocapture`).
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // ln 2 in two parts: the first has 16 trailing zeros, so that n times it is exact.
    const LN_2_HI: f32 = 0.693_145_75;
    const LN_2_LO: f32 = 1.428_606_8e-6;
    const Q: [f32; 5] = [0.499_999_94, 0.166_665_2, 0.041_668_393, 0.008_368_781, 0.001_381_446_7];

    // Adding 1.5 * 2^23 leaves no bits for a fraction: this rounds. What lies below LOWEST comes out as garbage,
    // which the last step replaces by 0.
    const MAGIC: f32 = 12_582_912.0;
    let magic = s.splat(MAGIC);
    let n = s.sub(s.mul_add(x, s.splat(core::f32::consts::LOG2_E), magic), magic);
    let r = s.mul_add(n, s.splat(-LN_2_HI), x);
    let r = s.mul_add(n, s.splat(-LN_2_LO), r);
    let mut q = s.splat(Q[4]);
    for c in [Q[3], Q[2], Q[1], Q[0], 1.0, 1.0] {
        q = s.mul_add(q, r, s.splat(c));
    }
    s.scale_unless_lt(q, n, x, s.splat(LOWEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::simd::{Kernel, Lanes, MAX_LANES};

    /// One vector of exponentials.
    struct Vector([f32; MAX_LANES]);

    impl Kernel for Vector {
        type Output = [f32; MAX_LANES];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f32; MAX_LANES] {
            let mut out = [0.0; MAX_LANES];
            for (out, x) in out.chunks_exact_mut(S::LANES).zip(self.0.chunks_exact(S::LANES)) {
                f32::store(s, exp(s, f32::load(s, x)), out);
            }
            out
        }
    }

    /// Measured over every float: 1.178 without a fused multiply-add, 0.882 with it.
    fn documented(level: Level) -> f64 {
        if level.name() == "portable" { 1.18 } else { 0.89 }
    }

    /// The largest error in ULP of the exact result, over every `step`-th float from 0 down to LOWEST.
    fn worst(level: Level, step: usize) -> f64 {
        let (first, last) = ((-0.0f32).to_bits(), LOWEST.to_bits());
        let mut worst = 0.0f64;
        for bits in (first..=last).step_by(step * MAX_LANES) {
            let x = core::array::from_fn(|i| f32::from_bits((bits + (i * step) as u32).min(last)));
            let y = level.run(Vector(x));
            for (x, y) in x.iter().zip(y) {
                let truth = f64::from(*x).exp();
                let near = truth as f32;
                let ulp = f64::from(f32::from_bits(near.to_bits() + 1) - near);
                worst = worst.max((f64::from(y) - truth).abs() / ulp);
            }
        }
        worst
    }

    #[test]
    fn a_sample_of_all_floats_is_within_the_documented_error() {
        for level in Level::available() {
            let worst = worst(level, 997);
            println!("exp, {level}: {worst:.3} ULP");
            assert!(worst <= documented(level), "{level}: {worst} ULP");
        }
    }

    #[test]
    #[ignore = "a minute per level: every float"]
    fn every_float_is_within_the_documented_error() {
        for level in Level::available() {
            let worst = worst(level, 1);
            println!("exp, {level}: {worst:.3} ULP");
            assert!(worst <= documented(level), "{level}: {worst} ULP");
        }
    }

    #[test]
    fn special_values() {
        for level in Level::available() {
            for (x, y) in [
                (0.0f32, 1.0f32),
                (-0.0, 1.0),
                (f32::NEG_INFINITY, 0.0),
                (-87.1, 0.0),
                (-1e4, 0.0),
                (-1e30, 0.0),
                (f32::MIN, 0.0),
            ] {
                assert_eq!(level.run(Vector([x; MAX_LANES])), [y; MAX_LANES], "{level}: exp({x})");
            }
            // A payload must not make a number of a NaN.
            for bits in [0x7fc0_0000, 0x7fff_ffff, 0xffc0_0123, 0x7f80_0001] {
                let y = level.run(Vector([f32::from_bits(bits); MAX_LANES]));
                assert!(y.iter().all(|y| y.is_nan()), "{level}: exp of NaN {bits:x}");
            }
        }
    }
}
