//! Rows by one column on AVX2: what generating a token spends its time on.
//!
//! The commonest formats go from their bytes to products in registers; the others are unpacked to memory
//! first. `vpmaddubsw` adds two products in 16 bits. Codes of up to 6 bits cannot overflow it; Q8_0's bytes
//! go by magnitude, their sign moved to the activation: 128 * 127 * 2 still fits.

use core::arch::x86_64::*;
use core::array::from_ref;

use super::avx2_blocks::{
    Column, add_blocks, add_group, add_half_blocks, group_sums, half_sums, halves_of_blocks,
    scaled_sums, subtract_min,
};
use super::panel::{load, store_floats};
use super::unpack::{even_then_odd, f16, heads, load_half, nibbles, part, unpack_superblock};
use crate::activation::{ACTIVATION_BYTES, SUMS};
use crate::format::{FORMATS, Format, Superblock};
use crate::isa::MatVec;
use crate::tree;

/// What [`super::avx2`] puts in its table.
pub(super) const MATVEC: [MatVec; Format::COUNT] = [
    float_rows::<{ Format::F32 as usize }, 4>,
    float_rows::<{ Format::F16 as usize }, 2>,
    float_rows::<{ Format::BF16 as usize }, 2>,
    q8_0_rows_of_any_length,
    q4_0_rows,
    q4_1_rows,
    q5_0_rows,
    q5_1_rows,
    q2_k_rows,
    q3_k_rows,
    q4_k_rows,
    q5_k_rows,
    q6_k_rows,
];

/// How far ahead of its use a row is fetched.
const AHEAD: usize = 4096;

/// Rows of a block format, superblock after superblock through `$add`, two at a time where there are two: that
/// many chains of instructions keep the core busy while it waits for results.
macro_rules! block_rows {
    ($name:ident, $format:ident, $add:expr) => {
        #[target_feature(enable = "avx2,f16c")]
        fn $name(w: &[u8], x: &[u8], out: &mut [f32]) {
            const BYTES: usize = FORMATS[Format::$format as usize].superblock_bytes();
            let row_bytes = w.len() / out.len();
            let columns = x.as_chunks::<ACTIVATION_BYTES>().0;
            for (w, y) in w.chunks_exact(row_bytes).zip(out) {
                let mut lanes = _mm256_setzero_ps();
                let (whole, rest) = w.as_chunks::<BYTES>();
                let (pairs, last) = whole.as_chunks::<2>();
                for (w, x) in pairs.iter().zip(columns.as_chunks::<2>().0) {
                    for line in 0..(2 * BYTES).div_ceil(64) {
                        let ahead = w.as_ptr().cast::<u8>().wrapping_add(AHEAD + line * 64);
                        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    }
                    lanes = $add(w, x, lanes);
                }
                if let [w] = last
                    && let Some(x) = columns.get(2 * pairs.len())
                {
                    lanes = $add(from_ref(w), from_ref(x), lanes);
                }
                if !rest.is_empty()
                    && let Some(x) = columns.get(whole.len())
                {
                    // Blocks of zeros add zero, as beyond the end of any row.
                    let mut padded = [0; BYTES];
                    padded[..rest.len()].copy_from_slice(rest);
                    lanes = $add(from_ref(&padded), from_ref(x), lanes);
                }
                let mut values = [0.0; 8];
                store_floats(&mut values, lanes);
                *y = tree(values);
            }
        }
    };
}

block_rows!(q8_0_rows, Q8_0, q8_0);
block_rows!(q4_0_rows, Q4_0, q4_0);
block_rows!(q4_k_rows, Q4_K, q4_k);
block_rows!(q6_k_rows, Q6_K, q6_k);
block_rows!(q4_1_rows, Q4_1, unpacked::<{ Format::Q4_1 as usize }, _, _>);
block_rows!(q5_0_rows, Q5_0, unpacked::<{ Format::Q5_0 as usize }, _, _>);
block_rows!(q5_1_rows, Q5_1, unpacked::<{ Format::Q5_1 as usize }, _, _>);
block_rows!(q2_k_rows, Q2_K, unpacked::<{ Format::Q2_K as usize }, _, _>);
block_rows!(q3_k_rows, Q3_K, unpacked::<{ Format::Q3_K as usize }, _, _>);
block_rows!(q5_k_rows, Q5_K, unpacked::<{ Format::Q5_K as usize }, _, _>);

