//! The walk back through what was run.

use super::rows::Rows;
use super::{Mark, Tape, experts};
use crate::backend::{
    Cache, NormKind, NormShape, Rotary, RouteShape, Routing, Row, Threads, View, Weight,
};
use crate::train::product::{Matrix, Target, dot, multiply_on};
use attar_kernels::math;
use std::sync::Arc;

/// What was run, on what, and where what it needs was kept.
pub(super) enum Operation {
    Write {
        out: View,
    },
    Embed {
        out: View,
        table: Weight,
        ids: Box<[u32]>,
    },
    Product {
        out: View,
        weight: Weight,
        x: View,
        kept: Option<usize>,
    },
    Copy {
        out: View,
        x: View,
    },
    Add {
        x: View,
        y: View,
    },
    Bias {
        x: View,
        bias: Weight,
    },
    Scale {
        x: View,
        factor: f32,
    },
    ScaleRows {
        x: View,
        gate: View,
        kept: usize,
        kept_gate: usize,
    },
    Norm {
        out: View,
        x: View,
        norm: NormShape,
        group: usize,
        kept: usize,
    },
    Gelu {
        x: View,
        kept: usize,
    },
    Swiglu {
        gate: View,
        up: View,
        kept_gate: usize,
        kept_up: usize,
    },
    Rope {
        x: View,
        heads: usize,
        rotary: Rotary,
        rows: Arc<[Row]>,
    },
    Store {
        cache: Cache,
        key: View,
        value: View,
        rows: Arc<[Row]>,
    },
    Attention {
        out: View,
        query: View,
        cache: Cache,
        scale: f32,
        rows: Arc<[Row]>,
        kept: usize,
        kept_out: usize,
    },
    Route {
        scores: View,
        shape: RouteShape,
        routing: Routing,
        experts: Arc<[u32]>,
        kept: usize,
    },
    ProductExperts {
        out: View,
        weight: Weight,
        x: View,
        experts: Arc<[u32]>,
        kept: usize,
    },
    ScaleExperts {
        x: View,
        factors: Weight,
        experts: Arc<[u32]>,
        kept: usize,
    },
    Combine {
        out: View,
        x: View,
        routing: Routing,
        kept: usize,
        kept_weights: usize,
    },
}

impl Tape {
    /// Walks back to `mark` and forgets what was recorded since. What was seeded must depend on nothing
    /// recorded later.
    pub fn back_to(&mut self, mark: Mark) {
        while self.record.len() > mark.operations {
            let Some(operation) = self.record.pop() else { break };
            self.back(&operation);
        }
        self.kept.truncate(mark.kept);
        for rows in &mut self.values {
            rows.kept = rows.kept.filter(|(_, at)| *at < mark.kept);
        }
    }

