//! Mixture of experts, forth and back: the slots of an expert are gathered, multiplied together and
//! scattered.

use super::Tape;
use super::back::{Operation, add_outer, add_to};
use crate::backend::{RouteShape, Routing, View, Weight};
use crate::train::product::{Matrix, Target, dot, multiply_on};
use std::sync::Arc;

/// Where each row of a batch goes. A slot is one choice of one row: `row * used + choice`.
pub(super) struct Routes {
    pub(super) used: usize,
    /// Expert of each slot of the batch at work.
    pub(super) experts: Arc<[u32]>,
    /// Weight of each.
    pub(super) weights: Vec<f32>,
    /// Gradient of each weight.
    pub(super) gradient: Vec<f32>,
}

impl Routes {
    pub(super) fn new(rows: usize, used: usize) -> Self {
        let weights = Vec::with_capacity(rows.saturating_mul(used));
        Self { used, experts: Arc::new([]), weights, gradient: Vec::new() }
    }
}

/// The slots of one expert, and the row of the input that each reads.
fn slots_of(experts: &[u32], expert: usize, used: usize) -> Vec<(usize, usize)> {
    let slots = experts.iter().enumerate().filter(|(_, of)| **of as usize == expert);
    slots.map(|(slot, _)| (slot, slot / used)).collect()
}

impl Tape {
    pub(super) fn choose(&mut self, routing: Routing, scores: View, shape: RouteShape) {
        let isa = self.isa;
        self.each_row(scores, |_, _, row| isa.softmax(row));
        let kept = self.keep(scores);
        let routes = &mut self.routings[routing.0 as usize];
        let (mut experts, mut weights) = (Vec::new(), Vec::new());
        for p in self.kept.blocks[kept].chunks_exact(scores.width) {
            let mut order: Vec<u32> = (0..p.len() as u32).collect();
            order.sort_by(|a, b| p[*b as usize].total_cmp(&p[*a as usize]));
            let chosen = &order[..shape.used];
            let sum: f32 = chosen.iter().map(|e| p[*e as usize]).sum();
            let factor = if shape.normalize && sum > 0.0 { shape.scale / sum } else { shape.scale };
            weights.extend(chosen.iter().map(|e| p[*e as usize] * factor));
            experts.extend(chosen);
        }
        routes.gradient = vec![0.0; weights.len()];
        (routes.experts, routes.weights) = (experts.into(), weights);
        let experts = routes.experts.clone();
        self.note(Operation::Route { scores, shape, routing, experts, kept });
    }

    pub(super) fn product_experts(&mut self, out: View, w: Weight, x: View, routing: Routing) {
        let kept = self.keep(x);
        let routes = &self.routings[routing.0 as usize];
        let (experts, used) = (routes.experts.clone(), out.rows / x.rows);
        assert!(experts.len() == out.rows);
        let mut target = self.take(out.buffer);
        let Self { threads, parameters, kept: blocks, tile, .. } = self;
        let (parameter, values) = (&parameters[w.0 as usize], &blocks.blocks[kept]);
        for expert in 0..parameter.experts() {
            let slots = slots_of(&experts, expert, used);
            let input = gather(values, x.width, slots.iter().map(|(_, row)| *row));
            let mut result = vec![0.0; slots.len() * out.width];
            parameter.tiles(expert, threads, tile, |threads, first, w| {
                let data = &mut result;
                let target = Target { data, step: out.width, column: first, columns: w.rows };
                let input = Matrix::new(&input, slots.len(), x.width, x.width);
                multiply_on(threads, target, 0.0, 1.0, input, w.transposed());
            });
            for ((slot, _), row) in slots.iter().zip(result.chunks_exact(out.width)) {
                target.row_mut(out, *slot).copy_from_slice(row);
            }
        }
        self.put(out.buffer, target);
        self.note(Operation::ProductExperts { out, weight: w, x, experts, kept });
    }

    pub(super) fn combine_experts(&mut self, out: View, x: View, routing: Routing) {
        let kept = self.keep(x);
        let Routes { used, weights, .. } = &self.routings[routing.0 as usize];
        let used = *used;
        assert!(x.rows == out.rows * used && x.width == out.width);
        let kept_weights = self.kept.keep_values(weights);
        let blocks = std::mem::take(&mut self.kept.blocks);
        let (values, weights) = (&blocks[kept], &blocks[kept_weights]);
        self.each_row(out, |_, r, row| {
            row.fill(0.0);
            for slot in r * used..(r + 1) * used {
                let x = &values[slot * x.width..][..x.width];
                row.iter_mut().zip(x).for_each(|(y, v)| *y += weights[slot] * v);
            }
        });
        self.kept.blocks = blocks;
        self.note(Operation::Combine { out, x, routing, kept, kept_weights });
    }

