//! Whole superblocks unpacked with AVX2, for the formats models come in most.
#![allow(unsafe_code, reason = "vector loads and stores take pointers")]

use core::arch::x86_64::*;

use super::panel::{load, store, store_floats};
use crate::SUPERBLOCK;
use crate::format::{Format, FormatInfo, Superblock};

/// [`FormatInfo::unpack`], which does the formats and the lengths not handled here. The minimums of
/// a format that has none are left as they are.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn unpack_superblock(info: &FormatInfo, src: &[u8], dst: &mut Superblock) {
    if src.len() != info.superblock_bytes() {
        return info.unpack(src, dst);
    }
    match info.format {
        Format::Q8_0 => q8_0(src, dst),
        Format::Q4_0 => nibble_blocks::<18>(info, src, dst),
        Format::Q4_1 => nibble_blocks::<20>(info, src, dst),
        Format::Q5_0 => nibble_blocks::<22>(info, src, dst),
        Format::Q5_1 => nibble_blocks::<24>(info, src, dst),
        Format::Q2_K => q2_k(src, dst),
        Format::Q3_K => q3_k(src, dst),
        Format::Q4_K => q4_k_or_q5_k::<false>(src, dst),
        Format::Q5_K => q4_k_or_q5_k::<true>(src, dst),
        Format::Q6_K => q6_k(src, dst),
        _ => info.unpack(src, dst),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_half(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 readable bytes, any alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn f16(bytes: [u8; 2]) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(u16::from_le_bytes(bytes).into())))
}

/// The f16 `AT` bytes into each of 8 blocks.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn heads<const BYTES: usize, const AT: usize>(src: &[u8]) -> __m256 {
    let head = |i: usize| u64::from(u16::from_le_bytes(*part(src, BYTES * i + AT)));
    let four =
        |i: usize| (head(i) | head(i + 1) << 16 | head(i + 2) << 32 | head(i + 3) << 48) as i64;
    _mm256_cvtph_ps(_mm_set_epi64x(four(4), four(0)))
}

/// The low four bits of each byte, then the high four.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn nibbles(bytes: __m256i) -> [__m256i; 2] {
    let mask = _mm256_set1_epi8(15);
    [_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask)]
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q8_0(src: &[u8], dst: &mut Superblock) {
    store_floats(&mut dst.scale.as_chunks_mut().0[0], heads::<34, 0>(src));
    let offset = _mm256_set1_epi8(-128);
    for (block, codes) in src.as_chunks::<34>().0.iter().zip(dst.codes.as_chunks_mut().0) {
        if let Some(bytes) = block[2..].first_chunk() {
            store(codes, _mm256_xor_si256(load(bytes), offset));
        }
    }
}

/// Blocks of a scale, a minimum where there is one, the fifth bits where there are, and nibbles.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn nibble_blocks<const BYTES: usize>(info: &FormatInfo, src: &[u8], dst: &mut Superblock) {
    const { assert!(BYTES == 18 || BYTES == 20 || BYTES == 22 || BYTES == 24) };
    store_floats(&mut dst.scale.as_chunks_mut().0[0], heads::<BYTES, 0>(src));
    if info.has_min() {
        let mins = _mm256_xor_ps(heads::<BYTES, 2>(src), _mm256_set1_ps(-0.0));
        store_floats(&mut dst.min.as_chunks_mut().0[0], mins);
    }
    for (block, codes) in src.as_chunks::<BYTES>().0.iter().zip(dst.codes.as_chunks_mut().0) {
        let Some(bytes) = block.last_chunk() else { return };
        let [low, high] = nibbles(_mm256_broadcastsi128_si256(load_half(bytes)));
        let four = _mm256_blend_epi32::<0b1111_0000>(low, high);
        let bits = match block.last_chunk::<20>() {
            Some(&[a, b, c, d, ..]) if BYTES >= 22 => fifth_bits([a, b, c, d]),
            _ => _mm256_setzero_si256(),
        };
        store(codes, _mm256_or_si256(four, bits));
    }
}