    fn back(&mut self, operation: &Operation) {
        match operation {
            Operation::Write { out } => self.clear_gradient(*out),
            Operation::Embed { out, table, ids } => self.back_embed(*out, *table, ids),
            Operation::Product { out, weight, x, kept } => {
                self.back_product(*out, *weight, *x, *kept);
            }
            Operation::Copy { out, x } => {
                self.pass(*x, *out, add_to);
                self.clear_gradient(*out);
            }
            Operation::Add { x, y } => self.pass(*y, *x, add_to),
            Operation::Bias { x, bias } => self.back_bias(*x, *bias),
            Operation::Scale { x, factor } => {
                self.each_gradient(*x, |_, dx| dx.iter_mut().for_each(|d| *d *= factor));
            }
            Operation::ScaleRows { x, gate, kept, kept_gate } => {
                self.back_scale_rows(*x, *gate, *kept, *kept_gate);
            }
            Operation::Norm { out, x, norm, group, kept } => {
                self.back_norm(*out, *x, *norm, *group, *kept);
            }
            Operation::Gelu { x, kept } => {
                let (kept, width) = (&self.kept.blocks[*kept], x.width);
                let gradient = &mut self.gradients[x.buffer.0 as usize];
                gradient.each(&mut self.threads, *x, |r, dx| {
                    let x = &kept[r * width..][..width];
                    dx.iter_mut().zip(x).for_each(|(d, x)| *d *= gelu_slope(*x));
                });
            }
            Operation::Swiglu { gate, up, kept_gate, kept_up } => {
                self.back_swiglu(*gate, *up, *kept_gate, *kept_up);
            }
            Operation::Rope { x, heads, rotary, rows } => {
                self.turn(*rotary, rows);
                let mut gradient = self.take_gradient(*x);
                self.rotate(&mut gradient, *x, *heads, *rotary, true);
                self.put_gradient(*x, gradient);
            }
            Operation::Store { cache, key, value, rows } => {
                let held = &mut self.caches[cache.0 as usize];
                held.back_store(&mut self.gradients[key.buffer.0 as usize], *key, true, rows);
                held.back_store(&mut self.gradients[value.buffer.0 as usize], *value, false, rows);
            }
            Operation::Attention { out, query, cache, scale, rows, kept, kept_out } => {
                let mut gradient = self.take_gradient(*query);
                let Self { threads, isa, gradients, kept: blocks, caches, .. } = self;
                let blocks = [&blocks.blocks[*kept][..], &blocks.blocks[*kept_out][..]];
                let held = &mut caches[cache.0 as usize];
                let out_gradient = &gradients[out.buffer.0 as usize];
                let given = (out_gradient, *out);
                held.back(threads, isa, (&mut gradient, *query), given, blocks, *scale, rows);
                self.put_gradient(*query, gradient);
                self.clear_gradient(*out);
            }
            Operation::Route { scores, shape, routing, experts, kept } => {
                let gradient = std::mem::take(&mut self.routings[routing.0 as usize].gradient);
                let probabilities = &self.kept.blocks[*kept];
                let rows = &mut self.gradients[scores.buffer.0 as usize];
                for r in 0..scores.rows {
                    let slots = r * shape.used..(r + 1) * shape.used;
                    let chosen = &experts[slots.clone()];
                    let p = &probabilities[r * scores.width..][..scores.width];
                    experts::back_route(
                        rows.row_mut(*scores, r),
                        p,
                        chosen,
                        &gradient[slots],
                        *shape,
                    );
                }
            }
            Operation::ProductExperts { out, weight, x, experts, kept } => {
                self.back_product_experts(*out, *weight, *x, experts, *kept);
            }
            Operation::ScaleExperts { x, factors, experts, kept } => {
                self.back_scale_experts(*x, *factors, experts, *kept);
            }
            Operation::Combine { out, x, routing, kept, kept_weights } => {
                self.back_combine(*out, *x, *routing, *kept, *kept_weights);
            }
        }
    }

    pub(super) fn clear_gradient(&mut self, out: View) {
        self.gradients[out.buffer.0 as usize].clear(out);
    }

    pub(super) fn take_gradient(&mut self, x: View) -> Rows {
        std::mem::take(&mut self.gradients[x.buffer.0 as usize])
    }

    pub(super) fn put_gradient(&mut self, x: View, rows: Rows) {
        self.gradients[x.buffer.0 as usize] = rows;
    }

    /// Calls `f(row index, gradient)` for each row of `x`.
    pub(super) fn each_gradient(&mut self, x: View, f: impl Fn(usize, &mut [f32]) + Sync) {
        self.gradients[x.buffer.0 as usize].each(&mut self.threads, x, f);
    }

    /// Calls `f(gradient of x, gradient of y)` for each row of two buffers.
    fn pass(&mut self, x: View, y: View, f: impl Fn(&mut [f32], &[f32]) + Sync) {
        if x.buffer == y.buffer {
            let rows = &mut self.gradients[x.buffer.0 as usize];
            for r in 0..x.rows {
                let given = rows.row(y, r).to_vec();
                f(rows.row_mut(x, r), &given);
            }
            return;
        }
        let mut rows = self.take_gradient(x);
        let given = &self.gradients[y.buffer.0 as usize];
        rows.each(&mut self.threads, x, |r, dx| f(dx, given.row(y, r)));
        self.put_gradient(x, rows);
    }

