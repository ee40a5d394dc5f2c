//! AVX-512 (F, BW, VL, DQ): sixteen lanes, masks, and scaling by powers of two in one instruction; with or without
//! the instruction that rounds to bf16 (BF16).

use super::{Kernel, SQRT_HALF_BITS, Simd};
use core::arch::x86_64::*;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Exists only where detection found the set; see [`Avx512::new`].
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool>(());

impl<const BF16: bool> Avx512<BF16> {
    pub(crate) fn new() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && (!BF16 || is_x86_feature_detected!("avx512bf16"));
        present.then_some(Self(()))
    }
}

const LANES: usize = 16;

// SAFETY, for every block below: a value of `Avx512` is the proof that the set is present, and each load or
// store is of a slice whose length is asserted first.
impl<const BF16: bool> Simd for Avx512<BF16> {
    const LANES: usize = LANES;
    const FUSED: bool = true;
    type V = __m512;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
        fn enabled<K: Kernel, const BF16: bool>(simd: Avx512<BF16>, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
        fn enabled_bf16<K: Kernel, const BF16: bool>(simd: Avx512<BF16>, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: the set is present, see above.
        unsafe { if BF16 { enabled_bf16(self, kernel) } else { enabled(self, kernel) } }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: the set is present.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the set is present.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the set is present.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the set is present.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the set is present.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn inverse(self, x: __m512) -> __m512 {
        // Fourteen bits, and one step of Newton's: a division of this width takes as long as a dozen other operations.
        // SAFETY: the set is present.
        unsafe {
            let near = _mm512_rcp14_ps(x);
            _mm512_fmadd_ps(near, _mm512_fnmadd_ps(x, near, _mm512_set1_ps(1.0)), near)
        }
    }
    #[inline(always)]
    fn split(self, x: __m512) -> (__m512, __m512) {
        // SAFETY: the set is present.
        unsafe {
            let bits = _mm512_castps_si512(x);
            let exponent = _mm512_srai_epi32::<23>(_mm512_sub_epi32(bits, _mm512_set1_epi32(SQRT_HALF_BITS)));
            let mantissa = _mm512_sub_epi32(bits, _mm512_slli_epi32::<23>(exponent));
            (_mm512_castsi512_ps(mantissa), _mm512_cvtepi32_ps(exponent))
        }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the set is present.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the set is present.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn scale_unless_lt(self, x: __m512, n: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the set is present.
        unsafe { _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(a, b), x, n) }
    }
    #[inline(always)]
    fn keep_unless_lt(self, x: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the set is present.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(a, b), x) }
    }
    #[inline(always)]
    fn mul_unless_lt(self, x: __m512, y: __m512, b: __m512) -> __m512 {
        // SAFETY: the set is present.
        unsafe { _mm512_maskz_mul_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, b), x, y) }
    }
    #[inline(always)]
    fn pick(self, a: __m512, x: __m512, y: __m512) -> __m512 {
        // SAFETY: the set is present.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, _mm512_setzero_ps()), y, x) }
    }
    #[inline(always)]
    fn pick_bits(self, bits: u32, x: __m512, y: __m512) -> __m512 {
        // SAFETY: the set is present.
        unsafe { _mm512_mask_blend_ps(bits as u16, y, x) }
    }
    #[inline(always)]
    fn abs(self, x: __m512) -> __m512 {
        // SAFETY: the set is present.
        unsafe { _mm512_abs_ps(x) }
    }
    #[inline(always)]
    fn add_by_zero(self, x: __m512, a: __m512, zero: &mut __m512, other: &mut __m512) {
        // SAFETY: the set is present.
        unsafe {
            let is_zero = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, _mm512_setzero_ps());
            *zero = _mm512_mask_add_ps(*zero, is_zero, *zero, x);
            *other = _mm512_mask_add_ps(*other, !is_zero, *other, x);
        }
    }
    #[inline(always)]
    fn horizontal_sum(self, x: __m512) -> f32 {
        // SAFETY: the set is present.
        unsafe { _mm512_reduce_add_ps(x) }
    }
    #[inline(always)]
    fn horizontal_max(self, x: __m512) -> f32 {
        // SAFETY: the set is present.
        unsafe { _mm512_reduce_max_ps(x) }
    }

    #[inline(always)]
    fn load_f32(self, x: &[f32]) -> __m512 {
        assert!(x.len() == LANES);
        // SAFETY: the set is present and the slice holds sixteen elements.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16]) -> __m512 {
        assert!(x.len() == LANES);
        // SAFETY: the set is present and the slice holds sixteen elements.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16]) -> __m512 {
        assert!(x.len() == LANES);
        // SAFETY: the set is present and the slice holds sixteen elements.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }
    #[inline(always)]
    fn store_f32(self, v: __m512, x: &mut [f32]) {
        assert!(x.len() == LANES);
        // SAFETY: the set is present and the slice holds sixteen elements.
        unsafe { _mm512_storeu_ps(x.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_f16(self, v: __m512, x: &mut [f16]) {
        assert!(x.len() == LANES);
        // SAFETY: the set is present and the slice holds sixteen elements.
        unsafe { _mm256_storeu_si256(x.as_mut_ptr().cast(), round_f16(v)) }
    }
    #[inline(always)]
    fn store_bf16(self, v: __m512, x: &mut [bf16]) {
        assert!(x.len() == LANES);
        // SAFETY: the set is present and the slice holds sixteen elements.
        unsafe { _mm256_storeu_si256(x.as_mut_ptr().cast(), round_bf16::<BF16>(v)) }
    }
    #[inline(always)]
    fn stream_f32(self, v: __m512, x: &mut [f32]) {
        assert!(x.len() == LANES && x.as_ptr().addr().is_multiple_of(64));
        // SAFETY: the set is present and the slice holds sixteen elements, aligned as asserted.
        unsafe { _mm512_stream_ps(x.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn stream_f16(self, v: __m512, x: &mut [f16]) {
        assert!(x.len() == LANES && x.as_ptr().addr().is_multiple_of(32));
        // SAFETY: the set is present and the slice holds sixteen elements, aligned as asserted.
        unsafe { _mm256_stream_si256(x.as_mut_ptr().cast(), round_f16(v)) }
    }
    #[inline(always)]
    fn stream_bf16(self, v: __m512, x: &mut [bf16]) {
        assert!(x.len() == LANES && x.as_ptr().addr().is_multiple_of(32));
        // SAFETY: the set is present and the slice holds sixteen elements, aligned as asserted.
        unsafe { _mm256_stream_si256(x.as_mut_ptr().cast(), round_bf16::<BF16>(v)) }
    }
    #[inline(always)]
    fn max_f16(self, x: &[f16]) -> f32 {
        f16::from_bits(max_bits(x.reinterpret_cast())).to_f32_const()
    }
    #[inline(always)]
    fn max_bf16(self, x: &[bf16]) -> f32 {
        bf16::from_bits(max_bits(x.reinterpret_cast())).to_f32_const()
    }
    #[inline(always)]
    fn fence(self) {
        // SAFETY: part of the x86-64 baseline.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    fn prefetch<T>(self, x: &T) {
        // SAFETY: part of the x86-64 baseline; a prefetch has no effect that a program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(x).cast()) }
    }
}

#[inline(always)]
fn round_f16(v: __m512) -> __m256i {
    // SAFETY: only called from methods of `Avx512`.
    unsafe { _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
}

/// To nearest, ties to even; NaN stays NaN. The instruction takes subnormals for 0, which the kernels make of them
/// anyway. Without it NaN is cut off and not rounded: what comes out of arithmetic is quiet.
#[inline(always)]
fn round_bf16<const BF16: bool>(v: __m512) -> __m256i {
    // SAFETY: only called from methods of `Avx512<BF16>`.
    unsafe {
        if BF16 {
            return core::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
        }
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(v, v);
        let rounded = _mm512_mask_add_epi32(bits, number, bits, up);
        _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded))
    }
}

/// The greatest of floats of 16 bits by their bits, thirty-two at a time: with the lower bits of negative numbers
/// turned over, floats are ordered as signed integers are.
#[inline(always)]
fn max_bits(x: &[u16]) -> u16 {
    fn ordered(bits: u16) -> i16 {
        let bits = bits as i16;
        bits ^ ((bits >> 15) & 0x7fff)
    }
    let (vectors, rest) = x.as_chunks::<32>();
    let mut best = rest.iter().map(|bits| ordered(*bits)).max().unwrap_or(i16::MIN);
    // SAFETY: only called from methods of `Avx512<BF16>`, and each chunk holds thirty-two elements.
    unsafe {
        let low = _mm512_set1_epi16(0x7fff);
        let mut greatest = [_mm512_set1_epi16(i16::MIN); 2];
        for (i, vector) in vectors.iter().enumerate() {
            let bits = _mm512_loadu_si512(vector.as_ptr().cast());
            // bits ^ (sign & low)
            let key = _mm512_ternarylogic_epi32::<0x78>(bits, _mm512_srai_epi16::<15>(bits), low);
            greatest[i % 2] = _mm512_max_epi16(greatest[i % 2], key);
        }
        let mut lanes = [0i16; 32];
        _mm512_storeu_si512(lanes.as_mut_ptr().cast(), _mm512_max_epi16(greatest[0], greatest[1]));
        best = lanes.into_iter().fold(best, i16::max);
    }
    ordered(best as u16) as u16
}
