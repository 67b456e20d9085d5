//! Matrix by matrix on AVX2, which multiplies bytes only into sums of two, of 16 bits.
//!
//! How many of those sums fit in 16 bits together depends on how wide the codes of a format are; when
//! no more would fit, they are widened to 32 bits. Two codes of 8 bits with a sign do fit, so those
//! are multiplied by magnitude, the sign going to the activation.

use core::arch::x86_64::*;

use super::panel::{self, Column, Quad, ROWS, Results, load, load_floats};
use crate::Format;
use crate::isa::{Panel, PanelArgs};

/// What [`super::avx2`] puts in its table.
pub(super) const PANEL: [Panel; Format::COUNT] = {
    let mut table: [Panel; Format::COUNT] = [block_panel; Format::COUNT];
    table[Format::F32 as usize] = float_panel::<{ Format::F32 as usize }, 64>;
    table[Format::F16 as usize] = float_panel::<{ Format::F16 as usize }, 32>;
    table[Format::BF16 as usize] = float_panel::<{ Format::BF16 as usize }, 32>;
    table
};

/// Columns of a tile.
const COLS: usize = 2;

/// The sum of `RUN` products of two codes each, the widest codes below `1 << bits`, fits in 16 bits.
const fn run_fits(run: i32, bits: u32) -> bool {
    run * 2 * ((1 << bits) - 1) * 127 <= i16::MAX as i32
}
const _: () = assert!(run_fits(8, 4) && run_fits(4, 5) && run_fits(2, 6));
const _: () = assert!(2 * 128 * 127 <= i16::MAX as i32);
/// In place of a number of products: the codes have 8 bits, the uppermost in place of a sign.
const SIGNED: usize = 1;

#[target_feature(enable = "avx2,f16c")]
fn block_panel(args: PanelArgs<'_>) {
    match args.format {
        Format::Q8_0 => run_panel::<1, false, SIGNED>(args),
        Format::Q4_0 => run_panel::<1, false, 8>(args),
        Format::Q4_1 | Format::Q4_K => run_panel::<1, true, 8>(args),
        Format::Q5_0 => run_panel::<1, false, 4>(args),
        Format::Q5_1 | Format::Q5_K => run_panel::<1, true, 4>(args),
        Format::Q2_K => run_panel::<2, true, 4>(args),
        Format::Q3_K => run_panel::<2, false, 4>(args),
        Format::Q6_K => run_panel::<2, false, 2>(args),
        // These have their own entries in the table.
        Format::F32 | Format::F16 | Format::BF16 => {}
    }
}

/// A block format with `GROUPS` groups in each 32 codes, `RUN` products of which fit in 16 bits.
#[target_feature(enable = "avx2,f16c")]
fn run_panel<const GROUPS: usize, const MIN: bool, const RUN: usize>(args: PanelArgs<'_>) {
    panel::block_tiles(args, COLS, |rows, columns, mut results| {
        for pair in 0..ROWS / 2 {
            match columns.len() / rows.len() {
                1 => tile::<GROUPS, MIN, RUN, 1>(rows, pair, columns, &mut results),
                _ => tile::<GROUPS, MIN, RUN, 2>(rows, pair, columns, &mut results),
            }
        }
    });
}

/// Two of four rows with `C` columns; float sums stay in registers from one end of the rows to the other.
#[inline]
#[target_feature(enable = "avx2")]
fn tile<const GROUPS: usize, const MIN: bool, const RUN: usize, const C: usize>(
    quads: &[Quad],
    pair: usize,
    columns: &[Column],
    results: &mut Results<'_>,
) {
    let mut sums = [[_mm256_setzero_ps(); 2]; C];
    let columns = &columns[..C * quads.len()];
    for (s, quad) in quads.iter().enumerate() {
        for g in 0..GROUPS {
            let column = |c: usize| &columns[c * quads.len() + s];
            let integers = products::<GROUPS, RUN, C>(quad, pair, g, column);
            let [scale_a, scale_b] = halves(&quad.scale[g][pair]);
            let [min_a, min_b] = halves(&quad.min[g][pair]);
            for (c, (sums, integers)) in sums.iter_mut().zip(integers).enumerate() {
                let column_scale = _mm256_set1_ps(f32::from_le_bytes(column(c).scale));
                let x = _mm256_castsi256_ps(load(&column(c).sums[g]));
                for (h, (scale, min)) in
                    [(scale_a, min_a), (scale_b, min_b)].into_iter().enumerate()
                {
                    let scale = _mm256_mul_ps(scale, column_scale);
                    let term = _mm256_mul_ps(_mm256_cvtepi32_ps(integers[h]), scale);
                    sums[h] = _mm256_add_ps(sums[h], term);
                    if MIN {
                        sums[h] = _mm256_sub_ps(sums[h], _mm256_mul_ps(min, x));
                    }
                }
            }
        }
    }
    for (c, [a, b]) in sums.into_iter().enumerate() {
        results.put(c, pair * 2, add_lanes(a, b));
    }
}