    pub(super) fn back_product_experts(
        &mut self,
        out: View,
        weight: Weight,
        x: View,
        experts: &[u32],
        kept: usize,
    ) {
        let used = out.rows / x.rows;
        let Self { threads, gradients, parameters, kept: blocks, tile, .. } = self;
        let parameter = &mut parameters[weight.0 as usize];
        for expert in 0..parameter.experts() {
            let slots = slots_of(experts, expert, used);
            if slots.is_empty() {
                continue;
            }
            let rows = &gradients[out.buffer.0 as usize];
            let given: Vec<f32> =
                slots.iter().flat_map(|(slot, _)| rows.row(out, *slot).iter().copied()).collect();
            let given = Matrix::new(&given, slots.len(), out.width, out.width);
            let mut gradient = vec![0.0; slots.len() * x.width];
            parameter.tiles(expert, threads, tile, |threads, first, w| {
                let columns = Matrix { data: &given.data[first..], columns: w.rows, ..given };
                let (data, columns_out) = (&mut gradient, x.width);
                let target = Target { data, step: x.width, column: 0, columns: columns_out };
                multiply_on(threads, target, 1.0, 1.0, columns, w);
            });
            for ((_, row), gradient) in slots.iter().zip(gradient.chunks_exact(x.width)) {
                add_to(gradients[x.buffer.0 as usize].row_mut(x, *row), gradient);
            }
            if parameter.learns() {
                let rows = slots.iter().map(|(_, row)| *row);
                let input = gather(&blocks.blocks[kept], x.width, rows);
                let input = Matrix::new(&input, slots.len(), x.width, x.width);
                let len = parameter.matrix_len();
                let gradient = &mut parameter.gradient_mut()[expert * len..][..len];
                add_outer(threads, gradient, given, input);
            }
        }
        self.clear_gradient(out);
    }

    pub(super) fn back_scale_experts(
        &mut self,
        x: View,
        factors: Weight,
        experts: &[u32],
        kept: usize,
    ) {
        let rows = &mut self.gradients[x.buffer.0 as usize];
        let parameter = &mut self.parameters[factors.0 as usize];
        for (slot, expert) in experts.iter().enumerate() {
            let dx = rows.row_mut(x, slot);
            if parameter.learns() {
                let values = &self.kept.blocks[kept][slot * x.width..][..x.width];
                parameter.gradient_mut()[*expert as usize] += dot(dx, values);
            }
            let factor = parameter.used()[*expert as usize];
            dx.iter_mut().for_each(|d| *d *= factor);
        }
    }

    pub(super) fn back_combine(
        &mut self,
        out: View,
        x: View,
        routing: Routing,
        kept: usize,
        kept_weights: usize,
    ) {
        let mut gradient = self.take_gradient(x);
        let routes = &mut self.routings[routing.0 as usize];
        let [values, weights] = [kept, kept_weights].map(|k| &self.kept.blocks[k]);
        routes.gradient.resize(x.rows, 0.0);
        let given = &self.gradients[out.buffer.0 as usize];
        for slot in 0..x.rows {
            let dy = given.row(out, slot / routes.used);
            routes.gradient[slot] += dot(dy, &values[slot * x.width..][..x.width]);
            let dx = gradient.row_mut(x, slot);
            dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += weights[slot] * dy);
        }
        self.put_gradient(x, gradient);
        self.clear_gradient(out);
    }
}

/// Some rows of a matrix, one after another.
fn gather(values: &[f32], width: usize, rows: impl Iterator<Item = usize>) -> Vec<f32> {
    rows.flat_map(|row| values[row * width..][..width].iter().copied()).collect()
}

/// Turns `dscores`, which holds the gradient of the probabilities `p`, into that of the scores, after
/// adding what the weights of the `chosen` give.
///
/// A weight is `scale * p / s` with `s` the sum over the chosen, or `scale * p`.
pub(super) fn back_route(
    dscores: &mut [f32],
    p: &[f32],
    chosen: &[u32],
    given: &[f32],
    shape: RouteShape,
) {
    let of = |e: &u32| p[*e as usize];
    let sum: f32 = chosen.iter().map(of).sum();
    let normalized = shape.normalize && sum > 0.0;
    let factor = if normalized { shape.scale / sum } else { shape.scale };
    let along: f32 = chosen.iter().zip(given).map(|(e, g)| g * of(e)).sum();
    let shift = if normalized { along / sum } else { 0.0 };
    for (e, g) in chosen.iter().zip(given) {
        dscores[*e as usize] += factor * (g - shift);
    }
    let mean = dot(dscores, p);
    dscores.iter_mut().zip(p).for_each(|(d, p)| *d = p * (*d - mean));
}
