//! The float loops of [`crate::lanes`] and the quantiser, compiled for each instruction set.
//!
//! The bodies are the scalar ones: the compiler turns their fixed lanes into vectors without changing
//! the order of a single sum.

use crate::{Format, isa::WeightedSum, lanes};
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
    table
};

#[target_feature(enable = "avx2,f16c")]
fn weighted_sum_f32(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize) {
    weighted_sum::<4>(out, rows, weights, cols);
}

#[target_feature(enable = "avx2,f16c")]
fn weighted_sum_f16(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize) {
    weighted_sum::<2>(out, rows, weights, cols);
}

/// Elements whose sums stay in registers while all rows go by.
const BLOCK: usize = 16;
/// Columns that share the loads and conversions of the rows.
const COLS: usize = 4;
/// Rows ahead of their use to fetch: a cache of keys and values lies in memory, not near.
const ROWS_AHEAD: usize = 16;

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn weighted_sum<const BYTES: usize>(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize) {
    let (width, count) = (out.len() / cols, weights.len() / cols);
    for (c, out) in out.chunks_mut(COLS * width).enumerate() {
        let held = out.len() / width;
        let weights = &weights[COLS * c * count..][..held * count];
        match held {
            1 => columns::<BYTES, 1>(out, rows, weights),
            2 => columns::<BYTES, 2>(out, rows, weights),
            3 => columns::<BYTES, 3>(out, rows, weights),
            _ => columns::<BYTES, COLS>(out, rows, weights),
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn columns<const BYTES: usize, const C: usize>(out: &mut [f32], rows: &[u8], weights: &[f32]) {
    let (width, count) = (out.len() / C, weights.len() / C);
    let weights: [&[f32]; C] = core::array::from_fn(|c| &weights[c * count..][..count]);
    let (whole, stride) = (width / BLOCK * BLOCK, width * BYTES);
    for first in (0..whole).step_by(BLOCK) {
        let sums = block::<BYTES, C>(rows, weights, first * BYTES, stride);
        for (c, sums) in sums.into_iter().enumerate() {
            let out = &mut out[c * width + first..][..BLOCK];
            for (out, sum) in out.as_chunks_mut().0.iter_mut().zip(sums) {
                super::panel::store_floats(out, sum);
            }
        }
    }
    if whole < width {
        for (out, weights) in out.chunks_exact_mut(width).zip(weights) {
            part_block::<BYTES>(&mut out[whole..], rows, weights, whole * BYTES, stride);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn block<const BYTES: usize, const C: usize>(
    rows: &[u8],
    weights: [&[f32]; C],
    first: usize,
    stride: usize,
) -> [[__m256; BLOCK / 8]; C] {
    let mut sums = [[_mm256_setzero_ps(); BLOCK / 8]; C];
    for (t, row) in rows.chunks_exact(stride).enumerate() {
        let row = &row[first..][..BLOCK * BYTES];
        let ahead = row.as_ptr().wrapping_add(ROWS_AHEAD * stride);
        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        let values = [eight::<BYTES>(row), eight::<BYTES>(&row[8 * BYTES..])];
        for (sums, weights) in sums.iter_mut().zip(weights) {
            let weight = _mm256_set1_ps(weights[t]);
            for (sum, values) in sums.iter_mut().zip(values) {
                *sum = _mm256_add_ps(*sum, _mm256_mul_ps(weight, values));
            }
        }
    }
    sums
}

/// Eight values of `BYTES` each.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn eight<const BYTES: usize>(values: &[u8]) -> __m256 {
    if BYTES == 4 {
        return _mm256_castsi256_ps(super::panel::load(super::unpack::part(values, 0)));
    }
    _mm256_cvtph_ps(super::unpack::load_half(super::unpack::part(values, 0)))
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
