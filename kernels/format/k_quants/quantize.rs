//! Rounding to the K-quants: each group's scale (and minimum) is searched for, then both are rounded
//! to their few bits, then the weights against what was kept.
//! Where it is known how much each weight's error counts, the neighbours of a group's rounded scale and
//! minimum are tried too.

use super::super::search::{TINY, best_scale, best_scale_and_min, nearest, per_step};
use super::super::{extreme, f16_to_f32, f32_to_f16, planes};
use crate::SUPERBLOCK;

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

pub(in crate::format) fn q2_k(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    for (x, importance, block) in superblocks::<84>(src, importance, dst) {
        let q = shifted::<16>(x, importance, 3, 15);
        for (byte, (scale, min)) in block.iter_mut().zip(q.scales.iter().zip(q.mins)) {
            *byte = scale | min << 4;
        }
        planes::write::<2, 32>(&q.codes, &mut block[16..80], 0);
        block[80..82].copy_from_slice(&q.d);
        block[82..].copy_from_slice(&q.dmin);
    }
}

pub(in crate::format) fn q3_k(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    for (x, importance, block) in superblocks::<110>(src, importance, dst) {
        let q = scaled::<16>(x, importance, 4, 32);
        let scales = q.scales.map(|scale| (scale + 32) as u8);
        planes::write::<1, 32>(&q.codes, &mut block[..32], 2);
        planes::write::<2, 32>(&q.codes, &mut block[32..96], 0);
        planes::write::<4, 8>(&scales, &mut block[96..104], 0);
        planes::write::<2, 4>(&scales, &mut block[104..108], 4);
        block[108..].copy_from_slice(&q.d);
    }
}

pub(in crate::format) fn q4_k(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    for (x, importance, block) in superblocks::<144>(src, importance, dst) {
        let q = shifted::<8>(x, importance, 15, 63);
        write_header(&q, &mut block[..16]);
        planes::write::<4, 32>(&q.codes, &mut block[16..], 0);
    }
}

pub(in crate::format) fn q5_k(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    for (x, importance, block) in superblocks::<176>(src, importance, dst) {
        let q = shifted::<8>(x, importance, 31, 63);
        write_header(&q, &mut block[..16]);
        planes::write::<1, 32>(&q.codes, &mut block[16..48], 4);
        planes::write::<4, 32>(&q.codes, &mut block[48..], 0);
    }
}

pub(in crate::format) fn q6_k(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    for (x, importance, block) in superblocks::<210>(src, importance, dst) {
        let q = scaled::<16>(x, importance, 32, 128);
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
    importance: Option<&'a [f32]>,
    dst: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32; SUPERBLOCK], Option<&'a [f32]>, &'a mut [u8; BYTES])> {
    let blocks = src.as_chunks().0.iter().zip(dst.as_chunks_mut().0).enumerate();
    blocks.map(move |(i, (x, block))| {
        (x, importance.map(|all| &all[i * SUPERBLOCK..][..SUPERBLOCK]), block)
    })
}

