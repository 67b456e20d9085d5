//! The CPU: runs each operation at once, over buffers claimed while loading.
//!
//! An operation takes its output buffer out of the table, works, and puts it back, so that inputs
//! can be borrowed meanwhile and an output that is also an input is noticed at once.

mod attention;
mod experts;
mod product;

use super::threads::{Matrix, Pool};
use super::{
    Backend, Buffer, Cache, CacheShape, NormKind, NormShape, Pairing, Rotary, RotaryShape,
    RouteShape, Routing, Row, View, Weight,
};
use crate::bytes::Bytes;
use crate::gguf::Tensor;
use crate::memory::text;
use crate::{Error, Result};
use alloc::vec::Vec;
use attar_kernels::{Format, Isa, math};
use attention::KeyValues;
use experts::Routes;
use product::Engine;

/// How to run on the CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuOptions {
    /// Threads, the caller's included; 0 means one a core.
    pub threads: usize,
    /// Kernels to use instead of the fastest the CPU can run.
    pub isa: Option<&'static Isa>,
}

/// The CPU.
pub struct Cpu {
    memory: Memory,
    engine: Engine,
    claimed_bytes: usize,
}

/// What handles stand for.
#[derive(Default)]
struct Memory {
    weights: Vec<Matrices>,
    buffers: Vec<Rows>,
    caches: Vec<KeyValues>,
    rotaries: Vec<RotaryShape>,
    routings: Vec<Routes>,
    angles: Angles,
}

/// Cosine and sine of each pair of each row of a batch, kept for the layers that share them.
#[derive(Default)]
struct Angles {
    of: Option<Rotary>,
    rows: Vec<Row>,
    values: Vec<(f32, f32)>,
}

/// A matrix, or one an expert, where it lies in its file.
struct Matrices {
    format: Format,
    rows: usize,
    cols: usize,
    experts: Vec<Bytes>,
    /// The values of a vector, which operations other than products read as f32.
    vector: Vec<f32>,
}

/// Rows of f32.
struct Rows {
    data: Vec<f32>,
    stride: usize,
}

impl Rows {
    /// Row `r` of a view.
    fn row(&self, view: View, r: usize) -> &[f32] {
        &self.data[(view.row + r) * self.stride + view.column..][..view.width]
    }

    /// All rows of a view, in whole.
    fn whole(&mut self, view: View) -> &mut [f32] {
        &mut self.data[view.row * self.stride..][..view.rows * self.stride]
    }

    fn matrix(&mut self, view: View) -> Matrix<'_> {
        let stride = self.stride;
        Matrix { data: self.whole(view), stride, first: view.column, width: view.width }
    }
}

/// A vector of `len` copies of `value`, or an error where memory does not suffice.
fn claim<T: Clone>(len: usize, value: T) -> Result<Vec<T>> {
    let mut vector = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    vector
        .try_reserve_exact(len)
        .map_err(|_| Error::Limit(text!("no memory for a buffer of {bytes} bytes")))?;
    vector.resize(len, value);
    Ok(vector)
}

impl Cpu {
    /// A CPU without weights.
    ///
    /// # Errors
    /// [`Error::Io`] if threads cannot be started.
    pub fn new(options: CpuOptions) -> Result<Self> {
        let isa = options.isa.unwrap_or_else(attar_kernels::best);
        let engine = Engine::new(isa, Pool::new(options.threads)?);
        Ok(Self { memory: Memory::default(), engine, claimed_bytes: 0 })
    }

    /// Threads in use, the caller's included.
    pub fn threads(&self) -> usize {
        self.engine.pool.threads()
    }

    /// Kernels in use.
    pub fn isa(&self) -> &'static Isa {
        self.engine.isa
    }

    /// A zeroed vector that counts as claimed.
    fn claim<T: Clone>(&mut self, len: usize, value: T) -> Result<Vec<T>> {
        let vector = claim(len, value)?;
        self.claimed_bytes += len * size_of::<T>();
        Ok(vector)
    }

    fn take(&mut self, buffer: Buffer) -> Rows {
        self.engine.forget(buffer);
        let rows = &mut self.memory.buffers[buffer.0 as usize];
        Rows { data: core::mem::take(&mut rows.data), stride: rows.stride }
    }

    fn put(&mut self, buffer: Buffer, rows: Rows) {
        self.memory.buffers[buffer.0 as usize] = rows;
    }

    /// Calls `f(memory, row index, columns)` for each row of `x`, rows divided among the threads;
    /// `f` may read every buffer but the one of `x`.
    fn each_row(&mut self, x: View, f: impl Fn(&Memory, usize, &mut [f32]) + Sync) {
        let mut out = self.take(x.buffer);
        let Engine { pool, scratch, .. } = &mut self.engine;
        let (memory, stride) = (&self.memory, out.stride);
        pool.rows(scratch, out.whole(x), stride, |_, r, row| {
            f(memory, r, &mut row[x.column..][..x.width]);
        });
        self.put(x.buffer, out);
    }
}