/// Rows of one, two or four blocks, as the keys of a cache are, are too short to fill a superblock each.
#[target_feature(enable = "avx2,f16c")]
fn q8_0_rows_of_any_length(w: &[u8], x: &[u8], out: &mut [f32]) {
    match (w.len() / out.len() / 34, x.first_chunk()) {
        (1, Some(x)) => q8_0_short_rows::<1>(w, x, out),
        (2, Some(x)) => q8_0_short_rows::<2>(w, x, out),
        (4, Some(x)) => q8_0_short_rows::<4>(w, x, out),
        _ => q8_0_rows(w, x, out),
    }
}

/// Rows of `N` blocks: as many together as have eight blocks, one a lane.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q8_0_short_rows<const N: usize>(w: &[u8], x: &Column, out: &mut [f32]) {
    let (whole, rest) = w.as_chunks::<272>();
    let (outs, last) = out.split_at_mut(whole.len() * 8 / N);
    for (w, out) in whole.iter().zip(outs.chunks_exact_mut(8 / N)) {
        let p = |i: usize| signed_products(load(part(w, 34 * i + 2)), load(part(x, 32 * (i % N))));
        let [first, second] = half_sums([p(0), p(1), p(2), p(3), p(4), p(5), p(6), p(7)]);
        let sums = _mm256_add_epi32(first, second);
        let mut values = [0.0; 8];
        store_floats(&mut values, add_group(_mm256_setzero_ps(), sums, heads::<34, 0>(w), x));
        for (y, own) in out.iter_mut().zip(values.as_chunks::<N>().0) {
            let mut lanes = [0.0; 8];
            lanes[..N].copy_from_slice(own);
            *y = tree(lanes);
        }
    }
    if !last.is_empty() {
        q8_0_rows(rest, x, last);
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q8_0<const N: usize>(w: &[[u8; 272]; N], x: &[Column; N], mut lanes: __m256) -> __m256 {
    for (w, x) in w.iter().zip(x) {
        let p = |i: usize| signed_products(load(part(w, 34 * i + 2)), load(part(x, 32 * i)));
        let [first, second] = half_sums([p(0), p(1), p(2), p(3), p(4), p(5), p(6), p(7)]);
        lanes = add_group(lanes, _mm256_add_epi32(first, second), heads::<34, 0>(w), x);
    }
    lanes
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q4_0<const N: usize>(w: &[[u8; 144]; N], x: &[Column; N], mut lanes: __m256) -> __m256 {
    let sums = nibble_sums::<{ Format::Q4_0 as usize }, N>(w, x);
    for ((w, x), sums) in w.iter().zip(x).zip(sums) {
        let offset = _mm256_madd_epi16(load(part(x, SUMS)), _mm256_set1_epi16(-8));
        lanes = add_group(lanes, _mm256_add_epi32(sums, offset), heads::<18, 0>(w), x);
    }
    lanes
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q4_k<const N: usize>(w: &[[u8; 144]; N], x: &[Column; N], mut lanes: __m256) -> __m256 {
    let sums = nibble_sums::<{ Format::Q4_K as usize }, N>(w, x);
    let factors = scales_and_mins_of_two(&w[0], &w[N - 1]);
    for ((x, sums), [scales, mins]) in x.iter().zip(sums).zip(factors) {
        lanes = add_group(lanes, sums, scales, x);
        lanes = subtract_min(lanes, mins, scaled_sums(x));
    }
    lanes
}

/// Scales and minimums of the blocks of two superblocks, times their factors: a superblock begins with two
/// factors, four scales, four minimums, and the others, whose upper two bits are those of the first.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales_and_mins_of_two(a: &[u8; 144], b: &[u8; 144]) -> [[__m256; 2]; 2] {
    let (a, b) = (load_half(part(a, 0)), load_half(part(b, 0)));
    let heads = _mm256_set_m128i(b, a);
    let spread = _mm256_srlv_epi32(
        _mm256_shuffle_epi32::<0b11_10_11_01>(heads),
        _mm256_setr_epi32(0, 0, 0, 4, 0, 0, 0, 4),
    );
    let upper = _mm256_srli_epi32::<2>(_mm256_shuffle_epi32::<0b10_10_01_01>(heads));
    let upper = _mm256_and_si256(upper, _mm256_set1_epi64x(0x3030_3030_0000_0000));
    let lower = _mm256_and_si256(spread, _mm256_set1_epi64x(0x0f0f_0f0f_3f3f_3f3f));
    let bytes = _mm256_or_si256(lower, upper);
    let factors = _mm_cvtph_ps(_mm_unpacklo_epi32(a, b));
    let factors = _mm256_set_m128(factors, factors);
    let [a, b] = halves_of_blocks(bytes, bytes);
    [
        [
            _mm256_mul_ps(_mm256_permute_ps::<0b00_00_00_00>(factors), widened::<0>(a)),
            _mm256_mul_ps(_mm256_permute_ps::<0b01_01_01_01>(factors), widened::<8>(a)),
        ],
        [
            _mm256_mul_ps(_mm256_permute_ps::<0b10_10_10_10>(factors), widened::<0>(b)),
            _mm256_mul_ps(_mm256_permute_ps::<0b11_11_11_11>(factors), widened::<8>(b)),
        ],
    ]
}

/// Eight bytes from `AT` on, of sixteen that are there twice.
#[inline]
#[target_feature(enable = "avx2")]
fn widened<const AT: i32>(bytes: __m256i) -> __m256 {
    // Byte `i` becomes doubleword `i`: an index with its uppermost bit set gives zero.
    let at = _mm256_setr_epi32(AT, AT + 1, AT + 2, AT + 3, AT + 4, AT + 5, AT + 6, AT + 7);
    let spread = _mm256_or_si256(at, _mm256_set1_epi32(0x8080_8000_u32 as i32));
    _mm256_cvtepi32_ps(_mm256_shuffle_epi8(bytes, spread))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q6_k<const N: usize>(w: &[[u8; 210]; N], x: &[Column; N], mut lanes: __m256) -> __m256 {
    for (w, x) in w.iter().zip(x) {
        lanes = q6_k_superblock(w, x, lanes);
    }
    lanes
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn q6_k_superblock(w: &[u8; 210], x: &Column, mut lanes: __m256) -> __m256 {
    let high_bits = _mm256_set1_epi8(0x30);
    let p = |half: usize| {
        // 64 bytes of low bits and 32 of high ones hold four blocks.
        let ([a, c], [b, d]) =
            (nibbles(load(part(w, 64 * half))), nibbles(load(part(w, 64 * half + 32))));
        let high = load(part(w, 128 + 32 * half));
        let up = |code, bits| _mm256_or_si256(code, _mm256_and_si256(bits, high_bits));
        let at = |i: usize| load(part(x, 128 * half + 32 * i));
        let [a, b] = [up(a, _mm256_slli_epi16::<4>(high)), up(b, _mm256_slli_epi16::<2>(high))];
        let [c, d] = [up(c, high), up(d, _mm256_srli_epi16::<2>(high))];
        let low = [_mm256_maddubs_epi16(a, at(0)), _mm256_maddubs_epi16(b, at(1))];
        let high = [_mm256_maddubs_epi16(c, at(2)), _mm256_maddubs_epi16(d, at(3))];
        // Four products fit in 16 bits.
        let four = [_mm256_hadd_epi16(low[0], low[1]), _mm256_hadd_epi16(high[0], high[1])];
        let one = _mm256_set1_epi16(1);
        _mm256_hadd_epi32(_mm256_madd_epi16(four[0], one), _mm256_madd_epi16(four[1], one))
    };
    let (a, b) = (p(0), p(1));
    let scales = even_then_odd(load_half(part(w, 192)));
    let d = _mm256_set1_ps(f16(*part(w, 208)));
    for (half, sums) in halves_of_blocks(a, b).into_iter().enumerate() {
        let scale = match half {
            0 => _mm256_cvtepi8_epi32(scales),
            _ => _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(scales)),
        };
        let all = group_sums(x)[half];
        let sums = _mm256_sub_epi32(sums, _mm256_slli_epi32::<5>(all));
        lanes = add_group(lanes, sums, _mm256_mul_ps(d, _mm256_cvtepi32_ps(scale)), x);
    }
    lanes
}

/// Any block format, by way of its unpacked form.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn unpacked<const FORMAT: usize, const BYTES: usize, const N: usize>(
    w: &[[u8; BYTES]; N],
    x: &[Column; N],
    mut lanes: __m256,
) -> __m256 {
    let info = &FORMATS[FORMAT];
    let mut block = Superblock::ZERO;
    for (w, x) in w.iter().zip(x) {
        unpack_superblock(info, w, &mut block);
        lanes = match info.group_len() {
            32 => add_blocks(info, &block, x, lanes),
            _ => add_half_blocks(info, &block, x, lanes),
        };
    }
    lanes
}

/// Products of 32 signed codes, two added in 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn signed_products(codes: __m256i, x: __m256i) -> __m256i {
    _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
}

/// The sums of each of the 8 blocks of `N` superblocks of nibbles. Eight products must fit in 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn nibble_sums<const FORMAT: usize, const N: usize>(
    w: &[[u8; 144]; N],
    x: &[Column; N],
) -> [__m256i; N] {
    let one = _mm256_set1_epi16(1);
    let mut pairs = [[_mm256_setzero_si256(); 4]; N];
    for ((pairs, w), x) in pairs.iter_mut().zip(w).zip(x) {
        for (pair, sums) in pairs.iter_mut().enumerate() {
            let [a, b] = nibble_products::<FORMAT>(w, x, pair);
            let packed = _mm256_packs_epi32(_mm256_madd_epi16(a, one), _mm256_madd_epi16(b, one));
            *sums = _mm256_madd_epi16(packed, one);
        }
    }
    let mut sums = [_mm256_setzero_si256(); N];
    for (sum, [a, b, c, d]) in sums.iter_mut().zip(pairs) {
        let first = _mm256_madd_epi16(_mm256_packs_epi32(a, b), one);
        let last = _mm256_madd_epi16(_mm256_packs_epi32(c, d), one);
        let [first, last] = halves_of_blocks(first, last);
        *sum = _mm256_add_epi32(first, last);
    }
    sums
}

