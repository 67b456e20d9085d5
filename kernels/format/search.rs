//! The search for scales and minimums under which integer codes come nearest to a group of weights.
//!
//! It tries scales near the one that just covers the group, rounds the weights with each, and keeps
//! the least-squares fit of smallest error: the fit is what ggml's own quantisers aim at too. How much
//! the error of a weight counts is given, or large weights count more.

use super::extreme;
use crate::math;

/// Weights smaller than this are zero for every purpose: the inverse of their scale would overflow.
pub(super) const TINY: f32 = 1e-30;

/// Nearest integer, halves away from zero.
pub(super) fn nearest(x: f32) -> i32 {
    (x + if x < 0.0 { -0.5 } else { 0.5 }) as i32
}

/// What to multiply by to get codes of this step.
pub(super) fn per_step(step: f32) -> f32 {
    if step == 0.0 { 0.0 } else { 1.0 / step }
}

/// The scale for which codes `-half..half` come nearest to a group.
pub(super) fn best_scale(x: &[f32], half: i32, importance: Option<&[f32]>) -> f32 {
    let steps = |from: i32, to: i32| (from..=to).map(move |step| half as f32 + 0.1 * step as f32);
    match importance {
        None => scale_by(x, half, steps(-9, 9), |_, x| x * x),
        // Extremes may count for little: they are cut off, or left to the shorter side.
        Some(importance) => {
            let both = steps(-30, 30).flat_map(|top| [top, -top]);
            scale_by(x, half, both, |i, _| importance[i])
        }
    }
}

/// Tries scales that make the largest weight minus one of `tops`. `weight` is told the place of a value,
/// and the value relative to the largest.
fn scale_by(
    x: &[f32],
    half: i32,
    tops: impl Iterator<Item = f32>,
    weight: impl Fn(usize, f32) -> f32,
) -> f32 {
    let largest = extreme(x);
    if largest.abs() < TINY {
        return 0.0;
    }
    let (mut best, mut gain) = (0.0, 0.0);
    for top in tops {
        let inverse = -top / largest;
        let (mut products, mut squares) = (0f32, 0f32);
        for (i, x) in x.iter().enumerate() {
            let code = nearest(inverse * x).clamp(-half, half - 1) as f32;
            // Relative to the largest weight, so that nothing overflows.
            let x = x / largest;
            let weight = weight(i, x);
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

/// The scale and the minimum, subtracted, for which codes `0..=top` come nearest to a group. The minimum
/// is at least 0 unless it may be `signed`.
pub(super) fn best_scale_and_min(
    x: &[f32],
    top: u8,
    importance: Option<&[f32]>,
    signed: bool,
) -> (f32, f32) {
    let least = match signed {
        true => x.iter().fold(f32::INFINITY, |m, v| m.min(*v)),
        false => x.iter().fold(0f32, |m, v| m.min(*v)),
    };
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
        let fit = match importance {
            None => fit(x, range, signed, |_, x| spread + x.abs(), code),
            Some(importance) => fit(x, range, signed, |i, _| importance[i], code),
        };
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
fn fit(
    x: &[f32],
    range: f32,
    signed: bool,
    weight: impl Fn(usize, f32) -> f32,
    code: impl Fn(f32) -> f32,
) -> Fit {
    let [mut w, mut wx, mut wc, mut wcc, mut wxc] = [0f32; 5];
    for (i, x) in x.iter().enumerate() {
        let x = x / range;
        let (weight, code) = (weight(i, x), code(x));
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
    if min < 0.0 && !signed {
        (scale, min) = (wxc / wcc, 0.0);
    }
    let error = x.iter().enumerate().map(|(i, x)| {
        let x = x / range;
        let miss = scale * code(x) - min - x;
        weight(i, x) * miss * miss
    });
    Fit { scale, min, error: error.sum() }
}