impl Memory {
    fn row(&self, x: View, r: usize) -> &[f32] {
        self.buffers[x.buffer.0 as usize].row(x, r)
    }

    fn vector(&self, weight: Weight) -> &[f32] {
        &self.weights[weight.0 as usize].vector
    }

    /// Makes `angles` those of `rotary` for this batch.
    fn turn(&mut self, rotary: Rotary, rows: &[Row]) {
        let angles = &mut self.angles;
        if angles.of == Some(rotary) && angles.rows == rows {
            return;
        }
        let shape = &self.rotaries[rotary.0 as usize];
        angles.values.clear();
        for row in rows {
            angles.values.extend(shape.frequencies.iter().map(|f| {
                let (sin, cos) = math::sin_cos(f64::from(row.position) * f);
                (cos * shape.magnitude, sin * shape.magnitude)
            }));
        }
        angles.of = Some(rotary);
        angles.rows.clear();
        angles.rows.extend_from_slice(rows);
    }
}

impl Backend for Cpu {
    fn vector(&mut self, tensor: &Tensor) -> Result<Weight> {
        let (format, cols) = (tensor.format()?, tensor.row_len());
        let mut vector = self.claim(cols, 0.0)?;
        format.info().dequantize(&tensor.bytes, &mut vector);
        let experts = Vec::new();
        self.memory.weights.push(Matrices { format, rows: 1, cols, experts, vector });
        Ok(Weight(self.memory.weights.len() as u32 - 1))
    }

    fn weight(&mut self, experts: &[Tensor]) -> Result<Weight> {
        let first = &experts[0];
        let format = first.format()?;
        let (cols, rows) = (first.dims[0], first.dims[1..].iter().product());
        if let Some(other) = experts.iter().find(|t| t.kind != first.kind || t.dims != first.dims) {
            let (name, kind, expected) = (&other.name, other.kind.name, first.kind.name);
            return Err(Error::Unsupported(text!(
                "tensor '{name}' of {:?} {kind} among experts of {:?} {expected}",
                other.dims,
                first.dims
            )));
        }
        self.engine.expect(format, cols);
        let experts = experts.iter().map(|t| t.bytes.clone()).collect();
        self.memory.weights.push(Matrices { format, rows, cols, experts, vector: Vec::new() });
        Ok(Weight(self.memory.weights.len() as u32 - 1))
    }

    fn buffer(&mut self, rows: usize, width: usize) -> Result<View> {
        let data = self.claim(rows * width, 0.0)?;
        self.memory.buffers.push(Rows { data, stride: width });
        let buffer = Buffer(self.memory.buffers.len() as u32 - 1);
        Ok(View { buffer, row: 0, rows, column: 0, width })
    }

    fn cache(&mut self, shape: CacheShape) -> Result<Cache> {
        let (key_bytes, value_bytes) = KeyValues::bytes(&shape)?;
        let (keys, values) = (self.claim(key_bytes, 0)?, self.claim(value_bytes, 0)?);
        self.memory.caches.push(KeyValues { shape, keys, values });
        Ok(Cache(self.memory.caches.len() as u32 - 1))
    }

    fn rotary(&mut self, shape: RotaryShape) -> Result<Rotary> {
        self.memory.rotaries.push(shape);
        Ok(Rotary(self.memory.rotaries.len() as u32 - 1))
    }

    fn routing(&mut self, rows: usize, used: usize) -> Result<Routing> {
        let slots = rows * used;
        let routes = Routes {
            used,
            experts: self.claim(slots, 0)?,
            weights: self.claim(slots, 0.0)?,
            slots: self.claim(slots, 0)?,
            sources: self.claim(slots, 0)?,
        };
        self.memory.routings.push(routes);
        Ok(Routing(self.memory.routings.len() as u32 - 1))
    }

    fn seal(&mut self, rows: usize) -> Result<()> {
        let pairs = self.memory.rotaries.iter().map(|r| r.frequencies.len()).max().unwrap_or(0);
        self.memory.angles.values = self.claim(rows * pairs, (0.0, 0.0))?;
        self.memory.angles.rows = self.claim(rows, Row { sequence: 0, position: 0 })?;
        let memory = &self.memory;
        let used = memory.routings.iter().map(|r| r.used).max().unwrap_or(1);
        let scores = memory.caches.iter().map(KeyValues::scratch_len).max().unwrap_or(0);
        self.claimed_bytes += self.engine.seal(rows, used, scores)?;
        Ok(())
    }

    fn claimed_bytes(&self) -> usize {
        self.claimed_bytes
    }

    fn cache_bytes(&self) -> usize {
        self.memory.caches.iter().map(|cache| cache.keys.len() + cache.values.len()).sum()
    }

    fn write(&mut self, out: View, values: &[f32]) {
        assert!(values.len() == out.rows * out.width);
        self.each_row(out, |_, r, row| row.copy_from_slice(&values[r * out.width..][..out.width]));
    }

    fn read(&mut self, x: View) -> Result<&[f32]> {
        let rows = &self.memory.buffers[x.buffer.0 as usize];
        assert!(x.column == 0 && x.width == rows.stride);
        Ok(&rows.data[x.row * rows.stride..][..x.rows * rows.stride])
    }

