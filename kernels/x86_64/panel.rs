//! How the panels of AVX2 and AVX-512 lay out their operands.
//!
//! A superblock is 8 blocks of 32 codes, which are 8 doublewords each. Weights and activations are
//! turned round so that one vector of 8 lanes holds doubleword `i` of all 8 blocks; 8 byte dot
//! products then leave the sum of block `j` in lane `j`, where the arithmetic contract wants it, and
//! nothing is added across lanes before the end of the row. Groups of 16 codes are doublewords
//! `0..4` and `4..8` of a block, so a superblock of them is two steps of four products.
#![allow(unsafe_code, reason = "vector loads and stores take pointers")]

use core::arch::x86_64::*;

use super::unpack::unpack_superblock;
use crate::activation::{ACTIVATION_BYTES, SCALE, SUMS};
use crate::format::{Format, FormatInfo, Superblock};
use crate::isa::{PACKED_BYTES, PanelArgs, UNPACKED_BYTES};
use crate::{FLOAT_LANES, SUPERBLOCK};

/// Rows that lie together.
pub(super) const ROWS: usize = 4;

/// One superblock of one column. Bytes, because a column may lie at any address.
#[repr(C)]
pub(super) struct Column {
    /// Doubleword `i` of the 8 blocks.
    pub(super) codes: [[u8; 32]; 8],
    /// Minus the format's offset times the sum of each group: where an integer sum starts. First of
    /// the blocks or of their first halves, then of their second halves.
    pub(super) start: [[u8; 32]; 2],
    /// Activation scale times the sum of each group.
    pub(super) sums: [[u8; 32]; 2],
    pub(super) scale: [u8; 4],
    rest: [u8; 60],
}

/// One superblock of four rows, two to a register of 64 bytes.
#[repr(C, align(64))]
pub(super) struct Quad {
    /// By doubleword and pair of rows.
    pub(super) codes: [[[u8; 64]; 2]; 8],
    /// By half of the blocks, if their halves are groups, and pair of rows.
    pub(super) scale: [[[f32; 16]; 2]; 2],
    pub(super) min: [[[f32; 16]; 2]; 2],
}

const _: () = assert!(size_of::<Column>() == PACKED_BYTES && align_of::<Column>() == 1);
const _: () = assert!(size_of::<Quad>() == ROWS * UNPACKED_BYTES && SUPERBLOCK == 256);

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 readable bytes, any alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store(bytes: &mut [u8; 32], value: __m256i) {
    // SAFETY: 32 writable bytes, any alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_floats(values: &[f32; 8]) -> __m256 {
    // SAFETY: 8 readable floats, any alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_floats(values: &mut [f32; 8], value: __m256) {
    // SAFETY: 8 writable floats, any alignment.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), value) }
}

/// Turns 8 blocks of 8 doublewords into 8 times one doubleword of each block.
#[inline]
#[target_feature(enable = "avx2")]
fn turn(codes: &[u8; SUPERBLOCK]) -> [__m256i; 8] {
    let mut a = [_mm256_setzero_si256(); 8];
    for (a, block) in a.iter_mut().zip(codes.as_chunks().0) {
        *a = load(block);
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

/// See [`crate::Isa::pack`].
#[target_feature(enable = "avx2")]
pub(super) fn pack(format: Format, x: &[u8], out: &mut [u8]) {
    let info = format.info();
    let offset = _mm256_set1_epi32(-info.offset());
    // SAFETY: any bytes are a `Column`, whose alignment is 1.
    let (_, columns, _) = unsafe { out.align_to_mut::<Column>() };
    for (x, column) in x.as_chunks::<ACTIVATION_BYTES>().0.iter().zip(columns) {
        let (Some(codes), Some(sums), Some(scale)) =
            (x.first_chunk(), x[SUMS..].first_chunk(), x[SCALE..].first_chunk())
        else {
            return;
        };
        for (out, codes) in column.codes.iter_mut().zip(turn(codes)) {
            store(out, codes);
        }
        let sums = load(sums);
        let sums = match info.group_len() {
            16 => [
                _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(sums)),
                _mm256_srai_epi32::<16>(sums),
            ],
            _ => [_mm256_madd_epi16(sums, _mm256_set1_epi16(1)), _mm256_setzero_si256()],
        };
        let factor = _mm256_set1_ps(f32::from_le_bytes(*scale));
        for (g, sum) in sums.into_iter().enumerate() {
            let scaled = _mm256_mul_ps(factor, _mm256_cvtepi32_ps(sum));
            store(&mut column.start[g], _mm256_mullo_epi32(offset, sum));
            store(&mut column.sums[g], _mm256_castps_si256(scaled));
        }
        (column.scale, column.rest) = (*scale, [0; 60]);
    }
}

/// Where the results of a tile go.
pub(super) struct Results<'a> {
    /// From the tile's first row and column on.
    out: &'a mut [f32],
    /// From column to column.
    stride: usize,
    /// From the tile's first row to the last.
    rows: usize,
}

impl Results<'_> {
    /// Writes a column's results from `row` on, as far as there are rows.
    #[inline]
    pub(super) fn put<const N: usize>(&mut self, column: usize, row: usize, sums: [f32; N]) {
        let (first, left) = (column * self.stride + row, self.rows.saturating_sub(row));
        if left >= N
            && let Some(out) = self.out.get_mut(first..).and_then(<[f32]>::first_chunk_mut)
        {
            *out = sums;
        } else {
            self.out.iter_mut().skip(first).zip(sums).take(left).for_each(|(out, sum)| *out = sum);
        }
    }
}