/// Products of blocks `2 * pair` and `2 * pair + 1`, two added in 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn nibble_products<const FORMAT: usize>(w: &[u8; 144], x: &Column, pair: usize) -> [__m256i; 2] {
    let [a, b] = if FORMAT == Format::Q4_0 as usize {
        // The first sixteen codes of a block are the low nibbles of sixteen bytes, the others the high ones.
        let down = _mm256_setr_epi64x(0, 0, 4, 4);
        let a = _mm256_broadcastsi128_si256(load_half(part(w, 36 * pair + 2)));
        let b = _mm256_broadcastsi128_si256(load_half(part(w, 36 * pair + 20)));
        [_mm256_srlv_epi64(a, down), _mm256_srlv_epi64(b, down)]
    } else {
        let bytes = load(part(w, 16 + 32 * pair));
        [bytes, _mm256_srli_epi16::<4>(bytes)]
    };
    let mask = _mm256_set1_epi8(15);
    [
        _mm256_maddubs_epi16(_mm256_and_si256(a, mask), load(part(x, 64 * pair))),
        _mm256_maddubs_epi16(_mm256_and_si256(b, mask), load(part(x, 64 * pair + 32))),
    ]
}

const _: () = assert!(8 * 15 * 127 <= i16::MAX as i32);

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
        let halves = || load_half(part(w, 16 * i));
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
