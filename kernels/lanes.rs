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

/// `sum(term(x))` in lanes, absent terms of the last round being zero.
#[inline(always)]
fn sum_lanes(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; FLOAT_LANES];
    let (whole, rest) = x.as_chunks::<FLOAT_LANES>();
    for x in whole {
        lanes.iter_mut().zip(x).for_each(|(lane, v)| *lane += term(*v));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, v)| *lane += term(*v));
    tree(lanes)
}

/// `x = value(x)` for each of `x`, also those after the last whole round as a round.
#[inline(always)]
fn map(x: &mut [f32], value: impl Fn(f32) -> f32) {
    let (whole, rest) = x.as_chunks_mut::<FLOAT_LANES>();
    whole.iter_mut().for_each(|x| x.iter_mut().for_each(|v| *v = value(*v)));
    let mut last = [0f32; FLOAT_LANES];
    last[..rest.len()].copy_from_slice(rest);
    last.iter_mut().for_each(|v| *v = value(*v));
    rest.copy_from_slice(&last[..rest.len()]);
}

/// `x = x / sqrt(mean(x^2) + eps) * weight`, the weight 1 where absent (RMSNorm, arXiv 1910.07467).
#[inline(always)]
pub(crate) fn rms_norm(x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
    let n = x.len() as f32;
    let scale = 1.0 / math::sqrt(sum_lanes(x, |v| v * v) / n + eps);
    normalize(x, weight, |v| v * scale);
}

/// `x = (x - mean) / sqrt(variance + eps) * weight` (layer normalisation, arXiv 1607.06450).
#[inline(always)]
pub(crate) fn layer_norm(x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
    let n = x.len() as f32;
    let mean = sum_lanes(x, |v| v) / n;
    let variance = sum_lanes(x, |v| (v - mean) * (v - mean)) / n;
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
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let mut tops = [f32::NEG_INFINITY; FLOAT_LANES];
    let (whole, rest) = x.as_chunks::<FLOAT_LANES>();
    for x in whole {
        tops.iter_mut().zip(x).for_each(|(top, v)| *top = greater(*top, *v));
    }
    tops.iter_mut().zip(rest).for_each(|(top, v)| *top = greater(*top, *v));
    let max = tops.into_iter().fold(f32::NEG_INFINITY, greater);
    map(x, |v| math::exp(v - max));
    let scale = 1.0 / sum_lanes(x, |v| v);
    map(x, |v| v * scale);
}

/// `x = x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))`, in place: GELU by the hyperbolic tangent (arXiv
/// 1606.08415), as half of one and a tangent is a sigmoid of twice its argument.
#[inline(always)]
pub(crate) fn gelu(x: &mut [f32]) {
    const TWICE_ROOT: f32 = 1.595_769_2;
    map(x, |v| v / (1.0 + math::exp(-TWICE_ROOT * (v + 0.044715 * (v * v * v)))));
}

/// `gate = gate * sigmoid(gate) * up` (SwiGLU, arXiv 2002.05202), in place.
#[inline(always)]
pub(crate) fn swiglu(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        *g = *g / (1.0 + math::exp(-*g)) * u;
    }
}
