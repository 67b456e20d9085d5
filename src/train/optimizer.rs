//! Adam with decoupled weight decay (AdamW, arXiv 1711.05101), its learning rate and the limit on
//! gradients.

use super::tape::Parameter;
use crate::backend::Threads;
use attar_kernels::math;
use std::f64::consts::PI;

/// How to change weights by their gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamOptions {
    /// Largest learning rate.
    pub rate: f64,
    /// Steps over which the rate rises from nothing.
    pub warmup_steps: u64,
    /// Part of the largest rate that is left after the last step of the cosine (arXiv 1608.03983).
    pub last_share: f64,
    /// How much of the mean of gradients stays at each step.
    pub first_decay: f64,
    /// How much of the mean of their squares stays.
    pub second_decay: f64,
    /// Part of a matrix that each step takes off it, times the rate. Vectors keep their size.
    pub weight_decay: f64,
    /// Length of the whole gradient above which it is scaled down to it (arXiv 1211.5063).
    pub norm_max: f64,
}

impl Default for AdamOptions {
    fn default() -> Self {
        Self {
            rate: 2e-3,
            warmup_steps: 20,
            last_share: 0.1,
            first_decay: 0.9,
            second_decay: 0.95,
            weight_decay: 0.0,
            norm_max: 1.0,
        }
    }
}

impl AdamOptions {
    /// The rate of step `step`, from 0, of `steps`.
    pub fn rate_at(&self, step: u64, steps: u64) -> f64 {
        let warm = ((step + 1) as f64 / self.warmup_steps.max(1) as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (PI * step as f64 / steps.max(1) as f64).cos());
        self.rate * warm * (self.last_share + (1.0 - self.last_share) * cosine)
    }
}

/// Added to the root of the mean square: Adam's own.
const EPS: f32 = 1e-8;
/// Weights that are worked on at a time; sums run within them first, whatever the number of threads.
const CHUNK_LEN: usize = 4096;

/// What Adam remembers of each parameter.
#[derive(Default)]
pub(super) struct Adam {
    /// Mean of the gradients.
    pub(super) first: Vec<Vec<f32>>,
    /// Mean of their squares.
    pub(super) second: Vec<Vec<f32>>,
}

impl Adam {
    pub(super) fn new(parameters: &[Parameter]) -> Self {
        let zeros = || parameters.iter().map(|p| vec![0.0; p.gradient().len()]).collect();
        Self { first: zeros(), second: zeros() }
    }

    /// Takes step `step`, from 0, and clears the gradients; returns their length before it was limited.
    pub(super) fn step(
        &mut self,
        parameters: &mut [Parameter],
        threads: &mut Threads,
        options: &AdamOptions,
        step: u64,
        steps: u64,
    ) -> f64 {
        let norm = length(parameters, threads);
        let limit = if norm > options.norm_max { options.norm_max / norm } else { 1.0 };
        let count = (step + 1) as f64;
        let rate = options.rate_at(step, steps);
        let update = Update {
            limit: limit as f32,
            first_decay: options.first_decay as f32,
            second_decay: options.second_decay as f32,
            rate: (rate / (1.0 - options.first_decay.powf(count))) as f32,
            unbias: (1.0 / (1.0 - options.second_decay.powf(count))) as f32,
            keep: 1.0,
        };
        let moments = self.first.iter_mut().zip(&mut self.second);
        for (parameter, (first, second)) in parameters.iter_mut().zip(moments) {
            if !parameter.learns() {
                continue;
            }
            let matrix = parameter.pieces().iter().any(|piece| piece.dims.len() > 1);
            let keep = if matrix { 1.0 - rate * options.weight_decay } else { 1.0 };
            let update = Update { keep: keep as f32, ..update };
            let (value, gradient) = parameter.both_mut();
            let mut chunks: Vec<_> = value
                .chunks_mut(CHUNK_LEN)
                .zip(gradient.chunks_mut(CHUNK_LEN))
                .zip(first.chunks_mut(CHUNK_LEN).zip(second.chunks_mut(CHUNK_LEN)))
                .collect();
            threads.each(&mut chunks, |_, ((value, gradient), (first, second))| {
                update.apply(value, gradient, first, second);
            });
        }
        norm
    }
}

/// Length of the whole gradient.
fn length(parameters: &[Parameter], threads: &mut Threads) -> f64 {
    let chunks = parameters.iter().flat_map(|p| p.gradient().chunks(CHUNK_LEN));
    let mut sums: Vec<_> = chunks.map(|chunk| (chunk, 0.0)).collect();
    threads.each(&mut sums, |_, (chunk, sum)| {
        *sum = chunk.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>();
    });
    sums.iter().map(|(_, sum)| sum).sum::<f64>().sqrt()
}

/// One step's numbers.
#[derive(Clone, Copy)]
struct Update {
    limit: f32,
    first_decay: f32,
    second_decay: f32,
    rate: f32,
    unbias: f32,
    keep: f32,
}

impl Update {
    fn apply(
        &self,
        value: &mut [f32],
        gradient: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        let moments = first.iter_mut().zip(second);
        for ((value, gradient), (first, second)) in value.iter_mut().zip(gradient).zip(moments) {
            let g = *gradient * self.limit;
            *first = self.first_decay * *first + (1.0 - self.first_decay) * g;
            *second = self.second_decay * *second + (1.0 - self.second_decay) * g * g;
            let size = math::sqrt(*second * self.unbias) + EPS;
            *value = self.keep * *value - self.rate * *first / size;
            *gradient = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_then_falls_along_a_cosine() {
        let options = AdamOptions { rate: 1.0, warmup_steps: 10, ..AdamOptions::default() };
        assert_eq!(options.rate_at(0, 1_000_000), 0.1);
        assert!((options.rate_at(50, 100) - 0.55).abs() < 1e-12);
        assert!((options.rate_at(100, 100) - 0.1).abs() < 1e-12);
    }

    /// Three steps on one weight and one gradient, by the paper's Algorithm 2 in double precision.
    #[test]
    fn steps_are_those_of_the_paper() {
        let (rate, decay, b1, b2) = (0.1f64, 0.5f64, 0.9f64, 0.95f64);
        let update = |step: i32| Update {
            limit: 1.0,
            first_decay: b1 as f32,
            second_decay: b2 as f32,
            rate: (rate / (1.0 - b1.powi(step))) as f32,
            unbias: (1.0 / (1.0 - b2.powi(step))) as f32,
            keep: (1.0 - rate * decay) as f32,
        };
        let (mut w, mut m, mut v) = (1.0f64, 0.0f64, 0.0f64);
        let (mut value, mut first, mut second) = ([1.0f32], [0.0f32], [0.0f32]);
        for (step, g) in [(1, 0.3f64), (2, -0.7), (3, 0.2)] {
            m = b1 * m + (1.0 - b1) * g;
            v = b2 * v + (1.0 - b2) * g * g;
            let (unbiased, square) = (m / (1.0 - b1.powi(step)), v / (1.0 - b2.powi(step)));
            w -= rate * (unbiased / (square.sqrt() + 1e-8) + decay * w);
            let mut gradient = [g as f32];
            update(step).apply(&mut value, &mut gradient, &mut first, &mut second);
            assert!((f64::from(value[0]) - w).abs() < 1e-6, "step {step}: {} {w}", value[0]);
            assert_eq!(gradient[0], 0.0);
        }
    }
}
