//! Matrix by matrix on AVX-512 with VNNI: four rows by up to six columns at a time.
//!
//! A register holds one doubleword of each of the 8 blocks of two rows, and a column twice, as
//! [`super::panel`] lays them out. Activations are the signed operand of `vpdpbusd`, codes the
//! unsigned one, which is why codes are stored with an offset; it adds in 32 bits, so it is exact.
#![allow(unsafe_code, reason = "vector loads and stores take pointers")]

use core::arch::x86_64::*;

use super::panel::{self, Column, Quad, ROWS, Results};
use crate::Format;
use crate::isa::{Panel, PanelArgs};

/// What [`super::avx512_vnni`] puts in its table.
pub(super) const PANEL: [Panel; Format::COUNT] = {
    let mut table: [Panel; Format::COUNT] = [block_panel; Format::COUNT];
    table[Format::F32 as usize] = float_panel::<{ Format::F32 as usize }, 64>;
    table[Format::F16 as usize] = float_panel::<{ Format::F16 as usize }, 32>;
    table[Format::BF16 as usize] = float_panel::<{ Format::BF16 as usize }, 32>;
    table
};

/// Columns of a tile; more would not leave the registers enough.
const COLS: usize = 6;
/// Columns of a tile of floats.
const FLOAT_COLS: usize = 4;

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 readable bytes, any alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_floats(values: &[f32; 16]) -> __m512 {
    // SAFETY: 16 readable floats, any alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// The same 32 bytes in both halves.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_twice(bytes: &[u8; 32]) -> __m512i {
    _mm512_broadcast_i64x4(panel::load(bytes))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
fn block_panel(args: PanelArgs<'_>) {
    let info = args.format.info();
    match (info.group_len(), info.has_min()) {
        (32, false) => grouped_panel::<1, false>(args),
        (32, true) => grouped_panel::<1, true>(args),
        (_, false) => grouped_panel::<2, false>(args),
        (_, true) => grouped_panel::<2, true>(args),
    }
}

/// A block format with `GROUPS` groups in each 32 codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
fn grouped_panel<const GROUPS: usize, const MIN: bool>(args: PanelArgs<'_>) {
    panel::block_tiles(args, COLS, |rows, columns, results| match columns.len() / rows.len() {
        1 => tile::<GROUPS, MIN, 1>(rows, columns, results),
        2 => tile::<GROUPS, MIN, 2>(rows, columns, results),
        3 => tile::<GROUPS, MIN, 3>(rows, columns, results),
        4 => tile::<GROUPS, MIN, 4>(rows, columns, results),
        5 => tile::<GROUPS, MIN, 5>(rows, columns, results),
        _ => tile::<GROUPS, MIN, 6>(rows, columns, results),
    });
}

/// Four rows with `C` columns; float sums stay in registers from one end of the rows to the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn tile<const GROUPS: usize, const MIN: bool, const C: usize>(
    quads: &[Quad],
    columns: &[Column],
    mut results: Results<'_>,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; C];
    let columns = &columns[..C * quads.len()];
    for (s, quad) in quads.iter().enumerate() {
        for g in 0..GROUPS {
            let mut integers = [[_mm512_setzero_si512(); 2]; C];
            for c in 0..C {
                integers[c] = [load_twice(&columns[c * quads.len() + s].start[g]); 2];
            }
            let step = 8 / GROUPS;
            for i in g * step..(g + 1) * step {
                let w = [load(&quad.codes[i][0]), load(&quad.codes[i][1])];
                for c in 0..C {
                    let x = load_twice(&columns[c * quads.len() + s].codes[i]);
                    for p in 0..2 {
                        integers[c][p] = _mm512_dpbusd_epi32(integers[c][p], w[p], x);
                    }
                }
            }
            let scale = [load_floats(&quad.scale[g][0]), load_floats(&quad.scale[g][1])];
            let min = [load_floats(&quad.min[g][0]), load_floats(&quad.min[g][1])];
            for c in 0..C {
                let column = &columns[c * quads.len() + s];
                let column_scale = _mm512_set1_ps(f32::from_le_bytes(column.scale));
                for p in 0..2 {
                    let scale = _mm512_mul_ps(scale[p], column_scale);
                    let term = _mm512_mul_ps(_mm512_cvtepi32_ps(integers[c][p]), scale);
                    sums[c][p] = _mm512_add_ps(sums[c][p], term);
                    if MIN {
                        let x = _mm512_castsi512_ps(load_twice(&column.sums[g]));
                        sums[c][p] = _mm512_sub_ps(sums[c][p], _mm512_mul_ps(min[p], x));
                    }
                }
            }
        }
    }
    for (c, sums) in sums.into_iter().enumerate() {
        results.put(c, 0, add_lanes(sums));
    }
}

