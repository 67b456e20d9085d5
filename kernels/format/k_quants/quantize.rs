//! Rounding to the K-quants: each group's scale (and minimum) is searched for, then both are rounded
//! to their few bits, then the weights against what was kept.
//!
//! A search tries scales near the one that just covers the group, rounds the weights with each, and
//! keeps the least-squares fit of smallest error: the fit is what ggml's own quantisers aim at too.

use super::super::{extreme, f16_to_f32, f32_to_f16, planes};
use crate::{SUPERBLOCK, math};

/// Weights smaller than this are zero for every purpose: the inverse of their scale would overflow.
const TINY: f32 = 1e-30;

/// `GROUPS` groups of a superblock on their way to a format without minimums.
struct Scaled<const GROUPS: usize> {
    d: [u8; 2],
    /// Integer scales.
    scales: [i32; GROUPS],
    /// Unsigned codes.
    codes: [u8; SUPERBLOCK],
}

/// ... and to one with them.
struct Shifted<const GROUPS: usize> {
    d: [u8; 2],
    dmin: [u8; 2],
    scales: [u8; GROUPS],
    mins: [u8; GROUPS],
    codes: [u8; SUPERBLOCK],
}

pub(in crate::format) fn q2_k(src: &[f32], dst: &mut [u8]) {
    for (x, block) in superblocks::<84>(src, dst) {
        let q = shifted::<16>(x, 3, 15);
        for (byte, (scale, min)) in block.iter_mut().zip(q.scales.iter().zip(q.mins)) {
            *byte = scale | min << 4;
        }
        planes::write::<2, 32>(&q.codes, &mut block[16..80], 0);
        block[80..82].copy_from_slice(&q.d);
        block[82..].copy_from_slice(&q.dmin);
    }
}

pub(in crate::format) fn q3_k(src: &[f32], dst: &mut [u8]) {
    for (x, block) in superblocks::<110>(src, dst) {
        let q = scaled::<16>(x, 4, 32);
        let scales = q.scales.map(|scale| (scale + 32) as u8);
        planes::write::<1, 32>(&q.codes, &mut block[..32], 2);
        planes::write::<2, 32>(&q.codes, &mut block[32..96], 0);
        planes::write::<4, 8>(&scales, &mut block[96..104], 0);
        planes::write::<2, 4>(&scales, &mut block[104..108], 4);
        block[108..].copy_from_slice(&q.d);
    }
}

pub(in crate::format) fn q4_k(src: &[f32], dst: &mut [u8]) {
    for (x, block) in superblocks::<144>(src, dst) {
        let q = shifted::<8>(x, 15, 63);
        write_header(&q, &mut block[..16]);
        planes::write::<4, 32>(&q.codes, &mut block[16..], 0);
    }
}

pub(in crate::format) fn q5_k(src: &[f32], dst: &mut [u8]) {
    for (x, block) in superblocks::<176>(src, dst) {
        let q = shifted::<8>(x, 31, 63);
        write_header(&q, &mut block[..16]);
        planes::write::<1, 32>(&q.codes, &mut block[16..48], 4);
        planes::write::<4, 32>(&q.codes, &mut block[48..], 0);
    }
}

pub(in crate::format) fn q6_k(src: &[f32], dst: &mut [u8]) {
    for (x, block) in superblocks::<210>(src, dst) {
        let q = scaled::<16>(x, 32, 128);
        planes::write::<4, 64>(&q.codes, &mut block[..128], 0);
        planes::write::<2, 32>(&q.codes, &mut block[128..192], 4);
        for (byte, scale) in block[192..208].iter_mut().zip(q.scales) {
            *byte = scale as i8 as u8;
        }
        block[208..].copy_from_slice(&q.d);
    }
}

fn superblocks<'a, const BYTES: usize>(
    src: &'a [f32],
    dst: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32; SUPERBLOCK], &'a mut [u8; BYTES])> {
    src.as_chunks().0.iter().zip(dst.as_chunks_mut().0)
}

