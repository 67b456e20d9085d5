//! From recorded operations to steps: operations that follow each other become one where a shader can do
//! them at once, so that a token takes few dispatches. What a fused operation would have left in between is
//! only left out if nobody reads it before it is written again.

use crate::backend::{Cache, NormKind, NormShape, Rotary, RouteShape, Routing, View, Weight};

/// An operation as the model asked for it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Embed { out: View, table: Weight },
    Matmul { out: View, w: Weight, x: View },
    Copy { out: View, x: View },
    Add { x: View, y: View },
    AddBias { x: View, bias: Weight },
    Scale { x: View, factor: f32 },
    ScaleRows { x: View, gate: View },
    Norm { out: View, x: View, norm: NormShape, group: usize },
    Gelu { x: View },
    Swiglu { gate: View, up: View },
    Rope { x: View, heads: usize, rotary: Rotary },
    Store { cache: Cache, key: View, value: View },
    Attention { out: View, query: View, cache: Cache, scale: f32 },
    Route { routing: Routing, scores: View, shape: RouteShape },
    MatmulExperts { out: View, w: Weight, x: View, routing: Routing },
    ScaleExperts { x: View, factors: Weight, routing: Routing },
    Combine { out: View, x: View, routing: Routing },
}

impl Op {
    /// Whether it depends on the places of the rows at work.
    pub(super) fn has_rows(&self) -> bool {
        matches!(self, Op::Rope { .. } | Op::Store { .. } | Op::Attention { .. })
    }

    /// What it reads; what it changes in place counts.
    fn reads(&self) -> [Option<View>; 2] {
        match *self {
            Op::Embed { .. } => [None, None],
            Op::Matmul { x, .. } | Op::Copy { x, .. } | Op::Norm { x, .. } => [Some(x), None],
            Op::MatmulExperts { x, .. } | Op::Combine { x, .. } => [Some(x), None],
            Op::Add { x, y } => [Some(x), Some(y)],
            Op::AddBias { x, .. } | Op::Scale { x, .. } | Op::Rope { x, .. } => [Some(x), None],
            Op::ScaleExperts { x, .. } | Op::Gelu { x } => [Some(x), None],
            Op::ScaleRows { x, gate } => [Some(x), Some(gate)],
            Op::Swiglu { gate, up } => [Some(gate), Some(up)],
            Op::Store { key, value, .. } => [Some(key), Some(value)],
            Op::Attention { query, .. } => [Some(query), None],
            Op::Route { scores, .. } => [Some(scores), None],
        }
    }

    /// What it writes without looking at what was there.
    fn overwrites(&self) -> Option<View> {
        match *self {
            Op::Embed { out, .. } | Op::Matmul { out, .. } | Op::Copy { out, .. } => Some(out),
            Op::Norm { out, .. } | Op::Attention { out, .. } => Some(out),
            Op::MatmulExperts { out, .. } | Op::Combine { out, .. } => Some(out),
            _ => None,
        }
    }
}

/// One product of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub(super) out: View,
    pub(super) w: Weight,
    pub(super) bias: Option<Weight>,
}

/// Products of one input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Products {
    /// The first `count` are there.
    pub(super) each: [Product; Products::MAX],
    pub(super) count: usize,
    pub(super) x: View,
    /// What the input goes through first.
    pub(super) norm: Option<NormShape>,
    /// The first of two is an activation's gate to the second, and the result is its output.
    pub(super) gated: bool,
    /// The result is added to what the output has.
    pub(super) add: bool,
    pub(super) routing: Option<Routing>,
}

impl Products {
    pub(super) const MAX: usize = 3;

    /// The products there are.
    pub(super) fn each(&self) -> &[Product] {
        &self.each[..self.count]
    }
}

/// Heads to be normalised and rotated in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    pub(super) x: View,
    pub(super) count: usize,
    pub(super) norm: Option<NormShape>,
}

/// Queries and keys on their way to attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) query: Option<Heads>,
    pub(super) key: Option<Heads>,
    pub(super) rotary: Option<Rotary>,
    pub(super) store: Option<(Cache, View)>,
}

/// What is dispatched.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Products(Products),
    Place(Place),
    Single(Op),
}

/// What can be fused depends on where weights lie and on how many rows are at work.
pub(super) trait Weights {
    /// Whether products with these weights can be one dispatch.
    fn together(&self, a: Weight, b: Weight) -> bool;
    /// Whether products written to `out` take the path that fuses.
    fn fuses(&self, out: View, routing: Option<Routing>) -> bool;
    /// Heads of the cache and the width of their keys.
    fn heads(&self, cache: Cache) -> (usize, usize);
    /// The widest head that can be placed at once.
    fn head_len_max(&self) -> usize;
}

/// Makes the operations of a list into steps.
pub(super) fn steps<'a>(
    ops: &'a [Op],
    weights: &'a dyn Weights,
) -> impl Iterator<Item = Step> + 'a {
    let list = List { ops, weights };
    let mut at = 0;
    std::iter::from_fn(move || {
        let (step, len) = list.step(at)?;
        at += len;
        Some(step)
    })
}

struct List<'a> {
    ops: &'a [Op],
    weights: &'a dyn Weights,
}

