//! Mixture of experts: choice of experts, and products grouped by expert so that each expert's
//! weights are read once a batch.

use super::Cpu;
use super::product::Batch;
use crate::backend::{RouteShape, Routing, View, Weight};
use crate::memory::{Block, List};

/// Where each row goes. A slot is one choice of one row: `row * used + choice`.
pub(super) struct Routes {
    pub(super) used: usize,
    /// Expert of each slot.
    pub(super) experts: Block<u32>,
    /// Weight of each slot.
    pub(super) weights: Block<f32>,
    /// Slots of the expert at work.
    pub(super) slots: List<u32>,
    /// Input row of each of those slots.
    pub(super) sources: List<u32>,
}

impl Cpu {
    pub(super) fn choose(&mut self, routing: Routing, scores: View, shape: RouteShape) {
        let isa = self.engine.isa;
        let mut buffer = self.take(scores.buffer);
        let routes = &mut self.memory.routings[routing.0 as usize];
        assert!(shape.used == routes.used && shape.used <= scores.width);
        let stride = buffer.stride;
        for (r, row) in buffer.whole(scores).chunks_exact_mut(stride).enumerate() {
            let row = &mut row[scores.column..][..scores.width];
            isa.softmax(row);
            let slots = r * shape.used..(r + 1) * shape.used;
            let (experts, weights) =
                (&mut routes.experts[slots.clone()], &mut routes.weights[slots]);
            shape.choose(row, experts, weights);
        }
        self.put(scores.buffer, buffer);
    }

    pub(super) fn product_experts(&mut self, out: View, w: Weight, x: View, routing: Routing) {
        self.load(w, x);
        let mut buffer = self.take(out.buffer);
        let weights = &self.memory.weights[w.0 as usize];
        let routes = &mut self.memory.routings[routing.0 as usize];
        assert!(out.rows.is_multiple_of(routes.used) && out.width == weights.rows);
        let shared = x.rows * routes.used == out.rows && routes.used > 1;
        assert!(shared || x.rows == out.rows);
        for expert in 0..weights.experts.len() {
            routes.slots.clear();
            routes.sources.clear();
            for (slot, &of) in routes.experts[..out.rows].iter().enumerate() {
                if of as usize == expert {
                    routes.slots.push(slot as u32);
                    routes.sources.push(if shared { slot / routes.used } else { slot } as u32);
                }
            }
            if !routes.slots.is_empty() {
                let batch = Batch { sources: &routes.sources, targets: &routes.slots };
                self.engine.multiply(buffer.matrix(out), weights, expert, batch);
            }
        }
        self.put(out.buffer, buffer);
    }
}

impl RouteShape {
    /// The experts of a row whose softmaxed scores these are, and their weights.
    pub(in crate::backend) fn choose(
        &self,
        scores: &[f32],
        experts: &mut [u32],
        weights: &mut [f32],
    ) {
        take_largest(scores, experts, weights);
        let sum: f32 = weights.iter().sum();
        let factor = if self.normalize && sum > 0.0 { self.scale / sum } else { self.scale };
        weights.iter_mut().for_each(|w| *w *= factor);
    }
}

/// The largest of `scores` with their places, largest first, ties by place; all places differ, also
/// where scores are no numbers.
fn take_largest(scores: &[f32], experts: &mut [u32], weights: &mut [f32]) {
    for (k, weight) in weights.iter_mut().enumerate() {
        let (taken, rest) = experts.split_at_mut(k);
        let free = (0..scores.len()).filter(|i| !taken.contains(&(*i as u32)));
        let best = free.reduce(|a, b| if scores[b] > scores[a] { b } else { a }).unwrap_or(0);
        (rest[0], *weight) = (best as u32, scores[best]);
    }
}
