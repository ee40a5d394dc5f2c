//! Arrays that the compiler vectorises for the target's baseline.

use super::{Kernel, Simd};
use half::{bf16, f16};
use tokenloss_core::Element;

const LANES: usize = 8;

#[derive(Clone, Copy)]
pub(crate) struct Portable;

type V = [f32; LANES];

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    core::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    const LANES: usize = LANES;
    type V = V;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        // Not `f32::mul_add`: without the instruction that is a call.
        core::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn scale_unless_lt(self, x: V, n: V, a: V, b: V) -> V {
        // The low bits of n + 1.5 * 2^23 are those of the integer n; a conversion would not vectorise.
        const MAGIC: f32 = 12_582_912.0;
        const ONE: u32 = 1.0f32.to_bits();
        let scaled = zip(x, n, |x, n| x * f32::from_bits(((n + MAGIC).to_bits() << 23).wrapping_add(ONE)));
        self.keep_unless_lt(scaled, a, b)
    }
    #[inline(always)]
    fn keep_unless_lt(self, x: V, a: V, b: V) -> V {
        core::array::from_fn(|i| if a[i] < b[i] { 0.0 } else { x[i] })
    }
    #[inline(always)]
    fn add_by_zero(self, x: V, a: V, zero: &mut V, other: &mut V) {
        *zero = self.add(*zero, zip(x, a, |x, a| if a == 0.0 { x } else { 0.0 }));
        *other = self.add(*other, zip(x, a, |x, a| if a == 0.0 { 0.0 } else { x }));
    }
    #[inline(always)]
    fn horizontal_sum(self, x: V) -> f32 {
        ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))
    }
    #[inline(always)]
    fn horizontal_max(self, x: V) -> f32 {
        x.into_iter().fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn load_f32(self, x: &[f32]) -> V {
        core::array::from_fn(|i| x[i])
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16]) -> V {
        core::array::from_fn(|i| x[i].to_f32_const())
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16]) -> V {
        core::array::from_fn(|i| f32::from_bits(u32::from(x[i].to_bits()) << 16))
    }
    #[inline(always)]
    fn store_f32(self, v: V, x: &mut [f32]) {
        x[..LANES].copy_from_slice(&v);
    }
    #[inline(always)]
    fn store_f16(self, v: V, x: &mut [f16]) {
        x[..LANES].iter_mut().zip(v).for_each(|(x, v)| *x = <f16 as Element>::from_f32(v));
    }
    #[inline(always)]
    fn store_bf16(self, v: V, x: &mut [bf16]) {
        x[..LANES].iter_mut().zip(v).for_each(|(x, v)| *x = <bf16 as Element>::from_f32(v));
    }
}