impl List<'_> {
    fn op(&self, at: usize) -> Option<Op> {
        self.ops.get(at).copied()
    }

    /// Whether nobody reads `view` from the operation `at` on before it is overwritten.
    fn is_dead(&self, view: View, at: usize) -> bool {
        for op in &self.ops[at..] {
            if op.reads().iter().flatten().any(|read| read.buffer == view.buffer) {
                return false;
            }
            if op.overwrites().is_some_and(|out| covers(out, view)) {
                return true;
            }
        }
        false
    }

    /// The step that starts with operation `at`, and how many operations it is.
    fn step(&self, at: usize) -> Option<(Step, usize)> {
        let op = self.op(at)?;
        let (step, end) = self
            .normed(at)
            .or_else(|| self.products(at))
            .map(|(products, end)| (Step::Products(products), end))
            .or_else(|| self.place(at).map(|(place, end)| (Step::Place(place), end)))
            .unwrap_or((Step::Single(op), at + 1));
        Some((step, end - at))
    }

    /// A norm whose result only products read.
    fn normed(&self, at: usize) -> Option<(Products, usize)> {
        let Op::Norm { out, x, norm, group } = self.op(at)? else { return None };
        let fits = norm.kind == NormKind::Rms && norm.weight.is_some() && group == x.width;
        if !fits || out.buffer == x.buffer || !self.weights.fuses(out, None) {
            return None;
        }
        let (products, end) = self.products(at + 1)?;
        let own = products.routing.is_none() && !products.add && products.x == out;
        let clear = products.each().iter().all(|product| product.out.buffer != x.buffer);
        (own && clear && self.is_dead(out, end))
            .then_some((Products { x, norm: Some(norm), ..products }, end))
    }

    /// Products of the same input with what surrounds them.
    fn products(&self, at: usize) -> Option<(Products, usize)> {
        let (first, x, routing, mut end) = self.product(at)?;
        let mut products = Products {
            each: [first; Products::MAX],
            count: 1,
            x,
            norm: None,
            gated: false,
            add: false,
            routing,
        };
        if self.weights.fuses(first.out, routing) {
            while let Some((next, of, by, after)) = self.product(end) {
                let fits = products.count < Products::MAX && of == x && by == routing;
                let apart = products.each().iter().all(|p| p.out.buffer != next.out.buffer);
                if !fits || !apart || !self.weights.together(first.w, next.w) {
                    break;
                }
                products.each[products.count] = next;
                products.count += 1;
                end = after;
            }
            if let (2, Some(Op::Swiglu { gate, up })) = (products.count, self.op(end)) {
                let [a, b, _] = products.each;
                if gate == a.out && up == b.out && self.is_dead(up, end + 1) {
                    return Some((Products { gated: true, ..products }, end + 1));
                }
            }
        }
        if let (1, None, Some(Op::Add { x: sum, y })) = (products.count, routing, self.op(end))
            && y == first.out
            && sum.buffer != x.buffer
            && self.is_dead(y, end + 1)
        {
            products.each[0].out = sum;
            return Some((Products { add: true, ..products }, end + 1));
        }
        Some((products, end))
    }

    /// One product with its bias, its input, its routing, and where it ends.
    fn product(&self, at: usize) -> Option<(Product, View, Option<Routing>, usize)> {
        match self.op(at)? {
            Op::Matmul { out, w, x } => match self.op(at + 1) {
                Some(Op::AddBias { x: to, bias }) if to == out => {
                    Some((Product { out, w, bias: Some(bias) }, x, None, at + 2))
                }
                _ => Some((Product { out, w, bias: None }, x, None, at + 1)),
            },
            Op::MatmulExperts { out, w, x, routing } => {
                Some((Product { out, w, bias: None }, x, Some(routing), at + 1))
            }
            _ => None,
        }
    }

    /// Queries and keys normalised, rotated and stored.
    fn place(&self, at: usize) -> Option<(Place, usize)> {
        let mut end = at;
        let mut norms = [None, None];
        for slot in &mut norms {
            if let Some(Op::Norm { out, x, norm, group }) = self.op(end) {
                let rms = norm.kind == NormKind::Rms && norm.weight.is_some();
                if rms && out == x && group < x.width {
                    *slot = Some((x, norm, group));
                    end += 1;
                }
            }
        }
        let Op::Rope { x: query, heads: query_heads, rotary } = self.op(end)? else { return None };
        let Op::Rope { x: key, heads, rotary: other } = self.op(end + 1)? else { return None };
        let Op::Store { cache, key: stored, value } = self.op(end + 2)? else { return None };
        let (cached, key_len) = self.weights.heads(cache);
        let same = rotary == other && key == stored && heads == cached;
        let even = query.width == query_heads * key_len && key.width == heads * key_len;
        let apart = query.buffer != key.buffer && value.buffer != query.buffer;
        let widest = key_len.max(value.width / heads);
        if !(same && even && apart && value.buffer != key.buffer)
            || widest > self.weights.head_len_max()
        {
            return None;
        }
        let norm_of = |view: View| {
            let own = norms.iter().flatten().find(|(x, _, group)| *x == view && *group == key_len);
            own.map(|(_, norm, _)| *norm)
        };
        let (query_norm, key_norm) = (norm_of(query), norm_of(key));
        let found = usize::from(query_norm.is_some()) + usize::from(key_norm.is_some());
        if found != norms.iter().flatten().count() {
            return None; // a norm of something else
        }
        let place = Place {
            query: Some(Heads { x: query, count: query_heads, norm: query_norm }),
            key: Some(Heads { x: key, count: heads, norm: key_norm }),
            rotary: Some(rotary),
            store: Some((cache, value)),
        };
        Some((place, end + 3))
    }
}

fn covers(outer: View, inner: View) -> bool {
    let within = |start: usize, len: usize, from: usize, count: usize| {
        start <= from && from + count <= start + len
    };
    outer.buffer == inner.buffer
        && within(outer.row, outer.rows, inner.row, inner.rows)
        && within(outer.column, outer.width, inner.column, inner.width)
}