/// The first 16 bytes of Q4_K and Q5_K, as they are read beside.
fn write_header(q: &Shifted<8>, header: &mut [u8]) {
    header[..2].copy_from_slice(&q.d);
    header[2..4].copy_from_slice(&q.dmin);
    let packed = &mut header[4..];
    for g in 0..4 {
        packed[g] = q.scales[g] | q.scales[g + 4] >> 4 << 6;
        packed[g + 4] = q.mins[g] | q.mins[g + 4] >> 4 << 6;
        packed[g + 8] = q.scales[g + 4] & 15 | q.mins[g + 4] << 4;
    }
}

/// Nearest integer, halves away from zero.
fn nearest(x: f32) -> i32 {
    (x + if x < 0.0 { -0.5 } else { 0.5 }) as i32
}

/// Codes `-half..half` under integer scales `-scale_half..scale_half`. The extreme weight, and the
/// extreme scale, become the lowest code: there is one more on that side.
fn scaled<const GROUPS: usize>(
    x: &[f32; SUPERBLOCK],
    half: i32,
    scale_half: i32,
) -> Scaled<GROUPS> {
    let zero = Scaled { d: [0; 2], scales: [0; GROUPS], codes: [half as u8; SUPERBLOCK] };
    let largest = extreme(x);
    if largest.is_nan() {
        return Scaled { d: f32_to_f16(f32::NAN), ..zero };
    }
    let len = SUPERBLOCK / GROUPS;
    let mut exact = [0.0; GROUPS];
    for (scale, x) in exact.iter_mut().zip(x.chunks_exact(len)) {
        *scale = best_scale(x, half);
    }
    let top = extreme(&exact);
    if top.abs() < TINY {
        return zero;
    }
    let inverse = -scale_half as f32 / top;
    let d = f32_to_f16(1.0 / inverse);
    let mut q = Scaled { d, ..zero };
    let groups = x.chunks_exact(len).zip(q.codes.chunks_exact_mut(len));
    for ((x, codes), (scale, exact)) in groups.zip(q.scales.iter_mut().zip(exact)) {
        *scale = nearest(inverse * exact).clamp(-scale_half, scale_half - 1);
        let step = f16_to_f32(d) * *scale as f32;
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        for (code, x) in codes.iter_mut().zip(x) {
            *code = (nearest(inverse * x).clamp(-half, half - 1) + half) as u8;
        }
    }
    q
}

/// The scale for which codes `-half..half` come nearest to a group, large weights counting more.
fn best_scale(x: &[f32], half: i32) -> f32 {
    let largest = extreme(x);
    if largest.abs() < TINY {
        return 0.0;
    }
    let (mut best, mut gain) = (0.0, 0.0);
    for step in -9..=9 {
        let inverse = -(half as f32 + 0.1 * step as f32) / largest;
        let (mut products, mut squares) = (0f32, 0f32);
        for x in x {
            let code = nearest(inverse * x).clamp(-half, half - 1) as f32;
            // Relative to the largest weight, so that nothing overflows.
            let (weight, x) = ((x / largest) * (x / largest), x / largest);
            products += weight * x * code;
            squares += weight * code * code;
        }
        if squares > 0.0 && products * products > gain * squares {
            gain = products * products / squares;
            best = products / squares * largest;
        }
    }
    best
}