/// 16 in each of 32 bytes whose bit is set.
#[inline]
#[target_feature(enable = "avx2")]
fn fifth_bits(bits: [u8; 4]) -> __m256i {
    // Byte `i` takes the byte its bit is in, then looks at that bit.
    let eight = |i: i64| i * 0x0101_0101_0101_0101;
    let spread = _mm256_shuffle_epi8(
        _mm256_set1_epi32(i32::from_le_bytes(bits)),
        _mm256_set_epi64x(eight(3), eight(2), eight(1), eight(0)),
    );
    let own = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, own), own);
    _mm256_and_si256(set, _mm256_set1_epi8(16))
}

/// The 8 scales and 8 minimums of Q4_K and Q5_K; their layout is described where the formats are
/// defined.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn scales_and_mins(src: &[u8]) -> [__m256; 2] {
    // Four scales and four minimums: the first eight, then the others, whose upper two bits are those
    // of the bytes of the first and whose lower four share a byte.
    let bytes = u64::from_le_bytes(*part(src, 4));
    let shared = u64::from(u32::from_le_bytes(*part(src, 12)));
    let low = (shared | shared << 28) & 0x0f0f_0f0f_0f0f_0f0f;
    let last = low | bytes >> 2 & 0x3030_3030_3030_3030;
    let first = bytes & 0x3f3f_3f3f_3f3f_3f3f;
    let (scales, mins) = (first & 0xffff_ffff | last << 32, first >> 32 | last & !0xffff_ffff);
    let float =
        |bytes: u64| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes as i64)));
    let both = _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from_le_bytes(*part(src, 0))));
    let (d, dmin) = (_mm256_broadcastss_ps(both), _mm256_broadcastss_ps(_mm_movehdup_ps(both)));
    [_mm256_mul_ps(d, float(scales)), _mm256_mul_ps(dmin, float(mins))]
}

/// `N` bytes from `at` on, of a slice that is known to have them.
#[inline(always)]
pub(super) fn part<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes[at..].first_chunk().unwrap_or(&[0; N])
}

/// Stores 16 numbers times `factor`.
#[inline]
#[target_feature(enable = "avx2")]
fn store_scaled(factor: f32, bytes: __m128i, dst: &mut [f32; 16]) {
    let halves = [bytes, _mm_srli_si128::<8>(bytes)];
    for (half, dst) in halves.into_iter().zip(dst.as_chunks_mut().0) {
        let values = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(half));
        store_floats(dst, _mm256_mul_ps(_mm256_set1_ps(factor), values));
    }
}