    fn back_embed(&mut self, out: View, table: Weight, ids: &[u32]) {
        let parameter = &mut self.parameters[table.0 as usize];
        if parameter.learns() {
            let (cols, given) = (parameter.row_len(), &self.gradients[out.buffer.0 as usize]);
            let gradient = parameter.gradient_mut();
            for (r, id) in ids.iter().enumerate() {
                add_to(&mut gradient[*id as usize * cols..][..cols], given.row(out, r));
            }
        }
        self.clear_gradient(out);
    }

    /// `dx += dy W`, `dW += dy' x`.
    fn back_product(&mut self, out: View, weight: Weight, x: View, kept: Option<usize>) {
        let mut gradient = self.take_gradient(x);
        let Self { threads, gradients, parameters, kept: blocks, tile, .. } = self;
        let parameter = &mut parameters[weight.0 as usize];
        let given = gradients[out.buffer.0 as usize].matrix(out);
        parameter.tiles(0, threads, tile, |threads, first, w| {
            let columns = Matrix { data: &given.data[first..], columns: w.rows, ..given };
            multiply_on(threads, gradient.target(x), 1.0, 1.0, columns, w);
        });
        if let Some(kept) = kept {
            let x = Matrix::new(&blocks.blocks[kept], x.rows, x.width, x.width);
            add_outer(threads, parameter.gradient_mut(), given, x);
        }
        self.put_gradient(x, gradient);
        self.clear_gradient(out);
    }

    fn back_bias(&mut self, x: View, bias: Weight) {
        let parameter = &mut self.parameters[bias.0 as usize];
        if parameter.learns() {
            let given = &self.gradients[x.buffer.0 as usize];
            (0..x.rows).for_each(|r| add_to(parameter.gradient_mut(), given.row(x, r)));
        }
    }

    fn back_scale_rows(&mut self, x: View, gate: View, kept: usize, kept_gate: usize) {
        let [kept, kept_gate] = [kept, kept_gate].map(|k| &self.kept.blocks[k]);
        for r in 0..x.rows {
            let factor = sigmoid(kept_gate[r]);
            let dx = self.gradients[x.buffer.0 as usize].row_mut(x, r);
            let along = dot(dx, &kept[r * x.width..][..x.width]);
            dx.iter_mut().for_each(|d| *d *= factor);
            self.gradients[gate.buffer.0 as usize].row_mut(gate, r)[0] +=
                along * factor * (1.0 - factor);
        }
    }

    fn back_norm(&mut self, out: View, x: View, norm: NormShape, group: usize, kept: usize) {
        let given = self.take_gradient(out);
        let Self { threads, gradients, parameters, kept: blocks, .. } = self;
        let values = &blocks.blocks[kept];
        let mut inverse = vec![(0.0, 0.0); x.rows * (x.width / group)];
        let groups = values.chunks_exact(group);
        groups.zip(&mut inverse).for_each(|(x, i)| *i = scale_of(x, norm.kind, norm.eps));
        if let Some(weight) = norm.weight.filter(|w| parameters[w.0 as usize].learns()) {
            let gradient = parameters[weight.0 as usize].gradient_mut();
            for r in 0..x.rows {
                let row = &values[r * x.width..][..x.width];
                let groups = row.chunks_exact(group).zip(given.row(out, r).chunks_exact(group));
                let inverse = &inverse[r * (x.width / group)..];
                for ((x, dy), (mean, scale)) in groups.zip(inverse) {
                    let terms = gradient.iter_mut().zip(x.iter().zip(dy));
                    terms.for_each(|(g, (x, dy))| *g += dy * (x - mean) * scale);
                }
            }
        }
        let weight = norm.weight.map(|w| parameters[w.0 as usize].used());
        let back_row = |r: usize, dx: &mut [f32], dy: &[f32], keep: f32| {
            let row = &values[r * x.width..][..x.width];
            let groups = row.chunks_exact(group).zip(dy.chunks_exact(group));
            let inverse = &inverse[r * (x.width / group)..];
            for (((x, dy), dx), i) in groups.zip(dx.chunks_exact_mut(group)).zip(inverse) {
                norm_back(dx, dy, x, weight, *i, norm.kind, keep);
            }
        };
        if out.buffer == x.buffer {
            let mut gradient = given;
            gradient.each(threads, out, |r, dx| {
                let dy = dx.to_vec();
                back_row(r, dx, &dy, 0.0);
            });
            return self.put_gradient(out, gradient);
        }
        gradients[x.buffer.0 as usize]
            .each(threads, x, |r, dx| back_row(r, dx, given.row(out, r), 1.0));
        self.put_gradient(out, given);
        self.clear_gradient(out);
    }

