//! Rows by one column on AVX-512 with VNNI and VBMI: what generating a token spends its time on.
//!
//! A row is read once, in order, so all that counts is to keep up with memory. Byte products of two
//! blocks of 32 fill a register; four registers are turned and added until lane `j` holds the exact
//! sum of block `j`, where the arithmetic contract wants it.
use core::arch::x86_64::*;

use super::avx512_k_quants::{q2_k, q3_k, q4_k, q5_k, q6_k};
use super::avx512_panel::{load, widen};
use super::panel::load as load_half;
use super::unpack::{part, unpack_superblock};
use crate::activation::{ACTIVATION_BYTES, SCALE, SUMS};
use crate::format::{FORMATS, Format, Superblock};
use crate::isa::MatVec;
use crate::tree;

/// What [`super::avx512_vnni`] puts in its table.
pub(super) const MATVEC: [MatVec; Format::COUNT] = {
    let mut table: [MatVec; Format::COUNT] = [f32_rows; Format::COUNT];
    table[Format::F16 as usize] = f16_rows;
    table[Format::BF16 as usize] = bf16_rows;
    table[Format::Q8_0 as usize] = q8_0_rows;
    table[Format::Q4_0 as usize] = q4_0_rows;
    table[Format::Q4_1 as usize] = q4_1_rows;
    table[Format::Q5_0 as usize] = q5_0_rows;
    table[Format::Q5_1 as usize] = q5_1_rows;
    table[Format::Q2_K as usize] = q2_k_rows;
    table[Format::Q3_K as usize] = q3_k_rows;
    table[Format::Q4_K as usize] = q4_k_rows;
    table[Format::Q5_K as usize] = q5_k_rows;
    table[Format::Q6_K as usize] = q6_k_rows;
    table
};

/// How far ahead of its use a row is fetched: far enough for memory, near enough for the first cache.
const AHEAD: usize = 4096;

pub(super) type Column = [u8; ACTIVATION_BYTES];

/// Rows of a block format, superblock after superblock through `$add`.
macro_rules! block_rows {
    ($name:ident, $format:ident, $add:expr) => {
        #[target_feature(
            enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2,f16c"
        )]
        fn $name(w: &[u8], x: &[u8], out: &mut [f32]) {
            const BYTES: usize = FORMATS[Format::$format as usize].superblock_bytes();
            let row_bytes = w.len() / out.len();
            let columns = x.as_chunks::<ACTIVATION_BYTES>().0;
            for (w, y) in w.chunks_exact(row_bytes).zip(out) {
                let mut lanes = _mm256_setzero_ps();
                let (whole, rest) = w.as_chunks::<BYTES>();
                for (w, x) in whole.iter().zip(columns) {
                    for line in 0..BYTES.div_ceil(64) {
                        let ahead = w.as_ptr().wrapping_add(AHEAD + line * 64);
                        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    }
                    lanes = $add(w, x, lanes);
                }
                if !rest.is_empty()
                    && let Some(x) = columns.get(whole.len())
                {
                    // Blocks of zeros add zero, as beyond the end of any row.
                    let mut padded = [0; BYTES];
                    padded[..rest.len()].copy_from_slice(rest);
                    lanes = $add(&padded, x, lanes);
                }
                *y = add_lanes(lanes);
            }
        }
    };
}

block_rows!(q8_0_rows, Q8_0, q8_0);
block_rows!(q4_0_rows, Q4_0, q4_0);
block_rows!(q4_k_rows, Q4_K, q4_k);
block_rows!(q6_k_rows, Q6_K, q6_k);
block_rows!(q4_1_rows, Q4_1, unpacked::<{ Format::Q4_1 as usize }>);
block_rows!(q5_0_rows, Q5_0, unpacked::<{ Format::Q5_0 as usize }>);
block_rows!(q5_1_rows, Q5_1, unpacked::<{ Format::Q5_1 as usize }>);
block_rows!(q2_k_rows, Q2_K, q2_k);
block_rows!(q3_k_rows, Q3_K, q3_k);
block_rows!(q5_k_rows, Q5_K, q5_k);

