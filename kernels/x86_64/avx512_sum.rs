//! Weighted sums of rows on AVX-512: up to four columns share the loads and conversions of the rows.

use core::arch::x86_64::*;

use super::avx512_panel::widen;
use super::lanes::part_block;
use super::unpack::part;
use crate::Format;
use crate::isa::WeightedSum;

/// What [`super::avx512_vnni`] puts in its table; only caches' formats are ever asked for.
pub(super) const WEIGHTED_SUM: [WeightedSum; Format::COUNT] = {
    let mut table: [WeightedSum; Format::COUNT] = [f32_rows; Format::COUNT];
    table[Format::F16 as usize] = f16_rows;
    table[Format::Q8_0 as usize] = super::lanes::weighted_sum_q8_0;
    table
};

/// Rows ahead of their use to fetch: a cache of keys and values lies in memory, not near.
const ROWS_AHEAD: usize = 16;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,f16c")]
fn f32_rows(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize) {
    all_columns::<{ Format::F32 as usize }, 64>(out, rows, weights, cols);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,f16c")]
fn f16_rows(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize) {
    all_columns::<{ Format::F16 as usize }, 32>(out, rows, weights, cols);
}

/// `BYTES` for each 16 elements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,f16c")]
fn all_columns<const FORMAT: usize, const BYTES: usize>(
    out: &mut [f32],
    rows: &[u8],
    weights: &[f32],
    cols: usize,
) {
    let (width, count) = (out.len() / cols, weights.len() / cols);
    for (c, out) in out.chunks_mut(4 * width).enumerate() {
        let held = out.len() / width;
        let weights = &weights[4 * c * count..][..held * count];
        match held {
            1 => columns::<FORMAT, BYTES, 1>(out, rows, weights),
            2 => columns::<FORMAT, BYTES, 2>(out, rows, weights),
            3 => columns::<FORMAT, BYTES, 3>(out, rows, weights),
            _ => columns::<FORMAT, BYTES, 4>(out, rows, weights),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,f16c")]
fn columns<const FORMAT: usize, const BYTES: usize, const COLS: usize>(
    out: &mut [f32],
    rows: &[u8],
    weights: &[f32],
) {
    let (width, count) = (out.len() / COLS, weights.len() / COLS);
    let weights: [&[f32]; COLS] = core::array::from_fn(|c| &weights[c * count..][..count]);
    let mut whole = 0;
    while whole + 64 <= width {
        whole = block::<FORMAT, BYTES, COLS, 4>(out, rows, weights, whole);
    }
    if whole + 32 <= width {
        whole = block::<FORMAT, BYTES, COLS, 2>(out, rows, weights, whole);
    }
    if whole + 16 <= width {
        whole = block::<FORMAT, BYTES, COLS, 1>(out, rows, weights, whole);
    }
    if whole < width {
        for (c, weights) in weights.into_iter().enumerate() {
            let out = &mut out[c * width..][whole..width];
            let place = |elements: usize| elements * BYTES / 16;
            match BYTES {
                32 => part_block::<2>(out, rows, weights, place(whole), place(width)),
                _ => part_block::<4>(out, rows, weights, place(whole), place(width)),
            }
        }
    }
}

/// `16 * N` elements from `first` on, whose sums stay in registers while all rows go by. Returns where they
/// end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,f16c")]
fn block<const FORMAT: usize, const BYTES: usize, const COLS: usize, const N: usize>(
    out: &mut [f32],
    rows: &[u8],
    weights: [&[f32]; COLS],
    first: usize,
) -> usize {
    let mut sums = [[_mm512_setzero_ps(); N]; COLS];
    let width = out.len() / COLS;
    let stride = width * BYTES / 16;
    for (t, row) in rows.chunks_exact(stride).enumerate() {
        let row = &row[first * BYTES / 16..][..N * BYTES];
        for line in 0..(N * BYTES).div_ceil(64) {
            let ahead = row.as_ptr().wrapping_add(ROWS_AHEAD * stride + line * 64);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        }
        let weights = weights.map(|weights| _mm512_set1_ps(weights[t]));
        for i in 0..N {
            let values = widen::<FORMAT, BYTES>(part(row, i * BYTES));
            for (sums, weight) in sums.iter_mut().zip(weights) {
                sums[i] = _mm512_add_ps(sums[i], _mm512_mul_ps(weight, values));
            }
        }
    }
    for (c, sums) in sums.into_iter().enumerate() {
        let out = &mut out[c * width + first..][..16 * N];
        for (out, sum) in out.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
            let [low, high] = [_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps::<1>(sum)];
            super::panel::store_floats(&mut out.as_chunks_mut().0[0], low);
            super::panel::store_floats(&mut out.as_chunks_mut().0[1], high);
        }
    }
    first + 16 * N
}
