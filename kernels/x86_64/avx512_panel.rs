//! Matrix by matrix on AVX-512 with VNNI: four rows by up to six columns at a time.
//!
//! A superblock is 8 blocks of 32 codes, which are 8 doublewords each. Weights and activations are
//! turned round so that one half register holds doubleword `i` of all 8 blocks; 8 byte dot products
//! then leave the sum of block `j` in lane `j`, where the arithmetic contract wants it, and nothing
//! is ever added across lanes before the end. A register holds two rows, and a column twice.
#![allow(unsafe_code, reason = "vector loads and stores take pointers")]

use core::arch::x86_64::*;

use crate::activation::{ACTIVATION_BYTES, Block};
use crate::format::{FormatInfo, Superblock};
use crate::isa::{PACKED_BYTES, Panel, PanelArgs, UNPACKED_BYTES};
use crate::{Format, scalar};

/// What [`super::avx512_vnni`] puts in its table.
pub(super) const PANEL: [Panel; Format::COUNT] = {
    let mut table: [Panel; Format::COUNT] = [panel; Format::COUNT];
    table[Format::F32 as usize] = scalar::BASE.panel[0];
    table[Format::F16 as usize] = scalar::BASE.panel[0];
    table[Format::BF16 as usize] = scalar::BASE.panel[0];
    table
};

/// One superblock of one column. Bytes, because a column may lie at any address.
#[repr(C)]
struct Column {
    /// Doubleword `i` of the 8 blocks.
    codes: [[u8; 32]; 8],
    /// Minus the format's offset times the sum of each group: where an integer sum starts. Of the
    /// blocks, or of their first and their second halves.
    start: [[u8; 32]; 2],
    /// Activation scale times the sum of each group.
    sums: [[u8; 32]; 2],
    scale: [u8; 4],
    rest: [u8; 60],
}

const _: () = assert!(size_of::<Column>() == PACKED_BYTES);

/// One superblock of four rows: two registers of two rows each, wherever there is a `2`.
#[repr(C, align(64))]
struct Quad {
    codes: [[[u8; 64]; 2]; 8],
    /// Of the blocks, or of their first and their second halves.
    scale: [[[f32; 16]; 2]; 2],
    min: [[[f32; 16]; 2]; 2],
}

const ROWS: usize = 4;
const COLS: usize = 6;
const _: () = assert!(size_of::<Quad>() == ROWS * UNPACKED_BYTES);

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 readable bytes, any alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_floats(values: &[f32; 16]) -> __m512 {
    // SAFETY: 16 readable floats, any alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_half(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 readable bytes, any alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_half(bytes: &mut [u8; 32], value: __m256i) {
    // SAFETY: 32 writable bytes, any alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
}

/// The same 32 bytes in both halves.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_twice(bytes: &[u8; 32]) -> __m512i {
    _mm512_broadcast_i64x4(load_half(bytes))
}