#[inline]
#[target_feature(enable = "avx2")]
fn add_lanes(lanes: __m256) -> f32 {
    let mut values = [0.0; 8];
    super::panel::store_floats(&mut values, lanes);
    tree(values)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn column_scale(x: &Column) -> __m256 {
    _mm256_set1_ps(f32::from_le_bytes(*part(x, SCALE)))
}

/// Sums of 32 codes times `factor`, one a lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn block_sums(x: &Column, factor: i16) -> __m256i {
    _mm256_madd_epi16(load_half(part(x, SUMS)), _mm256_set1_epi16(factor))
}

/// Adds up what belongs together within each 128 bits of four registers: doubleword `i` of a quarter
/// of the result is the sum of that quarter of register `i`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn add_quarters(z: [__m512i; 4]) -> __m512i {
    let a = _mm512_add_epi32(_mm512_unpacklo_epi32(z[0], z[1]), _mm512_unpackhi_epi32(z[0], z[1]));
    let b = _mm512_add_epi32(_mm512_unpacklo_epi32(z[2], z[3]), _mm512_unpackhi_epi32(z[2], z[3]));
    _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
}

/// [`add_quarters`], then the quarters of each half.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_halves(z: [__m512i; 4]) -> __m512i {
    let quarters = add_quarters(z);
    _mm512_add_epi32(quarters, _mm512_shuffle_i32x4::<0b10_11_00_01>(quarters, quarters))
}

/// `lanes + f32(sums) * (scale * column scale)`
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn add_scaled(
    lanes: __m256,
    sums: __m256i,
    scale: __m256,
    column_scale: __m256,
) -> __m256 {
    let scale = _mm256_mul_ps(scale, column_scale);
    _mm256_add_ps(lanes, _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale))
}

/// `lanes - min * (column scale * f32(sums))`
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn subtract_min(
    lanes: __m256,
    sums: __m256i,
    min: __m256,
    column_scale: __m256,
) -> __m256 {
    let sums = _mm256_mul_ps(column_scale, _mm256_cvtepi32_ps(sums));
    _mm256_sub_ps(lanes, _mm256_mul_ps(min, sums))
}

/// Lanes of [`add_halves`] over blocks in pairs of neighbours, brought into order.
#[inline]
#[target_feature(enable = "avx512f")]
fn in_order(halves: __m512i) -> __m256i {
    let order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, halves))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,f16c")]
fn q8_0(w: &[u8; 272], x: &Column, lanes: __m256) -> __m256 {
    let flip = _mm512_set1_epi8(-128);
    let mut products = [_mm512_setzero_si512(); 4];
    for (i, product) in products.iter_mut().enumerate() {
        let (a, b) = (load_half(part(w, 68 * i + 2)), load_half(part(w, 68 * i + 36)));
        let codes = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b);
        *product =
            _mm512_dpbusd_epi32(*product, _mm512_xor_si512(codes, flip), load(part(x, 64 * i)));
    }
    let sums = _mm256_add_epi32(in_order(add_halves(products)), block_sums(x, -128));
    // The scales are words 0 and 17 of the first 64 bytes, and two further on in each that follow.
    let pick = |word: i64| word | (word + 17) << 16;
    let ends = |a: i64, b: i64| _mm512_set_epi64(0, 0, 0, 0, 0, 0, 0, pick(a) | pick(b + 32) << 32);
    let first = _mm512_permutex2var_epi16(load(part(w, 0)), ends(0, 2), load(part(w, 64)));
    let last = _mm512_permutex2var_epi16(load(part(w, 128)), ends(4, 6), load(part(w, 192)));
    let scales = _mm_unpacklo_epi64(_mm512_castsi512_si128(first), _mm512_castsi512_si128(last));
    add_scaled(lanes, sums, _mm256_cvtph_ps(scales), column_scale(x))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,f16c")]