/// Codes `0..=top` under integer scales and minimums `0..=scale_top`.
fn shifted<const GROUPS: usize>(x: &[f32; SUPERBLOCK], top: u8, scale_top: u8) -> Shifted<GROUPS> {
    let (scales, mins, codes) = ([0; GROUPS], [0; GROUPS], [0; SUPERBLOCK]);
    let mut q = Shifted { d: [0; 2], dmin: [0; 2], scales, mins, codes };
    if extreme(x).is_nan() {
        q.d = f32_to_f16(f32::NAN);
        return q;
    }
    let len = SUPERBLOCK / GROUPS;
    let (mut exact, mut exact_mins) = ([0.0; GROUPS], [0.0; GROUPS]);
    for (g, x) in x.chunks_exact(len).enumerate() {
        (exact[g], exact_mins[g]) = best_scale_and_min(x, top);
    }
    (q.d, q.scales) = small_integers(&exact, scale_top);
    (q.dmin, q.mins) = small_integers(&exact_mins, scale_top);
    let (d, dmin) = (f16_to_f32(q.d), f16_to_f32(q.dmin));
    let groups = x.chunks_exact(len).zip(q.codes.chunks_exact_mut(len));
    for ((x, codes), (scale, min)) in groups.zip(q.scales.iter().zip(q.mins)) {
        let (step, min) = (d * f32::from(*scale), dmin * f32::from(min));
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        for (code, x) in codes.iter_mut().zip(x) {
            *code = nearest(inverse * (x + min)).clamp(0, top.into()) as u8;
        }
    }
    q
}

/// Positive values as integers `0..=top` under one scale.
fn small_integers<const N: usize>(values: &[f32; N], top: u8) -> ([u8; 2], [u8; N]) {
    let largest = values.iter().fold(0f32, |m, v| m.max(*v));
    if largest < TINY {
        return ([0; 2], [0; N]);
    }
    let inverse = f32::from(top) / largest;
    let integers = values.map(|v| nearest(inverse * v).clamp(0, top.into()) as u8);
    (f32_to_f16(largest / f32::from(top)), integers)
}

/// The scale and the minimum, at least 0 and subtracted, for which codes `0..=top` come nearest to a
/// group.
fn best_scale_and_min(x: &[f32], top: u8) -> (f32, f32) {
    let least = x.iter().fold(0f32, |m, v| m.min(*v));
    let range = x.iter().fold(least, |m, v| m.max(*v)) - least;
    if range < TINY {
        return (0.0, -least);
    }
    // Worked out relative to the range, so that nothing overflows.
    let mean_square = x.iter().map(|v| (v / range) * (v / range)).sum::<f32>() / x.len() as f32;
    let spread = math::sqrt(mean_square);
    let mut best = (1.0 / f32::from(top), -least / range);
    let mut least_error = f32::INFINITY;
    for step in 0..=20 {
        // Coarse codes gain little from a scale that covers more than the group.
        let stretch = if top < 15 { -0.5 } else { -1.0 } + 0.1 * step as f32;
        let inverse = f32::from(top) + stretch;
        let code = |v: f32| nearest(inverse * (v - least / range)).clamp(0, top.into()) as f32;
        let fit = fit(x, range, spread, code);
        if fit.error < least_error {
            (least_error, best) = (fit.error, (fit.scale, fit.min));
        }
    }
    (best.0 * range, best.1 * range)
}

struct Fit {
    scale: f32,
    /// Subtracted.
    min: f32,
    error: f32,
}

/// Weighted least squares of `scale * code - min` to the weights over `range`.
fn fit(x: &[f32], range: f32, spread: f32, code: impl Fn(f32) -> f32) -> Fit {
    let [mut w, mut wx, mut wc, mut wcc, mut wxc] = [0f32; 5];
    for x in x {
        let x = x / range;
        let (weight, code) = (spread + x.abs(), code(x));
        w += weight;
        wx += weight * x;
        wc += weight * code;
        wcc += weight * code * code;
        wxc += weight * x * code;
    }
    let determinant = w * wcc - wc * wc;
    if determinant <= 0.0 {
        return Fit { scale: 0.0, min: 0.0, error: f32::INFINITY };
    }
    let (mut scale, mut min) =
        ((w * wxc - wx * wc) / determinant, (wc * wxc - wcc * wx) / determinant);
    if min < 0.0 {
        (scale, min) = (wxc / wcc, 0.0);
    }
    let error = x.iter().map(|x| {
        let x = x / range;
        let miss = scale * code(x) - min - x;
        (spread + x.abs()) * miss * miss
    });
    Fit { scale, min, error: error.sum() }
}
