//! Superblocks of the K formats on AVX-512, added to the lanes of a row.

use core::arch::x86_64::*;

use super::avx512_matvec::{
    Column, add_quarters, add_scaled, block_sums, column_scale, subtract_min,
};
use super::avx512_panel::load;
use super::panel::load as load_half;
use super::unpack::{
    even_then_odd, f16, load_half as load_quarter, part, scales_and_mins,
    scales_and_mins_of_four_bits, scales_of_six_bits,
};
use crate::activation::{SCALE, SUMS};

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,f16c")]
pub(super) fn q4_k(w: &[u8; 144], x: &Column, lanes: __m256) -> __m256 {
    nibbles_and_fifth_bits::<16>(w, x, lanes)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,f16c")]
pub(super) fn q5_k(w: &[u8; 176], x: &Column, lanes: __m256) -> __m256 {
    nibbles_and_fifth_bits::<48>(w, x, lanes)
}

/// Groups of 32: scales and minimums, 32 bytes of fifth bits where nibbles start at 48, nibbles.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,f16c")]
fn nibbles_and_fifth_bits<const NIBBLES: usize>(w: &[u8], x: &Column, lanes: __m256) -> __m256 {
    let mask = _mm512_set1_epi8(15);
    let mut products = [_mm512_setzero_si512(); 4];
    for pair in 0..2 {
        // 32 bytes hold one block in their low nibbles and the next in their high ones.
        let bytes = load_apart(w, NIBBLES + 32 * pair, 64);
        let low = _mm512_and_si512(bytes, mask);
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask);
        for (i, codes) in [low, high].into_iter().enumerate() {
            let (i, zero) = (2 * pair + i, _mm512_setzero_si512());
            let codes = match NIBBLES {
                48 => _mm512_or_si512(codes, bits_of_blocks::<4>(w, 16, [i, i + 4])),
                _ => codes,
            };
            products[i] = _mm512_dpbusd_epi32(zero, codes, load_apart(x, 32 * i, 128));
        }
    }
    let sums = add_small_halves(products);
    let [scales, mins] = scales_and_mins(w);
    let column_scale = column_scale(x);
    let lanes = add_scaled(lanes, sums, scales, column_scale);
    subtract_min(lanes, block_sums(x, 1), mins, column_scale)
}

/// One bit of each byte of two blocks, moved up by `UP`: 32 bytes from `at` on have one bit a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,f16c")]
fn bits_of_blocks<const UP: u32>(w: &[u8], at: usize, blocks: [usize; 2]) -> __m512i {
    let bits = _mm512_broadcast_i64x4(load_half(part(w, at)));
    let down = words(blocks.map(|block| block as i16));
    let lowest = _mm512_and_si512(_mm512_srlv_epi16(bits, down), _mm512_set1_epi8(1));
    _mm512_slli_epi16::<UP>(lowest)
}

/// One value in all words of the first half, another in those of the second.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,f16c")]
fn words([first, second]: [i16; 2]) -> __m512i {
    let half = _mm512_castsi256_si512(_mm256_set1_epi16(first));
    _mm512_inserti64x4::<1>(half, _mm256_set1_epi16(second))
}