    fn back_swiglu(&mut self, gate: View, up: View, kept_gate: usize, kept_up: usize) {
        let mut gradient = self.take_gradient(gate);
        let [kept_gate, kept_up] = [kept_gate, kept_up].map(|k| &self.kept.blocks[k]);
        let width = gate.width;
        let given = &gradient;
        self.gradients[up.buffer.0 as usize].each(&mut self.threads, up, |r, du| {
            let gates = &kept_gate[r * width..][..width];
            for ((du, g), d) in du.iter_mut().zip(gates).zip(given.row(gate, r)) {
                *du += d * g * sigmoid(*g);
            }
        });
        gradient.each(&mut self.threads, gate, |r, dg| {
            let (gates, ups) = (&kept_gate[r * width..][..width], &kept_up[r * width..][..width]);
            for ((d, g), u) in dg.iter_mut().zip(gates).zip(ups) {
                let s = sigmoid(*g);
                *d *= u * s * (1.0 + g * (1.0 - s));
            }
        });
        self.put_gradient(gate, gradient);
    }
}

pub(super) fn add_to(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// `gradient += given' x`, its rows divided among the threads.
pub(super) fn add_outer(
    threads: &mut Threads,
    gradient: &mut [f32],
    given: Matrix<'_>,
    x: Matrix<'_>,
) {
    let target = Target { data: gradient, step: x.columns, column: 0, columns: x.columns };
    multiply_on(threads, target, 1.0, 1.0, given.transposed(), x);
}

#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + math::exp(-x))
}

/// The derivative of [`crate::kernels::Isa::gelu`].
fn gelu_slope(x: f32) -> f32 {
    const TWICE_ROOT: f32 = 1.595_769_2;
    let s = sigmoid(TWICE_ROOT * (x + 0.044715 * x * x * x));
    s + x * s * (1.0 - s) * TWICE_ROOT * (1.0 + 3.0 * 0.044715 * x * x)
}

/// What a norm subtracts from a row and then multiplies it by.
fn scale_of(x: &[f32], kind: NormKind, eps: f32) -> (f32, f32) {
    let len = x.len() as f32;
    let mean = match kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => x.iter().sum::<f32>() / len,
    };
    let square = match kind {
        NormKind::Rms => dot(x, x),
        NormKind::Layer => x.iter().map(|x| (x - mean) * (x - mean)).sum(),
    };
    (mean, 1.0 / math::sqrt(square / len + eps))
}

/// With `n = (x - mean) * scale` and `g = weight * dy`:
/// `dx = keep * dx + scale * (g - n * mean of (g * n))`, for a layer norm less the mean of `g`.
fn norm_back(
    dx: &mut [f32],
    dy: &[f32],
    x: &[f32],
    weight: Option<&[f32]>,
    (mean, scale): (f32, f32),
    kind: NormKind,
    keep: f32,
) {
    let len = x.len() as f32;
    let weighted: Vec<f32> = match weight {
        Some(weight) => dy.iter().zip(weight).map(|(dy, w)| dy * w).collect(),
        None => dy.to_vec(),
    };
    let sum: f32 = weighted.iter().sum();
    let along = (dot(&weighted, x) - mean * sum) * scale / len;
    let shift = if kind == NormKind::Layer { sum / len } else { 0.0 };
    for ((dx, g), x) in dx.iter_mut().zip(&weighted).zip(x) {
        *dx = keep * *dx + scale * (g - shift - (x - mean) * scale * along);
    }
}