/// Turns 8 blocks of 8 doublewords into 8 times one doubleword of each block.
#[inline]
#[target_feature(enable = "avx2")]
fn turn(codes: &[u8; 256]) -> [__m256i; 8] {
    let blocks = codes.as_chunks::<32>().0;
    let mut a = [_mm256_setzero_si256(); 8];
    for (a, block) in a.iter_mut().zip(blocks) {
        *a = load_half(block);
    }
    let mut b = a;
    for j in [0, 2, 4, 6] {
        b[j] = _mm256_unpacklo_epi32(a[j], a[j + 1]);
        b[j + 1] = _mm256_unpackhi_epi32(a[j], a[j + 1]);
    }
    for j in [0, 4] {
        a[j] = _mm256_unpacklo_epi64(b[j], b[j + 2]);
        a[j + 1] = _mm256_unpackhi_epi64(b[j], b[j + 2]);
        a[j + 2] = _mm256_unpacklo_epi64(b[j + 1], b[j + 3]);
        a[j + 3] = _mm256_unpackhi_epi64(b[j + 1], b[j + 3]);
    }
    for i in 0..4 {
        b[i] = _mm256_permute2x128_si256::<0x20>(a[i], a[i + 4]);
        b[i + 4] = _mm256_permute2x128_si256::<0x31>(a[i], a[i + 4]);
    }
    b
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn pack(format: Format, x: &[u8], out: &mut [u8]) {
    let info = format.info();
    // SAFETY: any bytes are a `Column`, whose alignment is 1.
    let (_, columns, _) = unsafe { out.align_to_mut::<Column>() };
    for (x, column) in x.as_chunks::<ACTIVATION_BYTES>().0.iter().zip(columns) {
        let block = Block(x);
        let Some(codes) = x.first_chunk() else { return };
        for (out, codes) in column.codes.iter_mut().zip(turn(codes)) {
            store_half(out, codes);
        }
        for j in 0..8 {
            let (even, odd) = (block.sum(2 * j), block.sum(2 * j + 1));
            let sums = if info.group_len() == 16 { [even, odd] } else { [even + odd, 0] };
            for (g, sum) in sums.into_iter().enumerate() {
                column.start[g].as_chunks_mut().0[j] = (-info.offset() * sum).to_le_bytes();
                column.sums[g].as_chunks_mut().0[j] = (block.scale() * sum as f32).to_le_bytes();
            }
        }
        column.scale = block.scale().to_le_bytes();
        column.rest = [0; 60];
    }
}

/// Puts a row's superblock in place `row` of the four.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn place(block: &Superblock, group: usize, row: usize, quad: &mut Quad) {
    let (pair, half) = (row / 2, row % 2);
    for (out, codes) in quad.codes.iter_mut().zip(turn(&block.codes)) {
        store_half(&mut out[pair].as_chunks_mut().0[half], codes);
    }
    for j in 0..8 {
        let lane = half * 8 + j;
        if group == 16 {
            for g in 0..2 {
                quad.scale[g][pair][lane] = block.scale[2 * j + g];
                quad.min[g][pair][lane] = block.min[2 * j + g];
            }
        } else {
            quad.scale[0][pair][lane] = block.scale[j];
            quad.min[0][pair][lane] = block.min[j];
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn unpack(args: &PanelArgs<'_>, info: &FormatInfo, superblocks: usize, quads: &mut [Quad]) {
    let mut block = Superblock::ZERO;
    for (r, row) in args.w.chunks_exact(info.row_bytes(args.len)).enumerate() {
        let quads = &mut quads[r / ROWS * superblocks..][..superblocks];
        for (src, quad) in row.chunks(info.superblock_bytes()).zip(quads) {
            info.unpack(src, &mut block);
            place(&block, info.group_len(), r % ROWS, quad);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn panel(mut args: PanelArgs<'_>) {
    let info = args.format.info();
    let superblocks = args.len.div_ceil(256);
    let scratch = core::mem::take(&mut args.scratch);
    // SAFETY: any bytes are a `Quad`.
    let (_, quads, _) = unsafe { scratch.align_to_mut::<Quad>() };
    let quads = &mut quads[..args.rows.div_ceil(ROWS) * superblocks];
    unpack(&args, info, superblocks, quads);
    let multiply = match (info.group_len(), info.has_min()) {
        (32, false) => multiply::<1, false>,
        (32, true) => multiply::<1, true>,
        (_, false) => multiply::<2, false>,
        (_, true) => multiply::<2, true>,
    };
    // SAFETY: any bytes are a `Column`, whose alignment is 1.
    let (_, columns, _) = unsafe { args.x.align_to::<Column>() };
    multiply(quads, columns, superblocks, args.rows, args.out)
}

/// All rows with all columns, `GROUPS` groups in each block.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn multiply<const GROUPS: usize, const MIN: bool>(
    quads: &[Quad],
    columns: &[Column],
    superblocks: usize,
    rows: usize,
    out: &mut [f32],
) {
    for (columns, out) in columns.chunks(COLS * superblocks).zip(out.chunks_mut(COLS * rows)) {
        for (q, quad) in quads.chunks_exact(superblocks).enumerate() {
            let out = &mut out[q * ROWS..];
            match columns.len() / superblocks {
                1 => tile::<GROUPS, MIN, 1>(quad, columns, rows, rows - q * ROWS, out),
                2 => tile::<GROUPS, MIN, 2>(quad, columns, rows, rows - q * ROWS, out),
                3 => tile::<GROUPS, MIN, 3>(quad, columns, rows, rows - q * ROWS, out),
                4 => tile::<GROUPS, MIN, 4>(quad, columns, rows, rows - q * ROWS, out),
                5 => tile::<GROUPS, MIN, 5>(quad, columns, rows, rows - q * ROWS, out),
                _ => tile::<GROUPS, MIN, 6>(quad, columns, rows, rows - q * ROWS, out),
            }
        }
    }
}

/// Four rows with `C` columns; float sums stay in registers from one end of the rows to the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn tile<const GROUPS: usize, const MIN: bool, const C: usize>(
    quads: &[Quad],
    columns: &[Column],
    rows: usize,
    rows_left: usize,
    out: &mut [f32],
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
    for c in 0..C {
        let (four, out) = (add_lanes(sums[c]), &mut out[c * rows..]);
        match out.first_chunk_mut() {
            Some(out) if rows_left >= ROWS => *out = four,
            _ => out.iter_mut().zip(&four[..rows_left]).for_each(|(out, sum)| *out = *sum),
        }
    }
}

/// [`tree`] over the 8 lanes of each of four rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_lanes(pairs: [__m512; 2]) -> [f32; 4] {
    let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(pairs[0], pairs[1]);
    let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(pairs[0], pairs[1]);
    let four = _mm512_add_ps(low, high);
    let two = _mm512_add_ps(four, _mm512_permute_ps::<0b01_00_11_10>(four));
    let one = _mm512_add_ps(two, _mm512_permute_ps::<0b10_11_00_01>(two));
    let mut out = [0.0; 4];
    let gathered = _mm512_maskz_compress_ps(0x1111, one);
    // SAFETY: room for 4 floats, any alignment.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), _mm512_castps512_ps128(gathered)) };
    out
}
