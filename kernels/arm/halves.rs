//! Weights of half precision, as the keys and values of a cache are: two are converted at a time.

use super::instructions::halves;
use crate::isa::{Isa, PanelArgs};
use crate::{FLOAT_LANES, tree};

/// Halves that are worked on together: one a lane.
const BYTES: usize = 2 * FLOAT_LANES;

pub(super) fn matvec(w: &[u8], x: &[u8], out: &mut [f32]) {
    let row_bytes = w.len() / out.len();
    for (w, y) in w.chunks_exact(row_bytes).zip(out) {
        *y = dot(w, x);
    }
}

pub(super) fn panel(args: PanelArgs<'_>) {
    let column_bytes = Isa::packed_bytes(args.format, args.len);
    for (c, out) in args.out.chunks_exact_mut(args.rows).enumerate() {
        matvec(args.w, &args.x[c * column_bytes..][..column_bytes], out);
    }
}

fn dot(w: &[u8], x: &[u8]) -> f32 {
    let mut lanes = [0f32; FLOAT_LANES];
    let (w, w_rest) = w.as_chunks::<BYTES>();
    let (x, x_rest) = x.as_chunks::<{ 2 * BYTES }>();
    for (w, x) in w.iter().zip(x) {
        add(&mut lanes, w, |i| f32::from_le_bytes(x.as_chunks().0[i]));
    }
    if !w_rest.is_empty() {
        // Zeros change no sum that began with zero.
        let mut w = [0; BYTES];
        w[..w_rest.len()].copy_from_slice(w_rest);
        let x = x_rest.as_chunks().0;
        add(&mut lanes, &w, |i| x.get(i).map_or(0.0, |x| f32::from_le_bytes(*x)));
    }
    tree(lanes)
}

pub(super) fn weighted_sum(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize) {
    let (width, count) = (out.len() / cols, weights.len() / cols);
    for (c, out) in out.chunks_exact_mut(width).enumerate() {
        let weights = &weights[c * count..][..count];
        // Sums stay in registers while all rows go by.
        for (b, out) in out.chunks_mut(FLOAT_LANES).enumerate() {
            let mut sums = [0f32; FLOAT_LANES];
            for (row, weight) in rows.chunks_exact(2 * width).zip(weights) {
                let row = &row[b * BYTES..];
                match row.first_chunk() {
                    Some(row) => add(&mut sums, row, |_| *weight),
                    None => {
                        let mut padded = [0; BYTES];
                        padded[..row.len()].copy_from_slice(row);
                        add(&mut sums, &padded, |_| *weight);
                    }
                }
            }
            out.copy_from_slice(&sums[..out.len()]);
        }
    }
}

/// `lanes[i] += w[i] * x(i)`.
#[inline(always)]
fn add(lanes: &mut [f32; FLOAT_LANES], w: &[u8; BYTES], x: impl Fn(usize) -> f32) {
    let words = w.as_chunks().0.iter().map(|word| halves(u32::from_le_bytes(*word)));
    for ((i, lanes), w) in lanes.as_chunks_mut::<2>().0.iter_mut().enumerate().zip(words) {
        lanes[0] += w[0] * x(2 * i);
        lanes[1] += w[1] * x(2 * i + 1);
    }
}