/// [`crate::tree`] over the 8 lanes of each of four rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_lanes(pairs: [__m512; 2]) -> [f32; 4] {
    let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(pairs[0], pairs[1]);
    let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(pairs[0], pairs[1]);
    let four = _mm512_add_ps(low, high);
    let two = _mm512_add_ps(four, _mm512_permute_ps::<0b01_00_11_10>(four));
    let one = _mm512_add_ps(two, _mm512_permute_ps::<0b10_11_00_01>(two));
    let mut out = [0.0; 4];
    let gathered = _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, one));
    // SAFETY: room for 4 floats, any alignment.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), gathered) };
    out
}

/// Plain numbers, `BYTES` for each 16 of them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn float_panel<const FORMAT: usize, const BYTES: usize>(args: PanelArgs<'_>) {
    panel::float_tiles::<BYTES, ROWS>(
        args,
        FLOAT_COLS,
        |rows, columns, count, results| match count {
            1 => float_tile::<FORMAT, BYTES, 1>(rows, columns, results),
            2 => float_tile::<FORMAT, BYTES, 2>(rows, columns, results),
            3 => float_tile::<FORMAT, BYTES, 3>(rows, columns, results),
            _ => float_tile::<FORMAT, BYTES, 4>(rows, columns, results),
        },
    );
}

/// Four rows with `C` columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn float_tile<const FORMAT: usize, const BYTES: usize, const C: usize>(
    rows: [&[u8]; ROWS],
    columns: &[u8],
    mut results: Results<'_>,
) {
    let mut sums = [[_mm512_setzero_ps(); ROWS]; C];
    let whole = rows[0].len() / BYTES;
    let columns = panel::split::<C>(columns);
    let (w, x) = (panel::chunks::<BYTES, _>(rows, whole), panel::chunks::<64, _>(columns, whole));
    for i in 0..whole {
        add_products::<FORMAT, BYTES, C>(&mut sums, panel::each(&w, i), panel::each(&x, i));
    }
    if rows[0].len() > whole * BYTES {
        let (w, x) = (panel::zero_filled(rows), panel::zero_filled(columns));
        add_products::<FORMAT, BYTES, C>(&mut sums, w.each_ref(), x.each_ref());
    }
    for (c, sums) in sums.into_iter().enumerate() {
        // The first of the steps of the tree: 16 lanes to 8, two rows to a register.
        let pairs = [half_lanes(sums[0], sums[1]), half_lanes(sums[2], sums[3])];
        results.put(c, 0, add_lanes(pairs));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn add_products<const FORMAT: usize, const BYTES: usize, const C: usize>(
    sums: &mut [[__m512; ROWS]; C],
    w: [&[u8; BYTES]; ROWS],
    x: [&[u8; 64]; C],
) {
    let w = [
        widen::<FORMAT, BYTES>(w[0]),
        widen::<FORMAT, BYTES>(w[1]),
        widen::<FORMAT, BYTES>(w[2]),
        widen::<FORMAT, BYTES>(w[3]),
    ];
    for (sums, x) in sums.iter_mut().zip(x) {
        let x = _mm512_castsi512_ps(load(x));
        for (sum, w) in sums.iter_mut().zip(w) {
            *sum = _mm512_add_ps(*sum, _mm512_mul_ps(w, x));
        }
    }
}

/// 16 weights of a float format.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn widen<const FORMAT: usize, const BYTES: usize>(bytes: &[u8; BYTES]) -> __m512 {
    const { assert!(BYTES == if FORMAT == Format::F32 as usize { 64 } else { 32 }) };
    if let Some(bytes) = bytes.first_chunk() {
        return _mm512_castsi512_ps(load(bytes));
    }
    let halves = bytes.first_chunk().map_or(_mm256_setzero_si256(), |bytes| panel::load(bytes));
    if FORMAT == Format::F16 as usize {
        return _mm512_cvtph_ps(halves);
    }
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
}

/// The upper 8 of 16 lanes added to the lower 8, for two rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn half_lanes(a: __m512, b: __m512) -> __m512 {
    let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
    let high = _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b);
    _mm512_add_ps(low, high)
}