fn q4_0(w: &[u8; 144], x: &Column, lanes: __m256) -> __m256 {
    let mask = _mm512_set1_epi8(15);
    // Sixteen bytes of each of four blocks, 18 apart, from loads at 0 and at 8.
    let gather = load(&NIBBLES_OF_FOUR_BLOCKS);
    let mut sums = [_mm512_setzero_si512(); 2];
    for (i, sum) in sums.iter_mut().enumerate() {
        let (a, b) = (load(part(w, 72 * i)), load(part(w, 72 * i + 8)));
        let bytes = _mm512_permutex2var_epi8(a, gather, b);
        let low = _mm512_and_si512(bytes, mask);
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask);
        let (c, d) = (load(part(x, 128 * i)), load(part(x, 128 * i + 64)));
        let first = _mm512_shuffle_i64x2::<0b10_00_10_00>(c, d);
        let second = _mm512_shuffle_i64x2::<0b11_01_11_01>(c, d);
        *sum = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(*sum, low, first), high, second);
    }
    let [a, b] = sums;
    let pairs = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let all = _mm512_add_epi32(pairs, _mm512_shuffle_epi32::<0b01_00_11_10>(pairs));
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
    let sums = _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, all));
    let sums = _mm256_add_epi32(sums, block_sums(x, -8));
    let heads = _mm512_set_epi64(0, 0, 0, 0, 0, 0, 0x003b_0032_0029_0020, 0x001b_0012_0009_0000);
    let scales = _mm512_permutex2var_epi16(load(part(w, 0)), heads, load(part(w, 72)));
    let scales = _mm256_cvtph_ps(_mm512_castsi512_si128(scales));
    add_scaled(lanes, sums, scales, column_scale(x))
}

static NIBBLES_OF_FOUR_BLOCKS: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut i = 0;
    while i < 64 {
        let at = i / 16 * 18 + 2 + i % 16;
        // From 64 on, the second load's index, which starts 8 bytes later.
        bytes[i] = if at < 64 { at } else { 64 + at - 8 } as u8;
        i += 1;
    }
    bytes
};

/// A format with one scale for 32 weights, by way of its unpacked form.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2,f16c")]
fn unpacked<const FORMAT: usize>(w: &[u8], x: &Column, mut lanes: __m256) -> __m256 {
    let info = &FORMATS[FORMAT];
    let mut block = Superblock::ZERO;
    unpack_superblock(info, w, &mut block);
    let mut products = [_mm512_setzero_si512(); 4];
    for (i, product) in products.iter_mut().enumerate() {
        *product =
            _mm512_dpbusd_epi32(*product, load(part(&block.codes, 64 * i)), load(part(x, 64 * i)));
    }
    let column_scale = column_scale(x);
    let offset = block_sums(x, -info.offset() as i16);
    let sums = _mm256_add_epi32(in_order(add_halves(products)), offset);
    lanes = add_scaled(lanes, sums, first_eight(&block.scale), column_scale);
    if info.has_min() {
        lanes = subtract_min(lanes, block_sums(x, 1), first_eight(&block.min), column_scale);
    }
    lanes
}

#[inline]
#[target_feature(enable = "avx2")]
fn first_eight(values: &[f32; 16]) -> __m256 {
    super::panel::load_floats(&values.as_chunks().0[0])
}

/// Rows of plain numbers, `$bytes` for each 16 of them.
macro_rules! float_rows {
    ($name:ident, $format:ident, $bytes:literal) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
        fn $name(w: &[u8], x: &[u8], out: &mut [f32]) {
            let row_bytes = w.len() / out.len();
            let (columns, last) = x.as_chunks::<64>();
            for (w, y) in w.chunks_exact(row_bytes).zip(out) {
                let mut lanes = _mm512_setzero_ps();
                let (whole, rest) = w.as_chunks::<$bytes>();
                for (w, x) in whole.iter().zip(columns) {
                    _mm_prefetch::<_MM_HINT_T0>(w.as_ptr().wrapping_add(AHEAD).cast());
                    let w = widen::<{ Format::$format as usize }, $bytes>(w);
                    let x = _mm512_castsi512_ps(load(x));
                    lanes = _mm512_add_ps(lanes, _mm512_mul_ps(w, x));
                }
                if !rest.is_empty() {
                    // Zeros change no sum that began with zero.
                    let (mut w, mut x) = ([0; $bytes], [0; 64]);
                    w[..rest.len()].copy_from_slice(rest);
                    x[..last.len()].copy_from_slice(last);
                    let w = widen::<{ Format::$format as usize }, $bytes>(&w);
                    lanes = _mm512_add_ps(lanes, _mm512_mul_ps(w, _mm512_castsi512_ps(load(&x))));
                }
                let low = _mm512_castps512_ps256(lanes);
                *y = add_lanes(_mm256_add_ps(low, _mm512_extractf32x8_ps::<1>(lanes)));
            }
        }
    };
}

float_rows!(f32_rows, F32, 64);
float_rows!(f16_rows, F16, 32);
float_rows!(bf16_rows, BF16, 32);
