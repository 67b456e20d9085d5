//! From products in registers to sums of blocks on AVX2, and from sums to the terms of a row.

use core::arch::x86_64::*;

use super::panel::{load, load_floats};
use super::unpack::part;
use crate::activation::{ACTIVATION_BYTES, SCALE, SCALED_SUMS, SUMS};
use crate::format::{FormatInfo, Superblock};

pub(super) type Column = [u8; ACTIVATION_BYTES];

/// Products of 32 codes as they lie unpacked, two added in 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn products(block: &Superblock, x: &Column, i: usize) -> __m256i {
    _mm256_maddubs_epi16(load(part(&block.codes, 32 * i)), load(part(x, 32 * i)))
}

/// Sums of 16 codes: of the first halves of the blocks, and of their second halves.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn group_sums(x: &Column) -> [__m256i; 2] {
    let sums = load(part(x, SUMS));
    [_mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(sums)), _mm256_srai_epi32::<16>(sums)]
}

/// Sums of each 128 bits of four registers: of the lower halves, then of the upper ones.
#[inline]
#[target_feature(enable = "avx2")]
fn add_quarters([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}

/// From halves of four blocks and of four more, the first halves of all and the second ones.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn halves_of_blocks(a: __m256i, b: __m256i) -> [__m256i; 2] {
    [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)]
}

/// Sums of the first and of the second halves of all blocks, one a lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn half_sums(p: [__m256i; 8]) -> [__m256i; 2] {
    let one = _mm256_set1_epi16(1);
    let p = p.map(|pairs| _mm256_madd_epi16(pairs, one));
    halves_of_blocks(add_quarters([p[0], p[1], p[2], p[3]]), add_quarters([p[4], p[5], p[6], p[7]]))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn add_blocks(
    info: &FormatInfo,
    block: &Superblock,
    x: &Column,
    lanes: __m256,
) -> __m256 {
    let [first, second] = half_sums(core::array::from_fn(|i| products(block, x, i)));
    let all = _mm256_madd_epi16(load(part(x, SUMS)), _mm256_set1_epi16(1));
    let offset = _mm256_mullo_epi32(all, _mm256_set1_epi32(info.offset()));
    let sums = _mm256_sub_epi32(_mm256_add_epi32(first, second), offset);
    let lanes = add_group(lanes, sums, load_floats(&block.scale.as_chunks().0[0]), x);
    match info.has_min() {
        true => subtract_min(lanes, load_floats(&block.min.as_chunks().0[0]), scaled_sums(x)),
        false => lanes,
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn add_half_blocks(
    info: &FormatInfo,
    block: &Superblock,
    x: &Column,
    mut lanes: __m256,
) -> __m256 {
    let all = group_sums(x);
    let offset = _mm256_set1_epi32(info.offset());
    let (scale, min) = (halves_apart(&block.scale), halves_apart(&block.min));
    let sums = half_sums(core::array::from_fn(|i| products(block, x, i)));
    for (half, sums) in sums.into_iter().enumerate() {
        let sums = _mm256_sub_epi32(sums, _mm256_mullo_epi32(all[half], offset));
        lanes = add_group(lanes, sums, scale[half], x);
        if info.has_min() {
            let sums = _mm256_mul_ps(column_scale(x), _mm256_cvtepi32_ps(all[half]));
            lanes = subtract_min(lanes, min[half], sums);
        }
    }
    lanes
}

#[inline]
#[target_feature(enable = "avx2")]
fn column_scale(x: &Column) -> __m256 {
    _mm256_set1_ps(f32::from_le_bytes(*part(x, SCALE)))
}

/// The terms of one group a lane, as the arithmetic contract has them.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn add_group(lanes: __m256, sums: __m256i, scale: __m256, x: &Column) -> __m256 {
    let scale = _mm256_mul_ps(scale, column_scale(x));
    _mm256_add_ps(lanes, _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale))
}

/// The same for minimums, `sums` being those of the activations, scaled.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn subtract_min(lanes: __m256, min: __m256, sums: __m256) -> __m256 {
    _mm256_sub_ps(lanes, _mm256_mul_ps(min, sums))
}

/// Of the activations of each block, the sum.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn scaled_sums(x: &Column) -> __m256 {
    _mm256_castsi256_ps(load(part(x, SCALED_SUMS)))
}

/// Even places, and odd ones.
#[inline]
#[target_feature(enable = "avx2")]
fn halves_apart(values: &[f32; 16]) -> [__m256; 2] {
    let (a, b) = (load_floats(&values.as_chunks().0[0]), load_floats(&values.as_chunks().0[1]));
    [
        super::panel::every_other::<0b10_00_10_00>(a, b),
        super::panel::every_other::<0b11_01_11_01>(a, b),
    ]
}
