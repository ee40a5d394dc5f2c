//! What every target has: four lanes by the `wide` crate, which knows SSE2, NEON and wasm's SIMD, and falls back
//! to scalars.

use super::{Kernel, SQRT_HALF_BITS, Simd};
use half::{bf16, f16};
use tokenloss_core::Element;
use wide::bytemuck::cast;
use wide::{f32x4, i32x4, u32x4};

const LANES: usize = 4;

#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    const LANES: usize = LANES;
    const FUSED: bool = false;
    type V = f32x4;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> f32x4 {
        f32x4::splat(x)
    }
    #[inline(always)]
    fn add(self, a: f32x4, b: f32x4) -> f32x4 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32x4, b: f32x4) -> f32x4 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32x4, b: f32x4) -> f32x4 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32x4, b: f32x4) -> f32x4 {
        a / b
    }
    #[inline(always)]
    fn split(self, x: f32x4) -> (f32x4, f32x4) {
        let bits: i32x4 = cast(x);
        let exponent = (bits - i32x4::splat(SQRT_HALF_BITS)) >> 23i32;
        (cast(bits - (exponent << 23i32)), f32x4::from_i32x4(exponent))
    }
    #[inline(always)]
    fn mul_add(self, a: f32x4, b: f32x4, c: f32x4) -> f32x4 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn max(self, a: f32x4, b: f32x4) -> f32x4 {
        a.simd_gt(b).bitselect(a, b)
    }
    #[inline(always)]
    fn scale_unless_lt(self, x: f32x4, n: f32x4, a: f32x4, b: f32x4) -> f32x4 {
        // The low bits of n + 1.5 * 2^23 are those of the integer n.
        const MAGIC: f32 = 12_582_912.0;
        let low: u32x4 = cast(n + f32x4::splat(MAGIC));
        let power: f32x4 = cast((low << 23u32) + u32x4::splat(1.0f32.to_bits()));
        self.keep_unless_lt(x * power, a, b)
    }
    #[inline(always)]
    fn keep_unless_lt(self, x: f32x4, a: f32x4, b: f32x4) -> f32x4 {
        a.simd_lt(b).bitselect(f32x4::ZERO, x)
    }
    #[inline(always)]
    fn mul_unless_lt(self, x: f32x4, y: f32x4, b: f32x4) -> f32x4 {
        self.keep_unless_lt(x, x, b) * y
    }
    #[inline(always)]
    fn pick(self, a: f32x4, x: f32x4, y: f32x4) -> f32x4 {
        a.simd_lt(f32x4::ZERO).bitselect(x, y)
    }
    #[inline(always)]
    fn pick_bits(self, bits: u32, x: f32x4, y: f32x4) -> f32x4 {
        let lanes = u32x4::new([1, 2, 4, 8]);
        let set: f32x4 = cast((u32x4::splat(bits) & lanes).simd_eq(lanes));
        set.bitselect(x, y)
    }
    #[inline(always)]
    fn add_by_zero(self, x: f32x4, a: f32x4, zero: &mut f32x4, other: &mut f32x4) {
        let is_zero = a.simd_eq(f32x4::ZERO);
        *zero += is_zero.bitselect(x, f32x4::ZERO);
        *other += is_zero.bitselect(f32x4::ZERO, x);
    }
    #[inline(always)]
    fn horizontal_sum(self, x: f32x4) -> f32 {
        let x = x.to_array();
        (x[0] + x[2]) + (x[1] + x[3])
    }
    #[inline(always)]
    fn horizontal_max(self, x: f32x4) -> f32 {
        x.to_array().into_iter().fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn load_f32(self, x: &[f32]) -> f32x4 {
        f32x4::new([x[0], x[1], x[2], x[3]])
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16]) -> f32x4 {
        f32x4::new(core::array::from_fn(|i| x[i].to_f32_const()))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16]) -> f32x4 {
        cast(u32x4::new(core::array::from_fn(|i| u32::from(x[i].to_bits()))) << 16u32)
    }
    #[inline(always)]
    fn store_f32(self, v: f32x4, x: &mut [f32]) {
        x[..LANES].copy_from_slice(&v.to_array());
    }
    #[inline(always)]
    fn store_f16(self, v: f32x4, x: &mut [f16]) {
        x[..LANES].iter_mut().zip(v.to_array()).for_each(|(x, v)| *x = <f16 as Element>::from_f32(v));
    }
    #[inline(always)]
    fn store_bf16(self, v: f32x4, x: &mut [bf16]) {
        // To nearest, ties to even; NaN stays NaN.
        let bits: u32x4 = cast(v);
        let upper = bits >> 16u32;
        let rounded = (bits + u32x4::splat(0x7fff) + (upper & u32x4::splat(1))) >> 16u32;
        let is_number: u32x4 = cast(v.simd_eq(v));
        let words = (is_number & rounded) | (!is_number & (upper | u32x4::splat(0x40)));
        x[..LANES].iter_mut().zip(words.to_array()).for_each(|(x, w)| *x = bf16::from_bits(w as u16));
    }
}
