//! From steps to dispatches: which pipeline, which buffers, which numbers.

use super::Gpu;
use super::layout;
use super::memory::{Id, Matrix, Piece};
use super::products::MATVEC_ROWS_MAX;
use super::shaders::{Id as Shader, Key};
use super::steps::{Heads, Op, Place, Step};
use crate::Result;
use crate::backend::{NormKind, Pairing, RouteShape, Routing, View, Weight};
use attar_kernels::Format;

/// Stands for a vector that is not there.
pub(super) const NONE: u32 = u32::MAX;
/// Positions of a part of attention, and workgroups from which on there are no parts.
const PART_LEN: usize = 256;
const WORKGROUPS: usize = 512;
/// Bytes from one dispatch's parameters to the next.
pub(super) const PARAMS_BYTES: usize = 256;

/// Numbers for a shader, in the order of its `Params`.
#[derive(Default)]
pub(super) struct Params(Vec<u32>);

impl Params {
    pub(super) fn new(values: &[u32]) -> Self {
        Self(values.to_vec())
    }

    pub(super) fn push(mut self, values: &[u32]) -> Self {
        self.0.extend(values);
        self
    }

    pub(super) fn float(self, value: f32) -> Self {
        self.push(&[value.to_bits()])
    }
}

/// Parts into which attention of `rows` rows over `positions` positions is cut.
pub(super) fn parts(rows: usize, query_heads: usize, positions: usize) -> usize {
    if rows * query_heads >= WORKGROUPS { 1 } else { positions.div_ceil(PART_LEN).max(1) }
}

