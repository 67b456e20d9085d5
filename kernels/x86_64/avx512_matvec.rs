//! Rows by one column on AVX-512 with VNNI and VBMI: what generating a token spends its time on.
//!
//! A row is read once, in order, so all that counts is to keep up with memory. Byte products of two
//! blocks of 32 fill a register; four registers are turned and added until lane `j` holds the exact
//! sum of block `j`, where the arithmetic contract wants it.
use core::arch::x86_64::*;

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

type Column = [u8; ACTIVATION_BYTES];

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
block_rows!(q2_k_rows, Q2_K, unpacked::<{ Format::Q2_K as usize }>);
block_rows!(q3_k_rows, Q3_K, unpacked::<{ Format::Q3_K as usize }>);
block_rows!(q5_k_rows, Q5_K, unpacked::<{ Format::Q5_K as usize }>);

#[inline]
#[target_feature(enable = "avx2")]
fn add_lanes(lanes: __m256) -> f32 {
    let mut values = [0.0; 8];
    super::panel::store_floats(&mut values, lanes);
    tree(values)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn column_scale(x: &Column) -> __m256 {
    _mm256_set1_ps(f32::from_le_bytes(*part(x, SCALE)))
}

/// Sums of 32 codes times `factor`, one a lane.
#[inline]
#[target_feature(enable = "avx2")]
fn block_sums(x: &Column, factor: i16) -> __m256i {
    _mm256_madd_epi16(load_half(part(x, SUMS)), _mm256_set1_epi16(factor))
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

/// Adds up what belongs together within each 128 bits of four registers: doubleword `i` of a quarter
/// of the result is the sum of that quarter of register `i`.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_quarters(z: [__m512i; 4]) -> __m512i {
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

/// 32 bytes, and 32 more `distance` bytes on.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_apart(bytes: &[u8], at: usize, distance: usize) -> __m512i {
    let first = _mm512_castsi256_si512(load_half(part(bytes, at)));
    _mm512_inserti64x4::<1>(first, load_half(part(bytes, at + distance)))
}

/// Sums of the 8 blocks whose products lie in the halves of four registers, block `i` and block `i + 4`
/// in the `i`-th. Four products in a doubleword, and eight, must fit 16 bits: codes have 4 bits.
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

const _: () = assert!(15 * 127 * 8 <= i16::MAX as i32);

/// `lanes + f32(sums) * (scale * column scale)`
#[inline]
#[target_feature(enable = "avx2")]
fn add_scaled(lanes: __m256, sums: __m256i, scale: __m256, column_scale: __m256) -> __m256 {
    let scale = _mm256_mul_ps(scale, column_scale);
    _mm256_add_ps(lanes, _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale))
}

/// `lanes - min * (column scale * f32(sums))`
#[inline]
#[target_feature(enable = "avx2")]
fn subtract_min(lanes: __m256, sums: __m256i, min: __m256, column_scale: __m256) -> __m256 {
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

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,f16c")]
fn q4_k(w: &[u8; 144], x: &Column, lanes: __m256) -> __m256 {
    let mask = _mm512_set1_epi8(15);
    let mut products = [_mm512_setzero_si512(); 4];
    for pair in 0..2 {
        // 32 bytes hold one block in their low nibbles and the next in their high ones.
        let bytes = load_apart(w, 16 + 32 * pair, 64);
        let low = _mm512_and_si512(bytes, mask);
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask);
        for (i, codes) in [low, high].into_iter().enumerate() {
            let (i, zero) = (2 * pair + i, _mm512_setzero_si512());
            products[i] = _mm512_dpbusd_epi32(zero, codes, load_apart(x, 32 * i, 128));
        }
    }
    let sums = add_small_halves(products);
    let [scales, mins] = super::unpack::scales_and_mins(w);
    let column_scale = column_scale(x);
    let lanes = add_scaled(lanes, sums, scales, column_scale);
    subtract_min(lanes, block_sums(x, 1), mins, column_scale)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,f16c")]
fn q6_k(w: &[u8; 210], x: &Column, lanes: __m256) -> __m256 {
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
    let d = half_float(*part(w, 208));
    let scales = _mm_shuffle_epi8(
        super::unpack::load_half(part(w, 192)),
        _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15),
    );
    let scales = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales));
    let scales = _mm512_mul_ps(_mm512_set1_ps(d), scales);
    add_half_blocks(products, x, scales, lanes, 32)
}

#[inline]
#[target_feature(enable = "f16c")]
fn half_float(bytes: [u8; 2]) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(u16::from_le_bytes(bytes).into())))
}

/// Groups of 16: `products` of blocks in pairs of neighbours; `scales` of first halves, then of second.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn add_half_blocks(
    products: [__m512i; 4],
    x: &Column,
    scales: __m512,
    lanes: __m256,
    offset: i32,
) -> __m256 {
    let order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    let sums = _mm512_permutexvar_epi32(order, add_quarters(products));
    let offset = _mm512_mullo_epi32(half_block_sums(x), _mm512_set1_epi32(offset));
    let sums = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, offset));
    let column_scale = _mm512_set1_ps(f32::from_le_bytes(*part(x, SCALE)));
    let terms = _mm512_mul_ps(sums, _mm512_mul_ps(scales, column_scale));
    let lanes = _mm256_add_ps(lanes, _mm512_castps512_ps256(terms));
    _mm256_add_ps(lanes, _mm512_extractf32x8_ps::<1>(terms))
}

/// Any block format, by way of its unpacked form.
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
    if info.group_len() == 32 {
        let offset = block_sums(x, -info.offset() as i16);
        let sums = _mm256_add_epi32(in_order(add_halves(products)), offset);
        lanes = add_scaled(lanes, sums, first_eight(&block.scale), column_scale);
        if info.has_min() {
            lanes = subtract_min(lanes, block_sums(x, 1), first_eight(&block.min), column_scale);
        }
        return lanes;
    }
    let (scales, mins) = (halves_apart(&block.scale), halves_apart(&block.min));
    if !info.has_min() {
        return add_half_blocks(products, x, scales, lanes, info.offset());
    }
    // Each group's minimum follows its own term.
    let order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    let sums = _mm512_permutexvar_epi32(order, add_quarters(products));
    let all = half_block_sums(x);
    let half = |v: __m512i, upper: bool| match upper {
        false => _mm512_castsi512_si256(v),
        true => _mm512_extracti64x4_epi64::<1>(v),
    };
    for upper in [false, true] {
        let pick = |v: __m512| _mm256_castsi256_ps(half(_mm512_castps_si512(v), upper));
        lanes = add_scaled(lanes, half(sums, upper), pick(scales), column_scale);
        lanes = subtract_min(lanes, half(all, upper), pick(mins), column_scale);
    }
    lanes
}

#[inline]
#[target_feature(enable = "avx2")]
fn first_eight(values: &[f32; 16]) -> __m256 {
    super::panel::load_floats(&values.as_chunks().0[0])
}

/// Even places, then odd ones.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves_apart(values: &[f32; 16]) -> __m512 {
    let order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    _mm512_permutexvar_ps(order, super::avx512_panel::load_floats(values))
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
