//! NEON: four lanes, part of every 64-bit Arm.

// On that architecture most of these intrinsics are safe to call; emulated ones are not.
#![allow(unused_unsafe)]

#[cfg(not(target_arch = "aarch64"))]
use super::emulated::*;
use super::{Kernel, SQRT_HALF_BITS, Simd};
#[cfg(target_arch = "aarch64")]
use core::arch::aarch64::*;
use half::{bf16, f16};
use tokenloss_core::Element;

/// Always present on this architecture.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

const LANES: usize = 4;

// SAFETY, for every block below: NEON is part of the aarch64 baseline, and each load or store is of a slice
// whose length is asserted first.
impl Simd for Neon {
    const LANES: usize = LANES;
    const FUSED: bool = true;
    type V = float32x4_t;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        // SAFETY: baseline.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: baseline.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: baseline.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: baseline.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: baseline.
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    fn split(self, x: float32x4_t) -> (float32x4_t, float32x4_t) {
        // SAFETY: baseline.
        unsafe {
            let bits = vreinterpretq_s32_f32(x);
            let exponent = vshrq_n_s32::<23>(vsubq_s32(bits, vdupq_n_s32(SQRT_HALF_BITS)));
            let mantissa = vsubq_s32(bits, vshlq_n_s32::<23>(exponent));
            (vreinterpretq_f32_s32(mantissa), vcvtq_f32_s32(exponent))
        }
    }
    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: baseline.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // Not `vmaxq_f32`, which returns NaN if either is: the contract is `b`.
        // SAFETY: baseline.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
    #[inline(always)]
    fn scale_unless_lt(self, x: float32x4_t, n: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // A NaN converts to 0 and so stays the NaN it was.
        // SAFETY: baseline.
        let scaled = unsafe {
            let exponent = vshlq_n_s32::<23>(vcvtnq_s32_f32(n));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), exponent))
        };
        self.keep_unless_lt(scaled, a, b)
    }
    #[inline(always)]
    fn keep_unless_lt(self, x: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: baseline.
        unsafe { vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vcltq_f32(a, b))) }
    }
    #[inline(always)]
    fn mul_unless_lt(self, x: float32x4_t, y: float32x4_t, b: float32x4_t) -> float32x4_t {
        self.mul(self.keep_unless_lt(x, x, b), y)
    }
    #[inline(always)]
    fn pick(self, a: float32x4_t, x: float32x4_t, y: float32x4_t) -> float32x4_t {
        // SAFETY: baseline.
        unsafe { vbslq_f32(vcltq_f32(a, vdupq_n_f32(0.0)), x, y) }
    }
    #[inline(always)]
    fn pick_bits(self, bits: u32, x: float32x4_t, y: float32x4_t) -> float32x4_t {
        const LANE: [u32; LANES] = [1, 2, 4, 8];
        // SAFETY: baseline, and the array holds four elements.
        unsafe { vbslq_f32(vtstq_u32(vdupq_n_u32(bits), vld1q_u32(LANE.as_ptr())), x, y) }
    }
    #[inline(always)]
    fn add_by_zero(self, x: float32x4_t, a: float32x4_t, zero: &mut float32x4_t, other: &mut float32x4_t) {
        // SAFETY: baseline.
        unsafe {
            let (is_zero, bits) = (vceqzq_f32(a), vreinterpretq_u32_f32(x));
            *zero = vaddq_f32(*zero, vreinterpretq_f32_u32(vandq_u32(bits, is_zero)));
            *other = vaddq_f32(*other, vreinterpretq_f32_u32(vbicq_u32(bits, is_zero)));
        }
    }
    #[inline(always)]
    fn horizontal_sum(self, x: float32x4_t) -> f32 {
        // SAFETY: baseline.
        unsafe { vaddvq_f32(x) }
    }
    #[inline(always)]
    fn horizontal_max(self, x: float32x4_t) -> f32 {
        // SAFETY: baseline.
        unsafe { vmaxvq_f32(x) }
    }

    #[inline(always)]
    fn load_f32(self, x: &[f32]) -> float32x4_t {
        assert!(x.len() == LANES);
        // SAFETY: baseline, and the slice holds four elements.
        unsafe { vld1q_f32(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16]) -> float32x4_t {
        // The conversion instructions for `f16` are not stable in Rust; the scalar form is exact.
        let wide: [f32; LANES] = core::array::from_fn(|i| x[i].to_f32_const());
        self.load_f32(&wide)
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16]) -> float32x4_t {
        assert!(x.len() == LANES);
        // SAFETY: baseline, and the slice holds four elements.
        unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(vld1_u16(x.as_ptr().cast())))) }
    }
    #[inline(always)]
    fn store_f32(self, v: float32x4_t, x: &mut [f32]) {
        assert!(x.len() == LANES);
        // SAFETY: baseline, and the slice holds four elements.
        unsafe { vst1q_f32(x.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_f16(self, v: float32x4_t, x: &mut [f16]) {
        let mut wide = [0.0; LANES];
        self.store_f32(v, &mut wide);
        x.iter_mut().zip(wide).for_each(|(x, v)| *x = <f16 as Element>::from_f32(v));
    }
    #[inline(always)]
    fn store_bf16(self, v: float32x4_t, x: &mut [bf16]) {
        let mut wide = [0.0; LANES];
        self.store_f32(v, &mut wide);
        x.iter_mut().zip(wide).for_each(|(x, v)| *x = <bf16 as Element>::from_f32(v));
    }
}
