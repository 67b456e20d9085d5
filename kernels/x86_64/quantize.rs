//! Activations quantised with AVX2: [`crate::activation`] defines the result.
#![allow(unsafe_code, reason = "vector loads and stores take pointers")]

use core::arch::x86_64::*;

use super::panel::{load_floats, store};
use crate::SUPERBLOCK;
use crate::activation::{self, ACTIVATION_BYTES, SCALE, SCALED_SUMS, SUMS};

/// See [`crate::Isa::quantize`].
#[target_feature(enable = "avx2")]
pub(super) fn quantize(x: &[f32], out: &mut [u8]) {
    let (whole, rest) = x.as_chunks::<SUPERBLOCK>();
    let (blocks, last) = out.split_at_mut(whole.len() * ACTIVATION_BYTES);
    for (x, out) in whole.iter().zip(blocks.as_chunks_mut().0) {
        let max = greatest(x);
        match activation::scale_and_inverse(max) {
            Some((scale, inverse)) => codes(x, scale, inverse, out),
            None => activation::quantize(x, out),
        }
    }
    activation::quantize(rest, last);
}

/// The greatest magnitude; what is not finite is above all that is.
#[inline]
#[target_feature(enable = "avx2")]
fn greatest(x: &[f32; SUPERBLOCK]) -> f32 {
    let mut tops = [_mm256_setzero_si256(); 4];
    let magnitude = _mm256_set1_epi32(0x7fff_ffff);
    for x in x.as_chunks::<8>().0.as_chunks::<4>().0 {
        for (top, x) in tops.iter_mut().zip(x) {
            *top = _mm256_max_epu32(
                *top,
                _mm256_and_si256(_mm256_castps_si256(load_floats(x)), magnitude),
            );
        }
    }
    let [a, b, c, d] = tops;
    let top = _mm256_max_epu32(_mm256_max_epu32(a, b), _mm256_max_epu32(c, d));
    let top = _mm_max_epu32(_mm256_castsi256_si128(top), _mm256_extracti128_si256::<1>(top));
    let top = _mm_max_epu32(top, _mm_shuffle_epi32::<0b01_00_11_10>(top));
    let top = _mm_max_epu32(top, _mm_shuffle_epi32::<0b10_11_00_01>(top));
    f32::from_bits(_mm_cvtsi128_si32(top) as u32)
}

/// Codes, their sums and the scale of one superblock.
#[inline]
#[target_feature(enable = "avx2")]
fn codes(x: &[f32; SUPERBLOCK], scale: f32, inverse: f32, out: &mut [u8; ACTIVATION_BYTES]) {
    let factor = _mm256_set1_ps(inverse);
    let mut fours = [_mm256_setzero_si256(); 8];
    let blocks = x.as_chunks::<8>().0.as_chunks::<4>().0.iter();
    for ((x, out), fours) in blocks.zip(out.as_chunks_mut().0).zip(&mut fours) {
        // Conversion rounds ties to even.
        let [a, b, c, d] =
            x.each_ref().map(|x| _mm256_cvtps_epi32(_mm256_mul_ps(load_floats(x), factor)));
        let mixed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let codes = _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        store(out, codes);
        let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), codes);
        *fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    }
    let [a, b, c, d, e, f, g, h] = fours;
    let sixteens = |a, b, c, d| _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let scales = _mm_set1_ps(scale);
    out[SUPERBLOCK..].fill(0);
    for (i, sums) in [sixteens(a, b, c, d), sixteens(e, f, g, h)].into_iter().enumerate() {
        // Doubleword `i` of either half is the sum of one half of 32 codes.
        let (first, second) = (_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let all = _mm_mul_ps(scales, _mm_cvtepi32_ps(_mm_add_epi32(first, second)));
        let low = _mm_and_si128(first, _mm_set1_epi32(0xffff));
        put(out, SUMS + 16 * i, _mm_or_si128(low, _mm_slli_epi32::<16>(second)));
        put(out, SCALED_SUMS + 16 * i, _mm_castps_si128(all));
    }
    out[SCALE..][..4].copy_from_slice(&scale.to_le_bytes());
}

/// Writes 16 bytes at `at`.
#[inline]
#[target_feature(enable = "avx2")]
fn put(out: &mut [u8; ACTIVATION_BYTES], at: usize, value: __m128i) {
    let out = &mut out[at..][..16];
    // SAFETY: 16 writable bytes, any alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), value) };
}
