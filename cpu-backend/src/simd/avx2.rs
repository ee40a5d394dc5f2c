//! AVX2 with FMA and F16C: eight lanes.

use super::{Kernel, SQRT_HALF_BITS, Simd};
use core::arch::x86_64::*;
use half::{bf16, f16};

/// Exists only where detection found the set; see [`Avx2::new`].
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn new() -> Option<Self> {
        let present = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        present.then_some(Self(()))
    }
}

const LANES: usize = 8;

// SAFETY, for every block below: a value of `Avx2` is the proof that the set is present, and each load or
// store is of a slice whose length is asserted first.
impl Simd for Avx2 {
    const LANES: usize = LANES;
    const FUSED: bool = true;
    type V = __m256;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn enabled<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: the set is present, see above.
        unsafe { enabled(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: the set is present.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the set is present.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the set is present.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the set is present.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the set is present.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn split(self, x: __m256) -> (__m256, __m256) {
        // SAFETY: the set is present.
        unsafe {
            let bits = _mm256_castps_si256(x);
            let exponent = _mm256_srai_epi32::<23>(_mm256_sub_epi32(bits, _mm256_set1_epi32(SQRT_HALF_BITS)));
            let mantissa = _mm256_sub_epi32(bits, _mm256_slli_epi32::<23>(exponent));
            (_mm256_castsi256_ps(mantissa), _mm256_cvtepi32_ps(exponent))
        }
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the set is present.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the set is present.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn scale_unless_lt(self, x: __m256, n: __m256, a: __m256, b: __m256) -> __m256 {
        // A NaN converts to 1 << 31, whose low bits are 0, and so stays the NaN it was.
        // SAFETY: the set is present.
        unsafe {
            let exponent = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n));
            let scaled = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), exponent));
            _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(a, b), scaled)
        }
    }
    #[inline(always)]
    fn keep_unless_lt(self, x: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the set is present.
        unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(a, b), x) }
    }
    #[inline(always)]
    fn mul_unless_lt(self, x: __m256, y: __m256, b: __m256) -> __m256 {
        self.mul(self.keep_unless_lt(x, x, b), y)
    }
    #[inline(always)]
    fn pick(self, a: __m256, x: __m256, y: __m256) -> __m256 {
        // SAFETY: the set is present.
        unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, _mm256_setzero_ps())) }
    }
    #[inline(always)]
    fn pick_bits(self, bits: u32, x: __m256, y: __m256) -> __m256 {
        // SAFETY: the set is present.
        unsafe {
            let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let own = _mm256_and_si256(_mm256_set1_epi32(bits as i32), lanes);
            _mm256_blendv_ps(y, x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(own, lanes)))
        }
    }
    #[inline(always)]
    fn abs(self, x: __m256) -> __m256 {
        // SAFETY: the set is present.
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), x) }
    }
    #[inline(always)]
    fn add_by_zero(self, x: __m256, a: __m256, zero: &mut __m256, other: &mut __m256) {
        // SAFETY: the set is present.
        unsafe {
            let is_zero = _mm256_cmp_ps::<_CMP_EQ_OQ>(a, _mm256_setzero_ps());
            *zero = _mm256_add_ps(*zero, _mm256_and_ps(is_zero, x));
            *other = _mm256_add_ps(*other, _mm256_andnot_ps(is_zero, x));
        }
    }
    #[inline(always)]
    fn horizontal_sum(self, x: __m256) -> f32 {
        // SAFETY: the set is present.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn horizontal_max(self, x: __m256) -> f32 {
        // SAFETY: the set is present.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn load_f32(self, x: &[f32]) -> __m256 {
        assert!(x.len() == LANES);
        // SAFETY: the set is present and the slice holds eight elements.
        unsafe { _mm256_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16]) -> __m256 {
        assert!(x.len() == LANES);
        // SAFETY: the set is present and the slice holds eight elements.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16]) -> __m256 {
        assert!(x.len() == LANES);
        // SAFETY: the set is present and the slice holds eight elements.
        unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
    }
    #[inline(always)]
    fn store_f32(self, v: __m256, x: &mut [f32]) {
        assert!(x.len() == LANES);
        // SAFETY: the set is present and the slice holds eight elements.
        unsafe { _mm256_storeu_ps(x.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_f16(self, v: __m256, x: &mut [f16]) {
        assert!(x.len() == LANES);
        // SAFETY: the set is present and the slice holds eight elements.
        unsafe { _mm_storeu_si128(x.as_mut_ptr().cast(), round_f16(v)) }
    }
    #[inline(always)]
    fn store_bf16(self, v: __m256, x: &mut [bf16]) {
        assert!(x.len() == LANES);
        // SAFETY: the set is present and the slice holds eight elements.
        unsafe { _mm_storeu_si128(x.as_mut_ptr().cast(), round_bf16(v)) }
    }
    #[inline(always)]
    fn stream_f32(self, v: __m256, x: &mut [f32]) {
        assert!(x.len() == LANES && x.as_ptr().addr().is_multiple_of(32));
        // SAFETY: the set is present and the slice holds eight elements, aligned as asserted.
        unsafe { _mm256_stream_ps(x.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn stream_f16(self, v: __m256, x: &mut [f16]) {
        assert!(x.len() == LANES && x.as_ptr().addr().is_multiple_of(16));
        // SAFETY: the set is present and the slice holds eight elements, aligned as asserted.
        unsafe { _mm_stream_si128(x.as_mut_ptr().cast(), round_f16(v)) }
    }
    #[inline(always)]
    fn stream_bf16(self, v: __m256, x: &mut [bf16]) {
        assert!(x.len() == LANES && x.as_ptr().addr().is_multiple_of(16));
        // SAFETY: the set is present and the slice holds eight elements, aligned as asserted.
        unsafe { _mm_stream_si128(x.as_mut_ptr().cast(), round_bf16(v)) }
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
fn round_f16(v: __m256) -> __m128i {
    // SAFETY: only called from methods of `Avx2`.
    unsafe { _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v) }
}

/// To nearest, ties to even; NaN stays NaN.
#[inline(always)]
fn round_bf16(v: __m256) -> __m128i {
    // SAFETY: only called from methods of `Avx2`.
    unsafe {
        let bits = _mm256_castps_si256(v);
        let upper = _mm256_srli_epi32::<16>(bits);
        let odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
        let rounded =
            _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))));
        let quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        let words = _mm256_blendv_epi8(rounded, quiet, nan);
        _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words))
    }
}