/// Unpacks the rows, then calls `tile` with four of them and up to `width` columns until all have met.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn block_tiles(
    args: PanelArgs<'_>,
    width: usize,
    tile: impl Fn(&[Quad], &[Column], Results<'_>),
) {
    let superblocks = args.len.div_ceil(SUPERBLOCK);
    // SAFETY: any bytes are a `Quad`.
    let (_, quads, _) = unsafe { args.scratch.align_to_mut() };
    let quads = &mut quads[..args.rows.div_ceil(ROWS) * superblocks];
    unpack(args.format.info(), args.w, args.len, quads);
    // SAFETY: any bytes are a `Column`, whose alignment is 1.
    let (_, columns, _) = unsafe { args.x.align_to() };
    let outs = args.out.chunks_mut(width * args.rows);
    for (columns, out) in columns.chunks(width * superblocks).zip(outs) {
        for (q, quads) in quads.chunks_exact(superblocks).enumerate() {
            let (first, stride) = (q * ROWS, args.rows);
            tile(quads, columns, Results { out: &mut out[first..], stride, rows: stride - first });
        }
    }
}

/// Rows that several tiles of columns meet should stay in a core's second-level cache.
const FLOAT_BYTES: usize = 256 * 1024;

/// Calls `tile` with `HEIGHT` rows and up to `width` columns of plain numbers, and how many columns these
/// are, `BYTES` for each 16 weights, until all have met. Where rows end, the last one comes again, its result to be lost.
pub(super) fn float_tiles<const BYTES: usize, const HEIGHT: usize>(
    args: PanelArgs<'_>,
    width: usize,
    tile: impl Fn([&[u8]; HEIGHT], &[u8], usize, Results<'_>),
) {
    let (row_bytes, column_bytes) = (args.len * BYTES / FLOAT_LANES, args.len * 4);
    let (w, stride) = (args.w, args.rows);
    let block = (FLOAT_BYTES / row_bytes).max(HEIGHT) / HEIGHT * HEIGHT;
    for start in (0..stride).step_by(block) {
        let outs = args.out.chunks_mut(width * stride);
        for (columns, out) in args.x.chunks(width * column_bytes).zip(outs) {
            let count = columns.len() / column_bytes;
            for first in (start..stride.min(start + block)).step_by(HEIGHT) {
                let mut rows = [w; HEIGHT];
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = &w[(first + i).min(stride - 1) * row_bytes..][..row_bytes];
                }
                tile(
                    rows,
                    columns,
                    count,
                    Results { out: &mut out[first..], stride, rows: stride - first },
                );
            }
        }
    }
}

/// As many equally long parts.
#[inline]
pub(super) fn split<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let len = bytes.len() / N;
    core::array::from_fn(|i| &bytes[i * len..][..len])
}

/// The first `count` chunks of each slice.
#[inline]
pub(super) fn chunks<const BYTES: usize, const N: usize>(
    slices: [&[u8]; N],
    count: usize,
) -> [&[[u8; BYTES]]; N] {
    slices.map(|bytes| &bytes.as_chunks().0[..count])
}

/// Chunk `i` of each slice.
#[inline]
pub(super) fn each<'a, const BYTES: usize, const N: usize>(
    slices: &[&'a [[u8; BYTES]]; N],
    i: usize,
) -> [&'a [u8; BYTES]; N] {
    slices.map(|chunks| &chunks[i])
}

/// What follows each slice's last whole chunk, then zeros, which change no sum that began with zero.
pub(super) fn zero_filled<const BYTES: usize, const N: usize>(
    slices: [&[u8]; N],
) -> [[u8; BYTES]; N] {
    slices.map(|bytes| {
        let rest = bytes.as_chunks::<BYTES>().1;
        let mut chunk = [0; BYTES];
        chunk[..rest.len()].copy_from_slice(rest);
        chunk
    })
}

/// Unpacks `rows`, of `len` weights each, four after four. Where the last of the four are absent,
/// what was in their place stays.
#[target_feature(enable = "avx2,f16c")]
fn unpack(info: &FormatInfo, rows: &[u8], len: usize, quads: &mut [Quad]) {
    let superblocks = len.div_ceil(SUPERBLOCK);
    let mut block = Superblock::ZERO;
    for (r, row) in rows.chunks_exact(info.row_bytes(len)).enumerate() {
        let quads = &mut quads[r / ROWS * superblocks..][..superblocks];
        for (src, quad) in row.chunks(info.superblock_bytes()).zip(quads) {
            unpack_superblock(info, src, &mut block);
            place(info, &block, r % ROWS, quad);
        }
    }
}

/// Puts a row's superblock in place `row` of the four.
#[inline]
#[target_feature(enable = "avx2")]
fn place(info: &FormatInfo, block: &Superblock, row: usize, quad: &mut Quad) {
    let (pair, half) = (row / 2, row % 2);
    for (out, codes) in quad.codes.iter_mut().zip(turn(&block.codes)) {
        store(&mut out[pair].as_chunks_mut().0[half], codes);
    }
    for (from, to, wanted) in
        [(&block.scale, &mut quad.scale, true), (&block.min, &mut quad.min, info.has_min())]
    {
        if !wanted {
            continue;
        }
        let (a, b) = (load_floats(&from.as_chunks().0[0]), load_floats(&from.as_chunks().0[1]));
        let lanes = match info.group_len() {
            16 => [every_other::<0b10_00_10_00>(a, b), every_other::<0b11_01_11_01>(a, b)],
            _ => [a, b],
        };
        for (to, lanes) in to.iter_mut().zip(lanes) {
            store_floats(&mut to[pair].as_chunks_mut().0[half], lanes);
        }
    }
}

/// Of the sixteen values the even or the odd ones.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn every_other<const WHICH: i32>(a: __m256, b: __m256) -> __m256 {
    let mixed = _mm256_castps_pd(_mm256_shuffle_ps::<WHICH>(a, b));
    _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(mixed))
}
