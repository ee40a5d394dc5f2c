//! The vector operations that the row kernels are written in, once.
//!
//! A value of a type that implements [`Simd`] is the proof that its instructions are there: [`Level`](crate::Level)
//! makes one only after detection. Methods are `#[inline(always)]` and not `#[target_feature]`, so that they
//! melt into [`Simd::run`], the one function per set that is compiled with the set enabled. All `unsafe` of this
//! crate lives in the modules below, beside the intrinsics that need it.

use crate::exp::Digits;
use half::{bf16, f16};
use tokenloss_core::Element;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(all(test, not(target_arch = "aarch64")))]
mod emulated;
#[cfg(any(target_arch = "aarch64", test))]
pub(crate) mod neon;
pub(crate) mod portable;

/// Something to be run with an instruction set enabled.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

pub(crate) trait Simd: Copy + Send + Sync {
    /// `f32`s in a vector; at most [`MAX_LANES`].
    const LANES: usize;
    /// Whether [`mul_add`](Simd::mul_add) rounds once.
    const FUSED: bool;
    type V: Copy;

    /// Runs a kernel in a function that is compiled with this set enabled.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    fn splat(self, x: f32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `1 / x` for `x` from 1 to the greatest float, at most 1 ULP off; where that is subnormal it may be 0.
    #[inline(always)]
    fn inverse(self, x: Self::V) -> Self::V {
        self.div(self.splat(1.0), x)
    }
    /// `x = m 2^e` with `m` from sqrt(1/2) to sqrt(2) and `e` integral, for a positive normal `x`; elsewhere both are
    /// anything.
    fn split(self, x: Self::V) -> (Self::V, Self::V);
    /// `a b + c`, fused where the set has it.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The greater; `b` if either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// NaN stays NaN.
    #[inline(always)]
    fn abs(self, x: Self::V) -> Self::V {
        self.max(self.sub(self.splat(0.0), x), x)
    }
    /// `x 2^n` for integral `n` where `a >= b`, 0 where `a < b`, NaN where `x` or `a` is. Where `a >= b`, `x` and
    /// the result must be normal; elsewhere both may be anything.
    fn scale_unless_lt(self, x: Self::V, n: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// `x` where `a >= b` or either is NaN, 0 elsewhere.
    fn keep_unless_lt(self, x: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// `x y` where `x >= b`, 0 elsewhere, without ever forming the product there.
    fn mul_unless_lt(self, x: Self::V, y: Self::V, b: Self::V) -> Self::V;
    /// `x` where `a < 0`, `y` elsewhere and where `a` is NaN.
    fn pick(self, a: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// `x` in the lanes whose bit is set, from the lowest, `y` elsewhere.
    fn pick_bits(self, bits: u32, x: Self::V, y: Self::V) -> Self::V;
    /// Adds `x` to `zero` where `a` is 0 and to `other` elsewhere; NaN is not 0.
    fn add_by_zero(self, x: Self::V, a: Self::V, zero: &mut Self::V, other: &mut Self::V);
    fn horizontal_sum(self, x: Self::V) -> f32;
    fn horizontal_max(self, x: Self::V) -> f32;

    // Loads and stores take slices of exactly LANES elements. A streaming store needs the slice aligned to the
    // vector's size in memory and goes round the caches where the set has such a store.
    fn load_f32(self, x: &[f32]) -> Self::V;
    fn load_f16(self, x: &[f16]) -> Self::V;
    fn load_bf16(self, x: &[bf16]) -> Self::V;
    fn store_f32(self, v: Self::V, x: &mut [f32]);
    fn store_f16(self, v: Self::V, x: &mut [f16]);
    fn store_bf16(self, v: Self::V, x: &mut [bf16]);
    #[inline(always)]
    fn stream_f32(self, v: Self::V, x: &mut [f32]) {
        self.store_f32(v, x);
    }
    #[inline(always)]
    fn stream_f16(self, v: Self::V, x: &mut [f16]) {
        self.store_f16(v, x);
    }
    #[inline(always)]
    fn stream_bf16(self, v: Self::V, x: &mut [bf16]) {
        self.store_bf16(v, x);
    }
    // The greatest element of a slice of any length; unspecified if one is NaN.
    #[inline(always)]
    fn max_f32(self, x: &[f32]) -> f32 {
        greatest(self, x)
    }
    #[inline(always)]
    fn max_f16(self, x: &[f16]) -> f32 {
        greatest(self, x)
    }
    #[inline(always)]
    fn max_bf16(self, x: &[bf16]) -> f32 {
        greatest(self, x)
    }
    /// Orders streaming stores before all that follows.
    #[inline(always)]
    fn fence(self) {}
    /// Asks for the cache line of an element that is read soon; a hint.
    #[inline(always)]
    fn prefetch<T>(self, _x: &T) {}
}

/// The bits of sqrt(1/2), rounded down: what [`Simd::split`] takes off before it reads an exponent.
pub(crate) const SQRT_HALF_BITS: i32 = 0x3f35_04f3;

/// The widest vector of any set.
pub(crate) const MAX_LANES: usize = 16;

/// A storage type, converted in registers.
pub(crate) trait Lanes: Element {
    /// What exponentials of such logits are worth.
    const DIGITS: Digits;
    fn load<S: Simd>(s: S, x: &[Self]) -> S::V;
    fn store<S: Simd>(s: S, v: S::V, x: &mut [Self]);
    fn stream<S: Simd>(s: S, v: S::V, x: &mut [Self]);
    fn greatest<S: Simd>(s: S, x: &[Self]) -> f32;

    /// Loads fewer than LANES elements, with `fill` after them.
    #[inline(always)]
    fn load_part<S: Simd>(s: S, x: &[Self], fill: f32) -> S::V {
        let mut lanes = [Self::from_f32(fill); MAX_LANES];
        lanes[..x.len()].copy_from_slice(x);
        Self::load(s, &lanes[..S::LANES])
    }

    /// Loads LANES elements, or fewer with `fill` after them.
    #[inline(always)]
    fn load_up_to<S: Simd>(s: S, x: &[Self], fill: f32) -> S::V {
        if x.len() == S::LANES { Self::load(s, x) } else { Self::load_part(s, x, fill) }
    }

    /// Stores LANES elements, or the first ones only.
    #[inline(always)]
    fn store_up_to<S: Simd>(s: S, v: S::V, x: &mut [Self]) {
        if x.len() == S::LANES { Self::store(s, v, x) } else { Self::store_part(s, v, x) }
    }

    /// Stores the first elements only.
    #[inline(always)]
    fn store_part<S: Simd>(s: S, v: S::V, x: &mut [Self]) {
        let mut lanes = [Self::from_f32(0.0); MAX_LANES];
        Self::store(s, v, &mut lanes[..S::LANES]);
        x.copy_from_slice(&lanes[..x.len()]);
    }
}

macro_rules! lanes {
    ($type:ty, $digits:ident, $load:ident, $store:ident, $stream:ident, $max:ident) => {
        impl Lanes for $type {
            const DIGITS: Digits = Digits::$digits;
            #[inline(always)]
            fn load<S: Simd>(s: S, x: &[Self]) -> S::V {
                s.$load(x)
            }
            #[inline(always)]
            fn store<S: Simd>(s: S, v: S::V, x: &mut [Self]) {
                s.$store(v, x);
            }
            #[inline(always)]
            fn stream<S: Simd>(s: S, v: S::V, x: &mut [Self]) {
                s.$stream(v, x);
            }
            #[inline(always)]
            fn greatest<S: Simd>(s: S, x: &[Self]) -> f32 {
                s.$max(x)
            }
        }
    };
}
lanes!(f32, Full, load_f32, store_f32, stream_f32, max_f32);
lanes!(f16, Half, load_f16, store_f16, stream_f16, max_f16);
lanes!(bf16, Half, load_bf16, store_bf16, stream_bf16, max_bf16);

#[inline(always)]
fn greatest<S: Simd, L: Lanes>(s: S, x: &[L]) -> f32 {
    let lowest = s.splat(f32::NEG_INFINITY);
    let mut best = [lowest; 4];
    let mut groups = x.chunks_exact(4 * S::LANES);
    for group in &mut groups {
        for (best, z) in best.iter_mut().zip(group.chunks_exact(S::LANES)) {
            *best = s.max(*best, L::load(s, z));
        }
    }
    let mut vectors = groups.remainder().chunks_exact(S::LANES);
    for z in &mut vectors {
        best[0] = s.max(best[0], L::load(s, z));
    }
    if !vectors.remainder().is_empty() {
        best[1] = s.max(best[1], L::load_part(s, vectors.remainder(), f32::NEG_INFINITY));
    }
    let best = s.max(s.max(best[0], best[1]), s.max(best[2], best[3]));
    s.horizontal_max(best)
}
