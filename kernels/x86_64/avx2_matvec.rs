//! Rows by one column on AVX2: superblocks are unpacked to bytes, then multiplied exactly.
//!
//! `vpmaddubsw` adds two products in 16 bits. Codes of up to 6 bits cannot overflow it; Q8_0's bytes
//! go by magnitude, their sign moved to the activation: 128 * 127 * 2 still fits.

use core::arch::x86_64::*;

use super::panel::{load, load_floats, store_floats};
use super::unpack::{part, unpack_superblock};
use crate::activation::{ACTIVATION_BYTES, SCALE, SUMS};
use crate::format::{FORMATS, Format, Superblock};
use crate::isa::MatVec;
use crate::tree;

/// What [`super::avx2`] puts in its table.
pub(super) const MATVEC: [MatVec; Format::COUNT] = [
    float_rows::<{ Format::F32 as usize }, 4>,
    float_rows::<{ Format::F16 as usize }, 2>,
    float_rows::<{ Format::BF16 as usize }, 2>,
    block_rows::<{ Format::Q8_0 as usize }>,
    block_rows::<{ Format::Q4_0 as usize }>,
    block_rows::<{ Format::Q4_1 as usize }>,
    block_rows::<{ Format::Q5_0 as usize }>,
    block_rows::<{ Format::Q5_1 as usize }>,
    block_rows::<{ Format::Q2_K as usize }>,
    block_rows::<{ Format::Q3_K as usize }>,
    block_rows::<{ Format::Q4_K as usize }>,
    block_rows::<{ Format::Q5_K as usize }>,
    block_rows::<{ Format::Q6_K as usize }>,
];

/// How far ahead of its use a row is fetched.
const AHEAD: usize = 4096;

type Column = [u8; ACTIVATION_BYTES];