/// Codes of 2 bits of the blocks `2 * pair` and `2 * pair + 1`; 64 bytes from `at` on have those of all.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,f16c")]
fn two_bits(w: &[u8], at: usize, pair: usize) -> __m512i {
    let bytes = _mm512_broadcast_i64x4(load_half(part(w, at + 32 * (pair / 2))));
    let down = if pair.is_multiple_of(2) { words([0, 2]) } else { words([4, 6]) };
    _mm512_and_si512(_mm512_srlv_epi16(bytes, down), _mm512_set1_epi8(3))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,f16c")]
pub(super) fn q2_k(w: &[u8; 84], x: &Column, lanes: __m256) -> __m256 {
    let mut products = [_mm512_setzero_si512(); 4];
    for (pair, product) in products.iter_mut().enumerate() {
        let codes = two_bits(w, 16, pair);
        *product = _mm512_dpbusd_epi32(*product, codes, load(part(x, 64 * pair)));
    }
    let [low, high] = scales_and_mins_of_four_bits(part(w, 0));
    let scales = _mm512_mul_ps(_mm512_set1_ps(f16(*part(w, 80))), halves_apart(low));
    let mins = _mm512_mul_ps(_mm512_set1_ps(f16(*part(w, 82))), halves_apart(high));
    // Each group's minimum follows its own term.
    let terms = half_block_terms(products, x, scales, 0);
    let sums = _mm512_cvtepi32_ps(half_block_sums(x));
    let minus = _mm512_mul_ps(mins, _mm512_mul_ps(all_column_scales(x), sums));
    let lanes = _mm256_add_ps(lanes, _mm512_castps512_ps256(terms));
    let lanes = _mm256_sub_ps(lanes, _mm512_castps512_ps256(minus));
    let lanes = _mm256_add_ps(lanes, _mm512_extractf32x8_ps::<1>(terms));
    _mm256_sub_ps(lanes, _mm512_extractf32x8_ps::<1>(minus))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,f16c")]
pub(super) fn q3_k(w: &[u8; 110], x: &Column, lanes: __m256) -> __m256 {
    let mut products = [_mm512_setzero_si512(); 4];
    for (pair, product) in products.iter_mut().enumerate() {
        let third = bits_of_blocks::<2>(w, 0, [2 * pair, 2 * pair + 1]);
        let codes = _mm512_or_si512(two_bits(w, 32, pair), third);
        *product = _mm512_dpbusd_epi32(*product, codes, load(part(x, 64 * pair)));
    }
    let scales = halves_apart(scales_of_six_bits(part(w, 96)));
    let scales = _mm512_sub_ps(scales, _mm512_set1_ps(32.0));
    let scales = _mm512_mul_ps(_mm512_set1_ps(f16(*part(w, 108))), scales);
    add_half_blocks(products, x, scales, lanes, 4)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,f16c")]
pub(super) fn q6_k(w: &[u8; 210], x: &Column, lanes: __m256) -> __m256 {
    let (low_bits, high_bits) = (_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0x30));
    let two = _mm256_set1_epi16(2);
    let left = _mm512_inserti64x4::<1>(_mm512_set1_epi16(4), two);
    let right = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), two);
    let mut products = [_mm512_setzero_si512(); 4];
    for half in 0..2 {
        let low = load(part(w, 64 * half));
        let high = _mm512_broadcast_i64x4(load_half(part(w, 128 + 32 * half)));
        let upper = _mm512_and_si512(_mm512_sllv_epi16(high, left), high_bits);
        let first = _mm512_or_si512(_mm512_and_si512(low, low_bits), upper);
        let upper = _mm512_and_si512(_mm512_srlv_epi16(high, right), high_bits);
        let low = _mm512_and_si512(_mm512_srli_epi16::<4>(low), low_bits);
        let second = _mm512_or_si512(low, upper);
        for (i, codes) in [first, second].into_iter().enumerate() {
            let product = &mut products[2 * half + i];
            *product = _mm512_dpbusd_epi32(*product, codes, load(part(x, 128 * half + 64 * i)));
        }
    }
    let scales = even_then_odd(load_quarter(part(w, 192)));
    let scales = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales));
    let scales = _mm512_mul_ps(_mm512_set1_ps(f16(*part(w, 208))), scales);
    add_half_blocks(products, x, scales, lanes, 32)
}

/// A number for each group of 16: of first halves of blocks, then of second.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves_apart(bytes: __m128i) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(even_then_odd(bytes)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn all_column_scales(x: &Column) -> __m512 {
    _mm512_set1_ps(f32::from_le_bytes(*part(x, SCALE)))
}

/// Groups of 16: `products` of blocks in pairs of neighbours; `scales` of first halves, then of second.
/// Terms in that order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn half_block_terms(products: [__m512i; 4], x: &Column, scales: __m512, offset: i32) -> __m512 {
    let order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    let mut sums = _mm512_permutexvar_epi32(order, add_quarters(products));
    if offset != 0 {
        let offset = _mm512_mullo_epi32(half_block_sums(x), _mm512_set1_epi32(offset));
        sums = _mm512_sub_epi32(sums, offset);
    }
    _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_mul_ps(scales, all_column_scales(x)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn add_half_blocks(
    products: [__m512i; 4],
    x: &Column,
    scales: __m512,
    lanes: __m256,
    offset: i32,
) -> __m256 {
    let terms = half_block_terms(products, x, scales, offset);
    let lanes = _mm256_add_ps(lanes, _mm512_castps512_ps256(terms));
    _mm256_add_ps(lanes, _mm512_extractf32x8_ps::<1>(terms))
}

/// Sums of 16 codes: of the first halves of the blocks, then of their second halves.
#[inline]
#[target_feature(enable = "avx512f")]
fn half_block_sums(x: &Column) -> __m512i {
    let sums = load_half(part(x, SUMS));
    let first = _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(sums));
    let second = _mm256_srai_epi32::<16>(sums);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
}

/// 32 bytes, and 32 more `distance` bytes on.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_apart(bytes: &[u8], at: usize, distance: usize) -> __m512i {
    let first = _mm512_castsi256_si512(load_half(part(bytes, at)));
    _mm512_inserti64x4::<1>(first, load_half(part(bytes, at + distance)))
}

/// Sums of the 8 blocks whose products lie in the halves of four registers, block `i` and block `i + 4`
/// in the `i`-th. Four products in a doubleword, and eight, must fit 16 bits: codes have 5 bits at most.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_small_halves(z: [__m512i; 4]) -> __m256i {
    let one = _mm512_set1_epi16(1);
    let a = _mm512_madd_epi16(_mm512_packs_epi32(z[0], z[1]), one);
    let b = _mm512_madd_epi16(_mm512_packs_epi32(z[2], z[3]), one);
    let quarters = _mm512_madd_epi16(_mm512_packs_epi32(a, b), one);
    let low = _mm512_castsi512_si256(quarters);
    let high = _mm512_extracti64x4_epi64::<1>(quarters);
    let first = _mm256_permute2x128_si256::<0x20>(low, high);
    _mm256_add_epi32(first, _mm256_permute2x128_si256::<0x31>(low, high))
}

const _: () = assert!(31 * 127 * 8 <= i16::MAX as i32);