/// The group of `len` weights.
fn group(importance: Option<&[f32]>, g: usize, len: usize) -> Option<&[f32]> {
    importance.map(|all| &all[g * len..][..len])
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

/// Codes `-half..half` under integer scales `-scale_half..scale_half`. The extreme weight, and the
/// extreme scale, become the lowest code: there is one more on that side.
fn scaled<const GROUPS: usize>(
    x: &[f32; SUPERBLOCK],
    importance: Option<&[f32]>,
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
    for (g, (scale, x)) in exact.iter_mut().zip(x.chunks_exact(len)).enumerate() {
        *scale = best_scale(x, half, group(importance, g, len));
    }
    let top = extreme(&exact);
    if top.abs() < TINY {
        return zero;
    }
    let inverse = -scale_half as f32 / top;
    let d = f32_to_f16(1.0 / inverse);
    let step = |scale: i32| f16_to_f32(d) * scale as f32;
    let code = |x: f32, inverse: f32| nearest(inverse * x).clamp(-half, half - 1);
    let mut q = Scaled { d, ..zero };
    for (g, (x, codes)) in x.chunks_exact(len).zip(q.codes.chunks_exact_mut(len)).enumerate() {
        let rounded =
            |by: i32| (nearest(inverse * exact[g]) + by).clamp(-scale_half, scale_half - 1);
        q.scales[g] = match group(importance, g, len) {
            None => rounded(0),
            Some(importance) => least([0, -1, 1].map(rounded), |scale| {
                let (step, inverse) = (step(*scale), per_step(step(*scale)));
                miss(x, importance, |x| step * code(x, inverse) as f32)
            }),
        };
        let inverse = per_step(step(q.scales[g]));
        for (to, x) in codes.iter_mut().zip(x) {
            *to = (code(*x, inverse) + half) as u8;
        }
    }
    q
}

/// Codes `0..=top` under integer scales and minimums `0..=scale_top`.
fn shifted<const GROUPS: usize>(
    x: &[f32; SUPERBLOCK],
    importance: Option<&[f32]>,
    top: u8,
    scale_top: u8,
) -> Shifted<GROUPS> {
    let (scales, mins, codes) = ([0; GROUPS], [0; GROUPS], [0; SUPERBLOCK]);
    let mut q = Shifted { d: [0; 2], dmin: [0; 2], scales, mins, codes };
    if extreme(x).is_nan() {
        q.d = f32_to_f16(f32::NAN);
        return q;
    }
    let len = SUPERBLOCK / GROUPS;
    let (mut exact, mut exact_mins) = ([0.0; GROUPS], [0.0; GROUPS]);
    for (g, x) in x.chunks_exact(len).enumerate() {
        (exact[g], exact_mins[g]) = best_scale_and_min(x, top, group(importance, g, len), false);
    }
    (q.d, q.scales) = small_integers(&exact, scale_top);
    (q.dmin, q.mins) = small_integers(&exact_mins, scale_top);
    let (d, dmin) = (f16_to_f32(q.d), f16_to_f32(q.dmin));
    let step = |scale: u8, min: u8| (d * f32::from(scale), dmin * f32::from(min));
    let code = |x: f32, inverse: f32, min: f32| nearest(inverse * (x + min)).clamp(0, top.into());
    for (g, (x, codes)) in x.chunks_exact(len).zip(q.codes.chunks_exact_mut(len)).enumerate() {
        if let Some(importance) = group(importance, g, len) {
            let near = |kept: u8, by: i32| (i32::from(kept) + by).clamp(0, scale_top.into()) as u8;
            let (scale, min) = (q.scales[g], q.mins[g]);
            let all = core::array::from_fn::<_, 9, _>(|i| [[0, -1, 1][i / 3], [0, -1, 1][i % 3]]);
            let all = all.map(|[a, b]| (near(scale, a), near(min, b)));
            (q.scales[g], q.mins[g]) = least(all, |(scale, min)| {
                let (step, min) = step(*scale, *min);
                let inverse = per_step(step);
                miss(x, importance, |x| step * code(x, inverse, min) as f32 - min)
            });
        }
        let (step, min) = step(q.scales[g], q.mins[g]);
        let inverse = per_step(step);
        for (to, x) in codes.iter_mut().zip(x) {
            *to = code(*x, inverse, min) as u8;
        }
    }
    q
}

/// The first of least cost.
fn least<T, const N: usize>(all: [T; N], cost: impl Fn(&T) -> f32) -> T
where
    T: Copy,
{
    let mut best = (all[0], cost(&all[0]));
    for one in &all[1..] {
        let cost = cost(one);
        if cost < best.1 {
            best = (*one, cost);
        }
    }
    best.0
}

/// Sum of squared errors, each times what it counts.
fn miss(x: &[f32], importance: &[f32], kept: impl Fn(f32) -> f32) -> f32 {
    let errors = x.iter().zip(importance).map(|(x, weight)| {
        let miss = kept(*x) - x;
        weight * miss * miss
    });
    errors.sum()
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