#[target_feature(enable = "avx2,f16c")]
fn block_rows<const FORMAT: usize>(w: &[u8], x: &[u8], out: &mut [f32]) {
    let row_bytes = w.len() / out.len();
    for (w, y) in w.chunks_exact(row_bytes).zip(out) {
        *y = block_row::<FORMAT>(w, x);
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn block_row<const FORMAT: usize>(w: &[u8], x: &[u8]) -> f32 {
    let info = &FORMATS[FORMAT];
    let mut block = Superblock::ZERO;
    let mut lanes = _mm256_setzero_ps();
    let columns = x.as_chunks::<ACTIVATION_BYTES>().0;
    for (w, x) in w.chunks(info.superblock_bytes()).zip(columns) {
        for line in 0..info.superblock_bytes().div_ceil(64) {
            _mm_prefetch::<_MM_HINT_T0>(w.as_ptr().wrapping_add(AHEAD + line * 64).cast());
        }
        unpack_superblock(info, w, &mut block);
        lanes = match info.group_len() {
            32 => add_blocks::<FORMAT>(&block, x, lanes),
            _ => add_half_blocks::<FORMAT>(&block, x, lanes),
        };
    }
    let mut values = [0.0; 8];
    store_floats(&mut values, lanes);
    tree(values)
}

/// Four partial sums in each 128 bits of the products of 32 codes.
#[inline]
#[target_feature(enable = "avx2")]
fn products<const FORMAT: usize>(block: &Superblock, x: &Column, i: usize) -> __m256i {
    let (codes, x) = (load(part(&block.codes, 32 * i)), load(part(x, 32 * i)));
    let pairs = if FORMAT == Format::Q8_0 as usize {
        let codes = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
        _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
    } else {
        _mm256_maddubs_epi16(codes, x)
    };
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// Sums of each 128 bits of four registers: of the lower halves, then of the upper ones.
#[inline]
#[target_feature(enable = "avx2")]
fn add_quarters(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d))
}

/// Sums of the first and of the second halves of all blocks, one a lane.
#[inline]
#[target_feature(enable = "avx2")]
fn half_sums<const FORMAT: usize>(block: &Superblock, x: &Column) -> [__m256i; 2] {
    let p = |i: usize| products::<FORMAT>(block, x, i);
    let (a, b) = (add_quarters(p(0), p(1), p(2), p(3)), add_quarters(p(4), p(5), p(6), p(7)));
    [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_blocks<const FORMAT: usize>(block: &Superblock, x: &Column, lanes: __m256) -> __m256 {
    let info = &FORMATS[FORMAT];
    let [first, second] = half_sums::<FORMAT>(block, x);
    let all = _mm256_madd_epi16(load(part(x, SUMS)), _mm256_set1_epi16(1));
    // Q8_0's products are those of signed bytes already.
    let offset = if FORMAT == Format::Q8_0 as usize { 0 } else { info.offset() };
    let offset = _mm256_mullo_epi32(all, _mm256_set1_epi32(offset));
    let sums = _mm256_sub_epi32(_mm256_add_epi32(first, second), offset);
    let scale = load_floats(&block.scale.as_chunks().0[0]);
    let min = info.has_min().then(|| load_floats(&block.min.as_chunks().0[0]));
    add_group(lanes, sums, all, scale, min, x)
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_half_blocks<const FORMAT: usize>(
    block: &Superblock,
    x: &Column,
    mut lanes: __m256,
) -> __m256 {
    let info = &FORMATS[FORMAT];
    let sums = load(part(x, SUMS));
    let all =
        [_mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(sums)), _mm256_srai_epi32::<16>(sums)];
    let offset = _mm256_set1_epi32(info.offset());
    let (scale, min) = (halves_apart(&block.scale), halves_apart(&block.min));
    for (half, sums) in half_sums::<FORMAT>(block, x).into_iter().enumerate() {
        let sums = _mm256_sub_epi32(sums, _mm256_mullo_epi32(all[half], offset));
        let min = info.has_min().then_some(min[half]);
        lanes = add_group(lanes, sums, all[half], scale[half], min, x);
    }
    lanes
}

/// The terms of one group a lane, as the arithmetic contract has them.
#[inline]
#[target_feature(enable = "avx2")]
fn add_group(
    lanes: __m256,
    sums: __m256i,
    all: __m256i,
    scale: __m256,
    min: Option<__m256>,
    x: &Column,
) -> __m256 {
    let column_scale = _mm256_set1_ps(f32::from_le_bytes(*part(x, SCALE)));
    let term = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(scale, column_scale));
    let lanes = _mm256_add_ps(lanes, term);
    let Some(min) = min else { return lanes };
    let all = _mm256_mul_ps(column_scale, _mm256_cvtepi32_ps(all));
    _mm256_sub_ps(lanes, _mm256_mul_ps(min, all))
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

#[target_feature(enable = "avx2,f16c")]
fn float_rows<const FORMAT: usize, const BYTES: usize>(w: &[u8], x: &[u8], out: &mut [f32]) {
    let row_bytes = w.len() / out.len();
    for (w, y) in w.chunks_exact(row_bytes).zip(out) {
        *y = float_row::<FORMAT, BYTES>(w, x);
    }
}

/// Plain numbers of `BYTES` each: two registers are the 16 lanes.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn float_row<const FORMAT: usize, const BYTES: usize>(w: &[u8], x: &[u8]) -> f32 {
    let mut lanes = [_mm256_setzero_ps(); 2];
    let (columns, last) = x.as_chunks::<64>();
    for (w, x) in w.chunks_exact(16 * BYTES).zip(columns) {
        _mm_prefetch::<_MM_HINT_T0>(w.as_ptr().wrapping_add(AHEAD).cast());
        add_sixteen::<FORMAT, BYTES>(&mut lanes, w, x);
    }
    if !last.is_empty() {
        // Zeros change no sum that began with zero.
        let (mut padded, mut column) = ([0; 64], [0; 64]);
        let rest = &w[columns.len() * 16 * BYTES..];
        padded[..rest.len()].copy_from_slice(rest);
        column[..last.len()].copy_from_slice(last);
        add_sixteen::<FORMAT, BYTES>(&mut lanes, &padded, &column);
    }
    let mut values = [0.0; 8];
    store_floats(&mut values, _mm256_add_ps(lanes[0], lanes[1]));
    tree(values)
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn add_sixteen<const FORMAT: usize, const BYTES: usize>(
    lanes: &mut [__m256; 2],
    w: &[u8],
    x: &[u8; 64],
) {
    for (i, lane) in lanes.iter_mut().enumerate() {
        let x = _mm256_castsi256_ps(load(part(x, 32 * i)));
        let halves = || super::unpack::load_half(part(w, 16 * i));
        let w = if FORMAT == Format::F32 as usize {
            _mm256_castsi256_ps(load(part(w, 32 * i)))
        } else if FORMAT == Format::F16 as usize {
            _mm256_cvtph_ps(halves())
        } else {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves())))
        };
        *lane = _mm256_add_ps(*lane, _mm256_mul_ps(w, x));
    }
}
