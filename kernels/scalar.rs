//! The reference: plain loops that say what each kernel means. Clarity over speed.

use crate::activation::{ACTIVATION_BYTES, Block, SUPERBLOCK};
use crate::format::{FORMATS, FormatInfo, Layout, Superblock, f16_to_f32};
use crate::isa::{Isa, MatVec, PACKED_BYTES, Panel, PanelArgs, WeightedSum};
use crate::{FLOAT_LANES, Format, activation, lanes, tree};

pub(crate) static ISA: Isa = BASE;

/// What every other instruction set starts from: `Isa { matvec, ..scalar::BASE }`.
pub(crate) const BASE: Isa = Isa {
    name: "scalar",
    supported: || true,
    matvec: MATVEC,
    panel: [panel as Panel; Format::COUNT],
    pack,
    weighted_sum: WEIGHTED_SUM,
    quantize: activation::quantize,
    rms_norm: lanes::rms_norm,
    layer_norm: lanes::layer_norm,
    softmax: lanes::softmax,
    gelu: lanes::gelu,
    swiglu: lanes::swiglu,
};

/// One entry per format, in the order of [`Format`]; the constant picks the format for a generic body.
macro_rules! per_format {
    ($body:ident) => {
        [
            $body::<{ Format::F32 as usize }>,
            $body::<{ Format::F16 as usize }>,
            $body::<{ Format::BF16 as usize }>,
            $body::<{ Format::Q8_0 as usize }>,
            $body::<{ Format::Q4_0 as usize }>,
            $body::<{ Format::Q4_1 as usize }>,
            $body::<{ Format::Q5_0 as usize }>,
            $body::<{ Format::Q5_1 as usize }>,
            $body::<{ Format::Q2_K as usize }>,
            $body::<{ Format::Q3_K as usize }>,
            $body::<{ Format::Q4_K as usize }>,
            $body::<{ Format::Q5_K as usize }>,
            $body::<{ Format::Q6_K as usize }>,
        ]
    };
}

const MATVEC: [MatVec; Format::COUNT] = per_format!(matvec);

const WEIGHTED_SUM: [WeightedSum; Format::COUNT] = {
    let mut table: [WeightedSum; Format::COUNT] = [weighted_sum_f32; Format::COUNT];
    table[Format::F16 as usize] = weighted_sum_f16;
    table[Format::Q8_0 as usize] = weighted_sum_q8_0;
    table
};

fn matvec<const FORMAT: usize>(w: &[u8], x: &[u8], out: &mut [f32]) {
    let row_bytes = w.len() / out.len();
    for (w, y) in w.chunks_exact(row_bytes).zip(out) {
        *y = dot_row::<ACTIVATION_BYTES>(&FORMATS[FORMAT], w, x);
    }
}

/// Dot product of a row with activations that lie `STRIDE` bytes a superblock, where they lie in any.
fn dot_row<const STRIDE: usize>(info: &FormatInfo, w: &[u8], x: &[u8]) -> f32 {
    let Layout::Float { value, bytes, .. } = info.layout else {
        return dot_blocks::<STRIDE>(info, w, x);
    };
    let mut lanes = [0f32; FLOAT_LANES];
    for (i, (w, x)) in w.chunks_exact(bytes).zip(x.as_chunks::<4>().0).enumerate() {
        lanes[i % FLOAT_LANES] += value(w) * f32::from_le_bytes(*x);
    }
    tree(lanes)
}

/// Dot product of a block format with activations that lie `STRIDE` bytes a superblock.
fn dot_blocks<const STRIDE: usize>(info: &FormatInfo, w: &[u8], x: &[u8]) -> f32 {
    let mut lanes = [0f32; 8];
    for (w, x) in w.chunks(info.superblock_bytes()).zip(x.as_chunks::<STRIDE>().0) {
        if let Some(x) = x.first_chunk() {
            add_superblock(info, w, Block(x), &mut lanes);
        }
    }
    tree(lanes)
}