/// The integer sums of group `g` of each block, for two rows and `C` columns.
#[inline]
#[target_feature(enable = "avx2")]
fn products<'a, const GROUPS: usize, const RUN: usize, const C: usize>(
    quad: &Quad,
    pair: usize,
    g: usize,
    column: impl Fn(usize) -> &'a Column,
) -> [[__m256i; 2]; C] {
    let mut sums = [[_mm256_setzero_si256(); 2]; C];
    if RUN != SIGNED {
        for (c, sums) in sums.iter_mut().enumerate() {
            *sums = [load(&column(c).start[g]); 2];
        }
    }
    let (steps, run) = (8 / GROUPS, RUN.min(8 / GROUPS));
    for first in (g * steps..(g + 1) * steps).step_by(run) {
        let mut narrow = [[_mm256_setzero_si256(); 2]; C];
        for i in first..first + run {
            let w = quad.codes[i][pair].as_chunks().0;
            let w = [load(&w[0]), load(&w[1])];
            for (c, narrow) in narrow.iter_mut().enumerate() {
                let x = load(&column(c).codes[i]);
                for (narrow, w) in narrow.iter_mut().zip(w) {
                    let product = if RUN == SIGNED {
                        let w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
                        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
                    } else {
                        _mm256_maddubs_epi16(w, x)
                    };
                    *narrow = if i == first { product } else { _mm256_add_epi16(*narrow, product) };
                }
            }
        }
        for (sums, narrow) in sums.iter_mut().zip(narrow) {
            for (sum, narrow) in sums.iter_mut().zip(narrow) {
                let wide = _mm256_madd_epi16(narrow, _mm256_set1_epi16(1));
                *sum = _mm256_add_epi32(*sum, wide);
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx2")]
fn halves(floats: &[f32; 16]) -> [__m256; 2] {
    let halves = floats.as_chunks().0;
    [load_floats(&halves[0]), load_floats(&halves[1])]
}

/// [`crate::tree`] over 8 lanes, of two registers at once.
#[inline]
#[target_feature(enable = "avx2")]
fn add_lanes(a: __m256, b: __m256) -> [f32; 2] {
    let four = |v| _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let (a, b) = (four(a), four(b));
    let two = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
    let sums = _mm_add_ps(two, _mm_movehdup_ps(two));
    [_mm_cvtss_f32(sums), _mm_cvtss_f32(_mm_movehl_ps(sums, sums))]
}

/// [`crate::tree`] over 8 lanes, of four registers at once.
#[inline]
#[target_feature(enable = "avx2")]
fn add_lanes_of_four(sums: [__m256; 4]) -> [f32; 4] {
    let [a, b, c, d] =
        sums.map(|v| _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v)));
    let two = |a, b| _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
    let (ab, cd) = (two(a, b), two(c, d));
    let sums = _mm_add_ps(
        _mm_shuffle_ps::<0b10_00_10_00>(ab, cd),
        _mm_shuffle_ps::<0b11_01_11_01>(ab, cd),
    );
    let mut out = [0.0; 4];
    // SAFETY: 4 writable floats, any alignment.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), sums) };
    out
}

/// Columns that share a row's conversion to f32.
const FLOAT_COLS: usize = 4;

/// Plain numbers, `BYTES` for each 16 of them.
#[target_feature(enable = "avx2,f16c")]
fn float_panel<const FORMAT: usize, const BYTES: usize>(args: PanelArgs<'_>) {
    panel::float_tiles::<BYTES, 1>(
        args,
        FLOAT_COLS,
        |[row], columns, count, results| match count {
            1 => float_tile::<FORMAT, BYTES, 1>(row, columns, results),
            2 => float_tile::<FORMAT, BYTES, 2>(row, columns, results),
            3 => float_tile::<FORMAT, BYTES, 3>(row, columns, results),
            _ => float_tile::<FORMAT, BYTES, 4>(row, columns, results),
        },
    );
}

/// A row with `C` columns, 16 lanes being two registers.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn float_tile<const FORMAT: usize, const BYTES: usize, const C: usize>(
    row: &[u8],
    columns: &[u8],
    mut results: Results<'_>,
) {
    let mut sums = [[_mm256_setzero_ps(); 2]; FLOAT_COLS];
    let whole = row.len() / BYTES;
    let columns = panel::split::<C>(columns);
    let (w, x) = (row.as_chunks::<BYTES>().0, panel::chunks::<64, _>(columns, whole));
    for (i, w) in w.iter().enumerate() {
        add_products::<FORMAT, BYTES, C>(&mut sums, w, panel::each(&x, i));
    }
    if row.len() > whole * BYTES {
        let ([w], x) = (panel::zero_filled([row]), panel::zero_filled(columns));
        add_products::<FORMAT, BYTES, C>(&mut sums, &w, x.each_ref());
    }
    // The first step of the tree: 16 lanes to 8.
    let sums = add_lanes_of_four(sums.map(|[a, b]| _mm256_add_ps(a, b)));
    for (c, sum) in sums.into_iter().take(C).enumerate() {
        results.put(c, 0, [sum]);
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn add_products<const FORMAT: usize, const BYTES: usize, const C: usize>(
    sums: &mut [[__m256; 2]; FLOAT_COLS],
    w: &[u8; BYTES],
    x: [&[u8; 64]; C],
) {
    let w = widen::<FORMAT, BYTES>(w);
    for (sums, x) in sums.iter_mut().zip(x) {
        for ((sum, w), x) in sums.iter_mut().zip(w).zip(x.as_chunks().0) {
            *sum = _mm256_add_ps(*sum, _mm256_mul_ps(w, _mm256_castsi256_ps(load(x))));
        }
    }
}

/// 16 weights of a float format.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn widen<const FORMAT: usize, const BYTES: usize>(bytes: &[u8; BYTES]) -> [__m256; 2] {
    const { assert!(BYTES == if FORMAT == Format::F32 as usize { 64 } else { 32 }) };
    match bytes.as_chunks().0 {
        [a, b] => [_mm256_castsi256_ps(load(a)), _mm256_castsi256_ps(load(b))],
        [halves] => {
            let halves = load(halves);
            let (a, b) = (_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
            if FORMAT == Format::F16 as usize {
                return [_mm256_cvtph_ps(a), _mm256_cvtph_ps(b)];
            }
            let [a, b] = [_mm256_cvtepu16_epi32(a), _mm256_cvtepu16_epi32(b)];
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(a)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b)),
            ]
        }
        _ => [_mm256_setzero_ps(); 2],
    }
}
