//! The NEON intrinsics that `neon.rs` names, after Arm's reference, so that its logic is tested on a machine that
//! has none. Compiled for tests alone.
#![allow(non_camel_case_types)]

#[derive(Clone, Copy)]
pub(crate) struct float32x4_t([f32; 4]);
#[derive(Clone, Copy)]
pub(crate) struct uint32x4_t([u32; 4]);
#[derive(Clone, Copy)]
pub(crate) struct int32x4_t([i32; 4]);
#[derive(Clone, Copy)]
pub(crate) struct uint16x4_t([u16; 4]);

use core::array::from_fn;

const fn all(condition: bool) -> u32 {
    if condition { u32::MAX } else { 0 }
}

macro_rules! emulate {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty { $body:expr })*) => {
        $(
            // `unsafe` as the real ones are outside of a function that enables the set.
            #[inline(always)]
            pub(super) unsafe fn $name($($arg: $type),*) -> $result {
                $body
            }
        )*
    };
}

emulate! {
    vdupq_n_f32(x: f32) -> float32x4_t { float32x4_t([x; 4]) }
    vaddq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t { float32x4_t(from_fn(|i| a.0[i] + b.0[i])) }
    vsubq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t { float32x4_t(from_fn(|i| a.0[i] - b.0[i])) }
    vmulq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t { float32x4_t(from_fn(|i| a.0[i] * b.0[i])) }
    vdivq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t { float32x4_t(from_fn(|i| a.0[i] / b.0[i])) }
    vdupq_n_u32(x: u32) -> uint32x4_t { uint32x4_t([x; 4]) }
    vtstq_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t { uint32x4_t(from_fn(|i| all(a.0[i] & b.0[i] != 0))) }
    vdupq_n_s32(x: i32) -> int32x4_t { int32x4_t([x; 4]) }
    vcvtq_f32_s32(a: int32x4_t) -> float32x4_t { float32x4_t(a.0.map(|a| a as f32)) }
    vfmaq_f32(c: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        float32x4_t(from_fn(|i| a.0[i].mul_add(b.0[i], c.0[i])))
    }
    vcgtq_f32(a: float32x4_t, b: float32x4_t) -> uint32x4_t { uint32x4_t(from_fn(|i| all(a.0[i] > b.0[i]))) }
    vcltq_f32(a: float32x4_t, b: float32x4_t) -> uint32x4_t { uint32x4_t(from_fn(|i| all(a.0[i] < b.0[i]))) }
    vceqzq_f32(a: float32x4_t) -> uint32x4_t { uint32x4_t(from_fn(|i| all(a.0[i] == 0.0))) }
    vbslq_f32(mask: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        float32x4_t(from_fn(|i| {
            f32::from_bits((mask.0[i] & a.0[i].to_bits()) | (!mask.0[i] & b.0[i].to_bits()))
        }))
    }
    vandq_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t { uint32x4_t(from_fn(|i| a.0[i] & b.0[i])) }
    vbicq_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t { uint32x4_t(from_fn(|i| a.0[i] & !b.0[i])) }
    vaddq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        int32x4_t(from_fn(|i| a.0[i].wrapping_add(b.0[i])))
    }
    vsubq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        int32x4_t(from_fn(|i| a.0[i].wrapping_sub(b.0[i])))
    }
    // To nearest, ties to even; saturating, NaN to 0: as `as` has it.
    vcvtnq_s32_f32(a: float32x4_t) -> int32x4_t { int32x4_t(from_fn(|i| a.0[i].round_ties_even() as i32)) }
    vreinterpretq_f32_s32(a: int32x4_t) -> float32x4_t {
        float32x4_t(from_fn(|i| f32::from_bits(a.0[i] as u32)))
    }
    vreinterpretq_s32_f32(a: float32x4_t) -> int32x4_t { int32x4_t(from_fn(|i| a.0[i].to_bits() as i32)) }
    vreinterpretq_f32_u32(a: uint32x4_t) -> float32x4_t { float32x4_t(a.0.map(f32::from_bits)) }
    vreinterpretq_u32_f32(a: float32x4_t) -> uint32x4_t { uint32x4_t(a.0.map(f32::to_bits)) }
    vmovl_u16(a: uint16x4_t) -> uint32x4_t { uint32x4_t(a.0.map(u32::from)) }
    vaddvq_f32(a: float32x4_t) -> f32 { (a.0[0] + a.0[1]) + (a.0[2] + a.0[3]) }
    vmaxvq_f32(a: float32x4_t) -> f32 {
        a.0.into_iter().fold(f32::NEG_INFINITY, |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) })
    }
}

#[inline(always)]
pub(super) unsafe fn vshlq_n_s32<const N: i32>(a: int32x4_t) -> int32x4_t {
    int32x4_t(a.0.map(|a| a << N))
}

#[inline(always)]
pub(super) unsafe fn vshrq_n_s32<const N: i32>(a: int32x4_t) -> int32x4_t {
    int32x4_t(a.0.map(|a| a >> N))
}

#[inline(always)]
pub(super) unsafe fn vshlq_n_u32<const N: i32>(a: uint32x4_t) -> uint32x4_t {
    uint32x4_t(a.0.map(|a| a << N))
}

#[inline(always)]
pub(super) unsafe fn vld1_u16(from: *const u16) -> uint16x4_t {
    // SAFETY: the caller's slice holds four elements.
    unsafe { uint16x4_t(from.cast::<[u16; 4]>().read_unaligned()) }
}

#[inline(always)]
pub(super) unsafe fn vld1q_u32(from: *const u32) -> uint32x4_t {
    // SAFETY: the caller's slice holds four elements.
    unsafe { uint32x4_t(from.cast::<[u32; 4]>().read_unaligned()) }
}

#[inline(always)]
pub(super) unsafe fn vld1q_f32(from: *const f32) -> float32x4_t {
    // SAFETY: the caller's slice holds four elements.
    unsafe { float32x4_t(from.cast::<[f32; 4]>().read_unaligned()) }
}

#[inline(always)]
pub(super) unsafe fn vst1q_f32(to: *mut f32, a: float32x4_t) {
    // SAFETY: the caller's slice holds four elements.
    unsafe { to.cast::<[f32; 4]>().write_unaligned(a.0) }
}
