//! Rotary position embeddings (RoFormer, arXiv 2104.09864) and the ways to stretch them.

use crate::Result;
use crate::memory;
use alloc::vec::Vec;
use attar_kernels::math;
use core::f64::consts::TAU;

/// How a model trained on short texts rotates on longer ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// Positions as they are.
    None,
    /// Positions divided by a factor (arXiv 2306.15595).
    Linear {
        /// How many times longer.
        factor: f64,
    },
    /// Slow rotations divided by a factor, fast ones kept (YaRN, arXiv 2309.00071).
    Yarn(Yarn),
}

/// Parameters of YaRN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// How many times longer.
    pub factor: f64,
    /// Positions in training.
    pub original_context_len: usize,
    /// Rotations over the training length above which a pair is kept as it is.
    pub beta_fast: f64,
    /// Rotations over the training length below which a pair is divided by the factor.
    pub beta_slow: f64,
    /// Multiplies what YaRN multiplies rotated values by.
    pub magnitude: f64,
}

/// Radians a position for each of `pairs` pairs, and what rotated values are multiplied by.
///
/// `divisors`, one a pair or none, are the file's own (Llama 3 scales this way).
///
/// # Errors
/// [`Error::Memory`](crate::Error::Memory).
pub fn frequencies(
    pairs: usize,
    base: f64,
    scaling: Scaling,
    divisors: &[f32],
) -> Result<(Vec<f64>, f32)> {
    let log_base = math::ln64(base);
    let plain = |i: usize| math::exp64(-(i as f64) / pairs as f64 * log_base);
    let divisor = |i: usize| divisors.get(i).map_or(1.0, |d| f64::from(*d));
    let all = |scale: &dyn Fn(usize) -> f64| {
        memory::collect((0..pairs).map(|i| plain(i) * scale(i) / divisor(i)))
    };
    Ok(match scaling {
        Scaling::None => (all(&|_| 1.0)?, 1.0),
        Scaling::Linear { factor } => (all(&|_| 1.0 / factor)?, 1.0),
        Scaling::Yarn(yarn) => {
            // The pair that turns `n` times over the training length.
            let turning = |n: f64| {
                let turns = yarn.original_context_len as f64 / (n * TAU);
                pairs as f64 * math::ln64(turns) / log_base
            };
            let low = floor(turning(yarn.beta_fast)).max(0.0);
            let high = ceil(turning(yarn.beta_slow)).min((2 * pairs - 1) as f64);
            let magnitude = yarn.magnitude * (1.0 + 0.1 * math::ln64(yarn.factor));
            let scale = |i: usize| {
                let divided = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                divided / yarn.factor + (1.0 - divided)
            };
            (all(&scale)?, magnitude as f32)
        }
    })
}

fn floor(x: f64) -> f64 {
    let whole = x as i64 as f64;
    if whole > x { whole - 1.0 } else { whole }
}

fn ceil(x: f64) -> f64 {
    -floor(-x)
}