/// Stores codes of 2 bits, and a third bit of each from `third` up.
#[inline]
#[target_feature(enable = "avx2")]
fn store_two_bits(low: &[u8], mut third: __m256i, dst: &mut Superblock) {
    let (mask, one) = (_mm256_set1_epi8(3), _mm256_set1_epi8(1));
    let targets = dst.codes.as_chunks_mut::<32>().0.as_chunks_mut::<4>().0;
    for (bytes, targets) in low.as_chunks().0.iter().zip(targets) {
        let mut bytes = load(bytes);
        for target in targets {
            let bit = _mm256_slli_epi16::<2>(_mm256_and_si256(third, one));
            store(target, _mm256_or_si256(_mm256_and_si256(bytes, mask), bit));
            bytes = _mm256_srli_epi16::<2>(bytes);
            third = _mm256_srli_epi16::<1>(third);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q2_k(src: &[u8], dst: &mut Superblock) {
    let [scales, mins] = scales_and_mins_of_four_bits(part(src, 0));
    store_scaled(f16(*part(src, 80)), scales, &mut dst.scale);
    store_scaled(f16(*part(src, 82)), mins, &mut dst.min);
    store_two_bits(&src[16..80], _mm256_setzero_si256(), dst);
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q3_k(src: &[u8], dst: &mut Superblock) {
    let scales = _mm_sub_epi8(scales_of_six_bits(part(src, 96)), _mm_set1_epi8(32));
    store_scaled(f16(*part(src, 108)), scales, &mut dst.scale);
    store_two_bits(&src[32..96], load(part(src, 0)), dst);
}

/// The 16 scales and 16 minimums of Q2_K: low and high halves of as many bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn scales_and_mins_of_four_bits(packed: &[u8; 16]) -> [__m128i; 2] {
    let (packed, mask) = (load_half(packed), _mm_set1_epi8(15));
    [_mm_and_si128(packed, mask), _mm_and_si128(_mm_srli_epi16::<4>(packed), mask)]
}

/// Bytes in even places, then those in odd ones.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn even_then_odd(bytes: __m128i) -> __m128i {
    _mm_shuffle_epi8(bytes, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15))
}

/// The 16 scales of Q3_K, 32 too large; their layout is described where the formats are defined.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn scales_of_six_bits(packed: &[u8; 12]) -> __m128i {
    let nibbles = u64::from_le_bytes(*part(packed, 0));
    let pairs = u64::from(u32::from_le_bytes(*part(packed, 8)));
    let upper = |down: u32| (pairs >> down & 0x0303_0303) << 4;
    let low = nibbles & 0x0f0f_0f0f_0f0f_0f0f | upper(0) | upper(2) << 32;
    let high = nibbles >> 4 & 0x0f0f_0f0f_0f0f_0f0f | upper(4) | upper(6) << 32;
    _mm_set_epi64x(high as i64, low as i64)
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q4_k_or_q5_k<const FIFTH_BIT: bool>(src: &[u8], dst: &mut Superblock) {
    let [scales, mins] = scales_and_mins(src);
    store_floats(&mut dst.scale.as_chunks_mut().0[0], scales);
    store_floats(&mut dst.min.as_chunks_mut().0[0], mins);
    let (fifth, low) = src[16..].split_at(if FIFTH_BIT { 32 } else { 0 });
    let mut fifth = fifth.first_chunk().map_or(_mm256_setzero_si256(), |bytes| load(bytes));
    let one = _mm256_set1_epi8(1);
    let targets = dst.codes.as_chunks_mut::<32>().0.as_chunks_mut::<2>().0;
    for (bytes, targets) in low.as_chunks().0.iter().zip(targets) {
        for (mut codes, target) in nibbles(load(bytes)).into_iter().zip(targets) {
            if FIFTH_BIT {
                let bit = _mm256_slli_epi16::<4>(_mm256_and_si256(fifth, one));
                codes = _mm256_or_si256(codes, bit);
                fifth = _mm256_srli_epi16::<1>(fifth);
            }
            store(target, codes);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q6_k(src: &[u8], dst: &mut Superblock) {
    let (low, rest) = src.split_at(SUPERBLOCK / 2);
    let (high, rest) = rest.split_at(SUPERBLOCK / 4);
    let (scales, d) = rest.split_at(16);
    let d = _mm256_set1_ps(f16([d[0], d[1]]));
    for (scales, target) in scales.as_chunks().0.iter().zip(dst.scale.as_chunks_mut().0) {
        let wide = _mm256_cvtepi8_epi32(_mm_set_epi64x(0, i64::from_le_bytes(*scales)));
        store_floats(target, _mm256_mul_ps(d, _mm256_cvtepi32_ps(wide)));
    }
    let mask = _mm256_set1_epi8(0x30);
    let halves = low.as_chunks::<32>().0.as_chunks::<2>().0.iter().zip(high.as_chunks().0);
    let targets = dst.codes.as_chunks_mut::<32>().0.as_chunks_mut::<4>().0;
    for (([a, b], high), targets) in halves.zip(targets) {
        let ([a_low, a_high], [b_low, b_high]) = (nibbles(load(a)), nibbles(load(b)));
        let high = load(high);
        let upper = [
            _mm256_slli_epi16::<4>(high),
            _mm256_slli_epi16::<2>(high),
            high,
            _mm256_srli_epi16::<2>(high),
        ];
        let lower = [a_low, b_low, a_high, b_high];
        for ((target, lower), upper) in targets.iter_mut().zip(lower).zip(upper) {
            store(target, _mm256_or_si256(lower, _mm256_and_si256(upper, mask)));
        }
    }
}
