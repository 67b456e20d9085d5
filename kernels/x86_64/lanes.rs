//! The float loops of [`crate::lanes`] and the quantiser, compiled for each instruction set.
//!
//! The bodies are the scalar ones: the compiler turns their fixed lanes into vectors without changing
//! the order of a single sum.

use super::panel::load;
use super::unpack::{f16, load_half, part};
use crate::format::{FORMATS, Format};
use crate::{isa::WeightedSum, lanes};
use core::arch::x86_64::*;

/// One wrapper a body, under the features given.
macro_rules! compiled {
    ($module:ident, $features:literal) => {
        pub(super) mod $module {
            use super::*;

            #[target_feature(enable = $features)]
            pub(crate) fn rms_norm(x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
                lanes::rms_norm(x, weight, eps);
            }

            #[target_feature(enable = $features)]
            pub(crate) fn layer_norm(x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
                lanes::layer_norm(x, weight, eps);
            }

            #[target_feature(enable = $features)]
            pub(crate) fn softmax(x: &mut [f32]) {
                lanes::softmax(x);
            }

            #[target_feature(enable = $features)]
            pub(crate) fn gelu(x: &mut [f32]) {
                lanes::gelu(x);
            }

            #[target_feature(enable = $features)]
            pub(crate) fn swiglu(gate: &mut [f32], up: &[f32]) {
                lanes::swiglu(gate, up);
            }
        }
    };
}

compiled!(avx2, "avx2,f16c");
compiled!(avx512, "avx512f,avx512bw,avx512vl,avx512dq,avx2,f16c");

/// [`crate::Isa::weighted_sum`] for the formats of caches; the others are never asked for.
pub(super) const WEIGHTED_SUM: [WeightedSum; Format::COUNT] = {
    let mut table: [WeightedSum; Format::COUNT] = [weighted_sum_f32; Format::COUNT];
    table[Format::F16 as usize] = weighted_sum_f16;
    table[Format::Q8_0 as usize] = weighted_sum_q8_0;
    table
};

#[target_feature(enable = "avx2,f16c")]
fn weighted_sum_f32(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize) {
    weighted_sum::<{ Format::F32 as usize }>(out, rows, weights, cols);
}

#[target_feature(enable = "avx2,f16c")]
fn weighted_sum_f16(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize) {
    weighted_sum::<{ Format::F16 as usize }>(out, rows, weights, cols);
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn weighted_sum_q8_0(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize) {
    weighted_sum::<{ Format::Q8_0 as usize }>(out, rows, weights, cols);
}

/// Elements whose sums stay in registers while all rows go by.
const BLOCK: usize = 16;
/// Columns that share the loads and conversions of the rows.
const COLS: usize = 4;
/// Rows ahead of their use to fetch: a cache of keys and values lies in memory, not near.
const ROWS_AHEAD: usize = 16;

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn weighted_sum<const FORMAT: usize>(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize) {
    let (width, count) = (out.len() / cols, weights.len() / cols);
    for (c, out) in out.chunks_mut(COLS * width).enumerate() {
        let held = out.len() / width;
        let weights = &weights[COLS * c * count..][..held * count];
        match held {
            1 => columns::<FORMAT, 1>(out, rows, weights),
            2 => columns::<FORMAT, 2>(out, rows, weights),
            3 => columns::<FORMAT, 3>(out, rows, weights),
            _ => columns::<FORMAT, COLS>(out, rows, weights),
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn columns<const FORMAT: usize, const C: usize>(out: &mut [f32], rows: &[u8], weights: &[f32]) {
    let (width, count) = (out.len() / C, weights.len() / C);
    let weights: [&[f32]; C] = core::array::from_fn(|c| &weights[c * count..][..count]);
    let (whole, stride) = (width / BLOCK * BLOCK, FORMATS[FORMAT].row_bytes(width));
    for first in (0..whole).step_by(BLOCK) {
        let sums = block::<FORMAT, C>(rows, weights, first, stride);
        for (c, sums) in sums.into_iter().enumerate() {
            let out = &mut out[c * width + first..][..BLOCK];
            for (out, sum) in out.as_chunks_mut().0.iter_mut().zip(sums) {
                super::panel::store_floats(out, sum);
            }
        }
    }
    if whole < width {
        for (out, weights) in out.chunks_exact_mut(width).zip(weights) {
            let out = &mut out[whole..];
            match FORMATS[FORMAT].block_bytes {
                2 => part_block::<2>(out, rows, weights, whole * 2, stride),
                _ => part_block::<4>(out, rows, weights, whole * 4, stride),
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn block<const FORMAT: usize, const C: usize>(
    rows: &[u8],
    weights: [&[f32]; C],
    first: usize,
    stride: usize,
) -> [[__m256; BLOCK / 8]; C] {
    let mut sums = [[_mm256_setzero_ps(); BLOCK / 8]; C];
    for (t, row) in rows.chunks_exact(stride).enumerate() {
        let at = FORMATS[FORMAT].row_bytes(first);
        let ahead = row.as_ptr().wrapping_add(at + ROWS_AHEAD * stride);
        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        let values = sixteen::<FORMAT>(&row[at..], first);
        for (sums, weights) in sums.iter_mut().zip(weights) {
            let weight = _mm256_set1_ps(weights[t]);
            for (sum, values) in sums.iter_mut().zip(values) {
                *sum = _mm256_add_ps(*sum, _mm256_mul_ps(weight, values));
            }
        }
    }
    sums
}

/// Sixteen values of a row from `first` on; `bytes` begin with those of the block it lies in.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn sixteen<const FORMAT: usize>(bytes: &[u8], first: usize) -> [__m256; 2] {
    if FORMAT == Format::F32 as usize {
        return [0, 32].map(|at| _mm256_castsi256_ps(load(part(bytes, at))));
    }
    if FORMAT == Format::F16 as usize {
        return [0, 16].map(|at| _mm256_cvtph_ps(load_half(part(bytes, at))));
    }
    // Q8_0: a scale, then twice sixteen codes.
    let scale = _mm256_set1_ps(f16(*part(bytes, 0)));
    let codes = load_half(part(bytes, 2 + first % 32));
    [_mm256_cvtepi8_epi32(codes), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(codes))]
        .map(|codes| _mm256_mul_ps(scale, _mm256_cvtepi32_ps(codes)))
}

/// The elements after the last whole block.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn part_block<const BYTES: usize>(
    out: &mut [f32],
    rows: &[u8],
    weights: &[f32],
    first: usize,
    stride: usize,
) {
    out.fill(0.0);
    for (row, weight) in rows.chunks_exact(stride).zip(weights) {
        for (out, value) in out.iter_mut().zip(row[first..].chunks_exact(BYTES)) {
            let value = match value {
                [a, b] => crate::f16_to_f32([*a, *b]),
                [a, b, c, d] => f32::from_le_bytes([*a, *b, *c, *d]),
                _ => 0.0, // no such format
            };
            *out += weight * value;
        }
    }
}