/// Lanes and groups as the crate's page says; groups beyond the end of a row would add zeros.
fn add_superblock(info: &FormatInfo, w: &[u8], x: Block<'_>, lanes: &mut [f32; 8]) {
    let mut block = Superblock::ZERO;
    info.unpack(w, &mut block);
    let len = w.len() / info.block_bytes * info.block_len;
    let (group, parts) = (info.group_len(), info.group_len() / 16);
    for g in 0..len / group {
        let parts = g * parts..(g + 1) * parts;
        let sum: i32 = parts.clone().map(|i| x.sum(i)).sum();
        let products: i32 = parts.map(|i| products(&block.codes, x.codes(), i)).sum();
        let lane = &mut lanes[g * group / 32];
        *lane += (products - info.offset() * sum) as f32 * (block.scale[g] * x.scale());
        if info.has_min() {
            *lane -= block.min[g] * (x.scale() * sum as f32);
        }
    }
}

/// Sum of the products of the `i`-th 16 weights and activations.
fn products(w: &[u8; SUPERBLOCK], x: &[u8; SUPERBLOCK], i: usize) -> i32 {
    let (w, x) = (&w.as_chunks::<16>().0[i], &x.as_chunks::<16>().0[i]);
    w.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x as i8)).sum()
}

/// A packed column is the column itself here: only a panel that reads wide needs more.
fn pack(_: Format, x: &[u8], out: &mut [u8]) {
    for (x, out) in x.chunks_exact(ACTIVATION_BYTES).zip(out.chunks_exact_mut(PACKED_BYTES)) {
        out[..ACTIVATION_BYTES].copy_from_slice(x);
    }
}

fn panel(args: PanelArgs<'_>) {
    let info = args.format.info();
    let row_bytes = info.row_bytes(args.len);
    let column_bytes = Isa::packed_bytes(args.format, args.len);
    for (c, out) in args.out.chunks_exact_mut(args.rows).enumerate() {
        let column = &args.x[c * column_bytes..][..column_bytes];
        for (w, y) in args.w.chunks_exact(row_bytes).zip(out) {
            *y = dot_row::<PACKED_BYTES>(info, w, column);
        }
    }
}

fn weighted_sum_f32(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize) {
    weighted_sum_float::<4>(out, rows, weights, cols, |b| f32::from_le_bytes(*b));
}

fn weighted_sum_f16(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize) {
    weighted_sum_float::<2>(out, rows, weights, cols, |b| f16_to_f32(*b));
}

fn weighted_sum_float<const BYTES: usize>(
    out: &mut [f32],
    rows: &[u8],
    weights: &[f32],
    cols: usize,
    value: fn(&[u8; BYTES]) -> f32,
) {
    each_row(out, rows, weights, cols, |out, row, weight| {
        for (y, v) in out.iter_mut().zip(row.as_chunks::<BYTES>().0) {
            *y += weight * value(v);
        }
    });
}

fn weighted_sum_q8_0(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize) {
    each_row(out, rows, weights, cols, |out, row, weight| {
        for (out, block) in out.as_chunks_mut::<32>().0.iter_mut().zip(row.as_chunks::<34>().0) {
            let scale = f16_to_f32([block[0], block[1]]);
            for (y, code) in out.iter_mut().zip(&block[2..]) {
                *y += weight * (scale * f32::from(*code as i8));
            }
        }
    });
}

/// Calls `add` with each column, from zeros on, and each row and its weight.
#[inline(always)]
fn each_row(
    out: &mut [f32],
    rows: &[u8],
    weights: &[f32],
    cols: usize,
    add: impl Fn(&mut [f32], &[u8], f32),
) {
    let (width, count) = (out.len() / cols, weights.len() / cols);
    out.fill(0.0);
    for (out, weights) in out.chunks_exact_mut(width).zip(weights.chunks_exact(count.max(1))) {
        for (weight, row) in weights.iter().zip(rows.chunks_exact(rows.len() / count.max(1))) {
            add(out, row, *weight);
        }
    }
}
