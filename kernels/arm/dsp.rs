//! The DSP extension (Cortex-M4, M7, and M33 where it was bought): two products of 16 bits and their
//! sums in one instruction.
//!
//! Bytes are widened to pairs of 16 bits, even ones and odd ones of a word apart, as `sxtb16` does it.
//! Two rows at a time share what that costs for the activations.

use super::instructions::{add_byte_products, add_products, halves, widen};
use crate::activation::{ACTIVATION_BYTES, Block};
use crate::format::Format;
use crate::isa::{Isa, MatVec, PACKED_BYTES, Panel, PanelArgs, WeightedSum};
use crate::{scalar, tree};

pub(crate) static DSP: Isa = Isa {
    name: "dsp",
    supported: || true,
    matvec: MATVEC,
    panel: PANEL,
    weighted_sum: WEIGHTED_SUM,
    ..scalar::BASE
};

const MATVEC: [MatVec; Format::COUNT] = {
    let mut table = scalar::BASE.matvec;
    table[Format::F16 as usize] = super::halves::matvec;
    table[Format::Q8_0 as usize] = matvec::<Q8_0, 34>;
    table[Format::Q4_0 as usize] = matvec::<Q4_0, 18>;
    table
};

const PANEL: [Panel; Format::COUNT] = {
    let mut table = scalar::BASE.panel;
    table[Format::F16 as usize] = super::halves::panel;
    table[Format::Q8_0 as usize] = panel::<Q8_0, 34>;
    table[Format::Q4_0 as usize] = panel::<Q4_0, 18>;
    table
};

const WEIGHTED_SUM: [WeightedSum; Format::COUNT] = {
    let mut table = scalar::BASE.weighted_sum;
    table[Format::F16 as usize] = super::halves::weighted_sum;
    table
};

/// A format of blocks of 32 weights under one f16 scale, `BYTES` a block.
trait Blocks<const BYTES: usize> {
    /// Products of the blocks of `N` rows with the same 32 activations, each row's sum; `sum` is that
    /// of the activations.
    fn products<const N: usize>(w: [&[u8; BYTES]; N], x: &[u8; 32], sum: i32) -> [i32; N];
}

struct Q8_0;
struct Q4_0;

impl Blocks<34> for Q8_0 {
    #[inline(always)]
    fn products<const N: usize>(w: [&[u8; 34]; N], x: &[u8; 32], _: i32) -> [i32; N] {
        let mut sums = [0; N];
        for i in 0..8 {
            let x = widen(word(x, 4 * i));
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = add_byte_products(word(w, 2 + 4 * i), x, *sum);
            }
        }
        sums
    }
}

impl Blocks<18> for Q4_0 {
    #[inline(always)]
    fn products<const N: usize>(w: [&[u8; 18]; N], x: &[u8; 32], sum: i32) -> [i32; N] {
        let mut sums = [-8 * sum; N];
        for i in 0..4 {
            // Low nibbles are the first 16 weights, high nibbles the last.
            let (first, last) = (widen(word(x, 4 * i)), widen(word(x, 16 + 4 * i)));
            for (sum, w) in sums.iter_mut().zip(w) {
                let w = word(w, 2 + 4 * i);
                let nibbles = |shift: u32| w >> shift & 0x000f_000f;
                *sum = add_products(nibbles(0), first[0], *sum);
                *sum = add_products(nibbles(8), first[1], *sum);
                *sum = add_products(nibbles(4), last[0], *sum);
                *sum = add_products(nibbles(12), last[1], *sum);
            }
        }
        sums
    }
}

fn matvec<F: Blocks<BYTES>, const BYTES: usize>(w: &[u8], x: &[u8], out: &mut [f32]) {
    rows::<F, BYTES, ACTIVATION_BYTES>(w, x, out);
}

fn panel<F: Blocks<BYTES>, const BYTES: usize>(args: PanelArgs<'_>) {
    let column_bytes = Isa::packed_bytes(args.format, args.len);
    for (c, out) in args.out.chunks_exact_mut(args.rows).enumerate() {
        rows::<F, BYTES, PACKED_BYTES>(args.w, &args.x[c * column_bytes..][..column_bytes], out);
    }
}

/// Rows by a column whose superblocks lie `STRIDE` bytes apart.
fn rows<F: Blocks<BYTES>, const BYTES: usize, const STRIDE: usize>(
    w: &[u8],
    x: &[u8],
    out: &mut [f32],
) {
    let blocks = w.len() / out.len() / BYTES;
    let (w, x) = (w.as_chunks::<BYTES>().0, x.as_chunks::<STRIDE>().0);
    let (pairs, last) = out.as_chunks_mut::<2>();
    let mut w = w.chunks_exact(blocks);
    for out in pairs {
        if let (Some(a), Some(b)) = (w.next(), w.next()) {
            *out = dot::<F, BYTES, STRIDE, 2>([a, b], x);
        }
    }
    if let ([out], Some(a)) = (last, w.next()) {
        [*out] = dot::<F, BYTES, STRIDE, 1>([a], x);
    }
}

/// Dot products of `N` rows with one column.
fn dot<F: Blocks<BYTES>, const BYTES: usize, const STRIDE: usize, const N: usize>(
    w: [&[[u8; BYTES]]; N],
    x: &[[u8; STRIDE]],
) -> [f32; N] {
    let mut rows = w.map(|blocks| (blocks, [0f32; 8]));
    for x in x {
        let Some(x) = x.first_chunk().map(Block) else { continue };
        let scale = x.scale();
        for (lane, codes) in x.codes().as_chunks::<32>().0.iter().enumerate().take(rows[0].0.len())
        {
            let w = rows.each_ref().map(|(blocks, _)| &blocks[lane]);
            let sum = x.sum(2 * lane) + x.sum(2 * lane + 1);
            let products = F::products(w, codes, sum);
            for (n, (_, lanes)) in rows.iter_mut().enumerate() {
                lanes[lane] += products[n] as f32 * (scale_of(w[n]) * scale);
            }
        }
        rows.iter_mut().for_each(|(blocks, _)| *blocks = blocks.get(8..).unwrap_or(&[]));
    }
    rows.map(|(_, lanes)| tree(lanes))
}

/// A block begins with its scale.
#[inline(always)]
fn scale_of(block: &[u8]) -> f32 {
    halves(u32::from(u16::from_le_bytes([block[0], block[1]])))[0]
}

/// The four bytes from `at` on.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