impl Gpu {
    pub(super) fn encode(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Products(products) => {
                self.products(&products)?;
                let is_out = |x: View| products.each().iter().any(|p| p.out.buffer == x.buffer);
                self.quantized = self.quantized.filter(|x| !is_out(*x));
                return Ok(());
            }
            Step::Place(place) => self.place(place)?,
            Step::Single(op) => self.single(op)?,
        }
        self.quantized = None;
        Ok(())
    }

    /// Start and stride of a view.
    pub(super) fn at(&self, view: View) -> [u32; 2] {
        [self.memory.start(view), self.memory.rows(view).stride as u32]
    }

    /// The same in vectors of four.
    pub(super) fn at_fours(&self, view: View) -> [u32; 2] {
        let [start, stride] = self.at(view);
        assert!(start % 4 == 0, "an input starts at a multiple of 4 columns");
        [start / 4, stride / 4]
    }

    pub(super) fn id(&self, view: View) -> Id {
        self.memory.rows(view).id
    }

    fn embed(&mut self, out: View, table: Weight) -> Result<()> {
        for piece in 0..self.memory.matrix(table).pieces.len() {
            let Matrix { format, cols, .. } = *self.memory.matrix(table);
            let Piece { buffer, planes, first, end } = self.memory.matrix(table).pieces[piece];
            let units = layout::units(cols) as u32;
            let params = Params::new(&planes).push(&self.at(out)).push(&[
                first as u32,
                end as u32,
                units,
                cols as u32,
            ]);
            let buffers = [buffer, self.fixed.ids, self.id(out)];
            let grid = [units.div_ceil(64), out.rows as u32, 1];
            self.dispatch(&Key::new(Shader::Embed, &[format]), &buffers, &params, grid)?;
        }
        Ok(())
    }

    fn norm(&mut self, op: Op) -> Result<()> {
        let Op::Norm { out, x, norm, group } = op else { return Ok(()) };
        let in_place = out.buffer == x.buffer;
        assert!(!in_place || out == x, "a norm within a buffer is in place");
        let weight = norm.weight.map_or(NONE, |w| self.memory.vector(w));
        let params = Params::default()
            .push(&self.at(out))
            .push(&self.at(x))
            .push(&[group as u32, weight])
            .float(norm.eps)
            .push(&[u32::from(norm.kind == NormKind::Layer)]);
        let key = Key::new(Shader::Norm, &[]).when(in_place, "IN_PLACE");
        let from = if in_place { self.fixed.dummy } else { self.id(x) };
        let buffers = [from, self.fixed.vectors, self.id(out)];
        let groups = (out.width / group) as u32;
        self.dispatch(&key, &buffers, &params, [groups, out.rows as u32, 1])
    }

    fn place(&mut self, place: Place) -> Result<()> {
        let Place { query, key, rotary, store } = place;
        let some = query.or(key).map(|heads| heads.x).expect("queries or keys");
        let at = |heads: Option<Heads>| heads.map_or([0, 0], |heads| self.at(heads.x));
        let value = store.map_or([0, 0], |(_, value)| self.at(value));
        let count = |heads: Option<Heads>| heads.map_or(0, |heads| heads.count as u32);
        let norm = |heads: Option<Heads>| {
            let norm = heads.and_then(|heads| heads.norm);
            let weight = norm.and_then(|n| n.weight).map_or(NONE, |w| self.memory.vector(w));
            (weight, norm.map_or(0.0, |n| n.eps))
        };
        let head_len = |heads: Heads| (heads.x.width / heads.count) as u32;
        let key_len = query.or(key).map_or(0, head_len);
        let value_len = store.map_or(0, |(_, value)| value.width as u32 / count(key).max(1));
        let turning = rotary.map(|r| &self.memory.rotaries[r.0 as usize]);
        let pairs = turning.map_or(0, |t| t.shape.frequencies.len() as u32);
        let adjacent = turning.is_some_and(|t| t.shape.pairing == Pairing::Adjacent);
        let cache = store.map(|(cache, _)| self.memory.caches[cache.0 as usize]);
        let ((query_norm, query_eps), (key_norm, key_eps)) = (norm(query), norm(key));
        let params = Params::default()
            .push(&at(query))
            .push(&at(key))
            .push(&value)
            .push(&[count(query), count(key), key_len, value_len, pairs, u32::from(adjacent)])
            .push(&[query_norm, key_norm])
            .float(query_eps)
            .float(key_eps)
            .push(&[cache.map_or(0, |c| c.shape.context_len as u32), u32::from(store.is_some())])
            .push(&cache.map_or([0, 0], |c| c.scales()));
        let shader = Key::new(Shader::Place, &[])
            .with("CACHE", cache.map_or(0, |c| encoding(c.shape.format)));
        let dummy = self.fixed.dummy;
        let id = |heads: Option<Heads>| heads.map_or(self.fixed.spare, |heads| self.id(heads.x));
        let buffers = [
            store.map_or(dummy, |(_, value)| self.id(value)),
            self.fixed.vectors,
            self.fixed.rows,
            turning.map_or(dummy, |t| t.angles),
            id(query),
            id(key),
            cache.map_or(self.fixed.spare, |c| c.keys),
            cache.map_or(self.fixed.spare, |c| c.values),
        ];
        let grid = [count(query) + count(key), some.rows as u32, 1];
        self.dispatch(&shader, &buffers, &params, grid)
    }

    fn attention(&mut self, op: Op) -> Result<()> {
        let Op::Attention { out, query, cache, scale } = op else { return Ok(()) };
        let cache = self.memory.caches[cache.0 as usize];
        let shape = cache.shape;
        let seen = self.batch.positions();
        let parts = parts(query.rows, shape.query_heads, seen);
        let part_len = if parts == 1 { seen } else { PART_LEN };
        let heads = [shape.heads, shape.query_heads / shape.heads].map(|n| n as u32);
        let sizes = [shape.key_len, shape.value_len, shape.context_len, part_len, parts];
        let params = Params::default()
            .push(&self.at(query))
            .push(&self.at(out))
            .push(&heads)
            .push(&sizes.map(|n| n as u32))
            .float(scale)
            .push(&cache.scales());
        let key = Key::new(Shader::Attention, &[]).with("CACHE", encoding(shape.format));
        let (partials, rows) = (self.fixed.partials, self.fixed.rows);
        let buffers = [self.id(query), cache.keys, cache.values, rows, self.id(out), partials];
        let grid = [parts as u32, shape.query_heads as u32, query.rows as u32];
        self.dispatch(&key, &buffers, &params, grid)?;
        if parts == 1 {
            return Ok(());
        }
        let params = Params::default().push(&self.at(out)).push(&[
            shape.query_heads as u32,
            shape.value_len as u32,
            parts as u32,
        ]);
        let buffers = [partials, self.id(out)];
        let grid = [shape.query_heads as u32, query.rows as u32, 1];
        self.dispatch(&Key::new(Shader::Merge, &[]), &buffers, &params, grid)
    }

    /// Chooses experts, and where there are many rows puts their slots in order.
    fn route(&mut self, routing: Routing, scores: View, shape: RouteShape) -> Result<()> {
        let routes = self.memory.routings[routing.0 as usize];
        let params = Params::default()
            .push(&self.at(scores))
            .push(&[scores.width as u32, shape.used as u32, u32::from(shape.normalize)])
            .float(shape.scale)
            .push(&[routes.weights]);
        let buffers = [self.id(scores), routes.id];
        let grid = [scores.rows as u32, 1, 1];
        self.dispatch(&Key::new(Shader::Route, &[]), &buffers, &params, grid)?;
        if scores.rows <= MATVEC_ROWS_MAX {
            return Ok(());
        }
        let slots = (scores.rows * shape.used) as u32;
        let params = Params::new(&[slots, scores.width as u32, routes.order, routes.starts]);
        self.dispatch(&Key::new(Shader::Group, &[]), &[routes.id], &params, [1; 3])
    }

    fn single(&mut self, op: Op) -> Result<()> {
        match op {
            Op::Embed { out, table } => self.embed(out, table),
            Op::Norm { .. } => self.norm(op),
            Op::Attention { .. } => self.attention(op),
            Op::Rope { x, heads, rotary } => {
                let query = Some(Heads { x, count: heads, norm: None });
                self.place(Place { query, key: None, rotary: Some(rotary), store: None })
            }
            Op::Store { cache, key: x, value } => {
                let count = self.memory.caches[cache.0 as usize].shape.heads;
                let key = Some(Heads { x, count, norm: None });
                self.place(Place { query: None, key, rotary: None, store: Some((cache, value)) })
            }
            Op::Route { routing, scores, shape } => self.route(routing, scores, shape),
            Op::Combine { out, x, routing } => {
                let routes = self.memory.routings[routing.0 as usize];
                let params = Params::default().push(&self.at(out)).push(&self.at(x)).push(&[
                    out.width as u32,
                    routes.used as u32,
                    routes.weights,
                ]);
                let buffers = [self.id(x), routes.id, self.id(out)];
                let grid = [(out.width as u32).div_ceil(64), out.rows as u32, 1];
                self.dispatch(&Key::new(Shader::Combine, &[]), &buffers, &params, grid)
            }
            Op::Copy { out, x } => self.map(Map::Copy, out, Other::Rows(x)),
            Op::Add { x, y } => self.map(Map::Add, x, Other::Rows(y)),
            Op::AddBias { x, bias } => {
                self.map(Map::AddBias, x, Other::Vector(self.memory.vector(bias)))
            }
            Op::Scale { x, factor } => self.map(Map::Scale, x, Other::Factor(factor)),
            Op::ScaleRows { x, gate } => self.map(Map::ScaleRows, x, Other::Rows(gate)),
            Op::ScaleExperts { x, factors, routing } => {
                let routes = self.memory.routings[routing.0 as usize].id;
                self.map(Map::ScaleExperts, x, Other::Experts(self.memory.vector(factors), routes))
            }
            Op::Gelu { x } => self.map(Map::Gelu, x, Other::Nothing),
            Op::Swiglu { gate, up } => self.map(Map::Swiglu, gate, Other::Rows(up)),
            Op::Matmul { .. } | Op::MatmulExperts { .. } => unreachable!("products are steps"),
        }
    }

    fn map(&mut self, operation: Map, out: View, other: Other) -> Result<()> {
        let (from, at, routes, factor) = match other {
            Other::Rows(view) => {
                assert!(view.buffer != out.buffer, "inputs lie in other buffers");
                (self.id(view), self.at(view), self.fixed.dummy, 0.0)
            }
            Other::Vector(start) => (self.fixed.vectors, [start, 0], self.fixed.dummy, 0.0),
            Other::Experts(start, routes) => (self.fixed.vectors, [start, 0], routes, 0.0),
            Other::Factor(factor) => (self.fixed.dummy, [0, 0], self.fixed.dummy, factor),
            Other::Nothing => (self.fixed.dummy, [0, 0], self.fixed.dummy, 0.0),
        };
        let params =
            Params::default().push(&self.at(out)).push(&at).push(&[out.width as u32]).float(factor);
        let key = Key::new(Shader::Map, &[]).with("OPERATION", operation as u32);
        let buffers = [from, routes, self.id(out)];
        let grid = [(out.width as u32).div_ceil(64), out.rows as u32, 1];
        self.dispatch(&key, &buffers, &params, grid)
    }

    pub(super) fn dispatch(
        &mut self,
        key: &Key,
        buffers: &[Id],
        params: &Params,
        grid: [u32; 3],
    ) -> Result<()> {
        let recorder = self.recorder.as_mut().expect("sealed before it runs");
        recorder.push(&self.device, &self.memory, key, buffers, &params.0, grid)
    }
}

/// The number of a cache's format in shaders.
fn encoding(format: Format) -> u32 {
    match format {
        Format::F16 => 1,
        Format::Q8_0 => 2,
        _ => 0,
    }
}

/// The operations of the shader `map`, by their numbers there.
#[derive(Clone, Copy)]
enum Map {
    Copy,
    Add,
    AddBias,
    Scale,
    ScaleRows,
    ScaleExperts,
    Gelu,
    Swiglu,
}

/// What an operation of `map` takes besides its output.
enum Other {
    Rows(View),
    Vector(u32),
    Experts(u32, Id),
    Factor(f32),
    Nothing,
}