    fn embed(&mut self, out: View, table: Weight, ids: &[u32]) {
        assert!(out.rows == ids.len());
        self.each_row(out, |memory, r, row| {
            let table = &memory.weights[table.0 as usize];
            let info = table.format.info();
            let bytes = info.row_bytes(table.cols);
            info.dequantize(&table.experts[0][ids[r] as usize * bytes..][..bytes], row);
        });
    }

    fn matmul(&mut self, out: View, w: Weight, x: View) {
        self.product(out, w, x);
    }

    fn copy(&mut self, out: View, x: View) {
        assert!(out.rows == x.rows);
        self.each_row(out, |memory, r, row| row.copy_from_slice(memory.row(x, r)));
    }

    fn add(&mut self, x: View, y: View) {
        assert!(x.rows == y.rows && x.width == y.width);
        self.each_row(x, |memory, r, row| {
            row.iter_mut().zip(memory.row(y, r)).for_each(|(a, b)| *a += b);
        });
    }

    fn add_bias(&mut self, x: View, bias: Weight) {
        self.each_row(x, |memory, _, row| {
            row.iter_mut().zip(memory.vector(bias)).for_each(|(a, b)| *a += b);
        });
    }

    fn scale(&mut self, x: View, factor: f32) {
        self.each_row(x, |_, _, row| row.iter_mut().for_each(|v| *v *= factor));
    }

    fn scale_rows(&mut self, x: View, gate: View) {
        assert!(x.rows == gate.rows && gate.width == 1);
        self.each_row(x, |memory, r, row| {
            let factor = 1.0 / (1.0 + math::exp(-memory.row(gate, r)[0]));
            row.iter_mut().for_each(|v| *v *= factor);
        });
    }

    fn norm(&mut self, out: View, x: View, norm: NormShape, group: usize) {
        if out != x {
            self.copy(out, x);
        }
        let isa = self.engine.isa;
        let apply = match norm.kind {
            NormKind::Rms => Isa::rms_norm,
            NormKind::Layer => Isa::layer_norm,
        };
        self.each_row(out, |memory, _, row| {
            let weight = norm.weight.map(|w| memory.vector(w));
            row.chunks_mut(group).for_each(|x| apply(isa, x, weight, norm.eps));
        });
    }

    fn swiglu(&mut self, gate: View, up: View) {
        assert!(gate.rows == up.rows && gate.width == up.width);
        let isa = self.engine.isa;
        self.each_row(gate, |memory, r, row| isa.swiglu(row, memory.row(up, r)));
    }

    fn rope(&mut self, x: View, heads: usize, rotary: Rotary, rows: &[Row]) {
        assert!(x.rows == rows.len() && x.width.is_multiple_of(heads));
        self.memory.turn(rotary, rows);
        let shape = &self.memory.rotaries[rotary.0 as usize];
        let (pairs, pairing) = (shape.frequencies.len(), shape.pairing);
        self.each_row(x, |memory, r, row| {
            let angles = &memory.angles.values[r * pairs..][..pairs];
            for head in row.chunks_exact_mut(x.width / heads) {
                for (i, (cos, sin)) in angles.iter().enumerate() {
                    let (a, b) = match pairing {
                        Pairing::Adjacent => (2 * i, 2 * i + 1),
                        Pairing::Halves => (i, i + pairs),
                    };
                    let (first, second) = (head[a], head[b]);
                    head[a] = first * cos - second * sin;
                    head[b] = first * sin + second * cos;
                }
            }
        });
    }

    fn store(&mut self, cache: Cache, key: View, value: View, rows: &[Row]) {
        self.store_rows(cache, key, value, rows);
    }

    fn attention(&mut self, out: View, query: View, cache: Cache, scale: f32, rows: &[Row]) {
        self.attend(out, query, cache, scale, rows);
    }

    fn route(&mut self, routing: Routing, scores: View, shape: RouteShape) {
        self.choose(routing, scores, shape);
    }

    fn matmul_experts(&mut self, out: View, w: Weight, x: View, routing: Routing) {
        self.product_experts(out, w, x, routing);
    }

    fn scale_experts(&mut self, x: View, factors: Weight, routing: Routing) {
        self.each_row(x, |memory, slot, row| {
            let expert = memory.routings[routing.0 as usize].experts[slot];
            let factor = memory.vector(factors)[expert as usize];
            row.iter_mut().for_each(|v| *v *= factor);
        });
    }

    fn combine(&mut self, out: View, x: View, routing: Routing) {
        let used = self.memory.routings[routing.0 as usize].used;
        assert!(x.rows == out.rows * used && x.width == out.width);
        self.each_row(out, |memory, r, row| {
            row.fill(0.0);
            for slot in r * used..(r + 1) * used {
                let weight = memory.routings[routing.0 as usize].weights[slot];
                row.iter_mut().zip(memory.row(x, slot)).for_each(|(y, v)| *y += weight * v);
            }
        });
    }
}
