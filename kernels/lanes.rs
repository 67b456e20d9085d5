//! The float loops of [`crate::scalar`], written over fixed lanes.
//!
//! Each body is plain Rust and `#[inline(always)]`: an instruction set wraps it in a
//! `#[target_feature]` function and the compiler turns the lanes into registers. It never reorders
//! float arithmetic, so every wrapping gives the same bits.

use crate::math;

/// Partial sums of a float reduction; lane `l` takes the terms `i % FLOAT_LANES == l`.
pub const FLOAT_LANES: usize = 16;

/// Adds lanes pairwise, upper half onto lower half, until one is left: the one summation order.
#[inline(always)]
pub fn tree<const N: usize>(mut lanes: [f32; N]) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// `sum(f(i))` over `0..len` in lanes, absent terms of the last round being zero.
#[inline(always)]
fn sum_lanes(len: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; FLOAT_LANES];
    let whole = len - len % FLOAT_LANES;
    let mut i = 0;
    while i < whole {
        for (l, lane) in lanes.iter_mut().enumerate() {
            *lane += term(i + l);
        }
        i += FLOAT_LANES;
    }
    for (l, lane) in lanes.iter_mut().enumerate() {
        if i + l < len {
            *lane += term(i + l);
        }
    }
    tree(lanes)
}

/// `x = x / sqrt(mean(x^2) + eps) * weight`, the weight 1 where absent (RMSNorm, arXiv 1910.07467).
#[inline(always)]
pub(crate) fn rms_norm(x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
    let n = x.len();
    let scale = 1.0 / math::sqrt(sum_lanes(n, |i| x[i] * x[i]) / n as f32 + eps);
    normalize(x, weight, |v| v * scale);
}

/// `x = (x - mean) / sqrt(variance + eps) * weight` (layer normalisation, arXiv 1607.06450).
#[inline(always)]
pub(crate) fn layer_norm(x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
    let n = x.len();
    let mean = sum_lanes(n, |i| x[i]) / n as f32;
    let variance = sum_lanes(n, |i| (x[i] - mean) * (x[i] - mean)) / n as f32;
    let scale = 1.0 / math::sqrt(variance + eps);
    normalize(x, weight, |v| (v - mean) * scale);
}

#[inline(always)]
fn normalize(x: &mut [f32], weight: Option<&[f32]>, value: impl Fn(f32) -> f32) {
    match weight {
        Some(w) => x.iter_mut().zip(w).for_each(|(v, w)| *v = value(*v) * w),
        None => x.iter_mut().for_each(|v| *v = value(*v)),
    }
}

/// `x = exp(x - max x) / sum exp(x - max x)`, in place.
#[inline(always)]
pub(crate) fn softmax(x: &mut [f32]) {
    let mut tops = [f32::NEG_INFINITY; FLOAT_LANES];
    for x in x.chunks(FLOAT_LANES) {
        for (top, v) in tops.iter_mut().zip(x) {
            *top = if *v > *top { *v } else { *top };
        }
    }
    let max = tops.into_iter().fold(f32::NEG_INFINITY, |m, v| if v > m { v } else { m });
    for v in x.iter_mut() {
        *v = math::exp(*v - max);
    }
    let scale = 1.0 / sum_lanes(x.len(), |i| x[i]);
    for v in x.iter_mut() {
        *v *= scale;
    }
}

/// `gate = gate * sigmoid(gate) * up` (SwiGLU, arXiv 2002.05202), in place.
#[inline(always)]
pub(crate) fn swiglu(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        *g = *g / (1.0 + math::exp(-*g)) * u;
    }
}
