//! The CPU: runs each operation at once, over buffers claimed while loading.
//!
//! An operation takes its output buffer out of the table, works, and puts it back, so that inputs
//! can be borrowed meanwhile and an output that is also an input is noticed at once.

mod attention;
mod experts;
mod product;

use super::threads::{Executor, Matrix, Threads};
use super::{
    Backend, Buffer, Cache, CacheShape, NormKind, NormShape, Pairing, Rotary, RotaryShape,
    RouteShape, Routing, Row, View, Weight, matrix_shape,
};
use crate::Result;
use crate::bytes::Bytes;
use crate::gguf::Tensor;
use crate::memory::{self, Block, List};
use alloc::vec::Vec;
use attar_kernels::{Format, Isa, math};
use attention::KeyValues;
use experts::Routes;
use product::Engine;

/// How to run on the CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuOptions {
    /// Threads, the caller's included; 0 means one a core, or all that are lent.
    pub threads: usize,
    /// Threads to use instead of our own.
    pub executor: Option<&'static dyn Executor>,
    /// Kernels to use instead of the fastest the CPU can run.
    pub isa: Option<&'static Isa>,
}

/// The CPU.
pub struct Cpu {
    memory: Memory,
    engine: Engine,
    claimed_bytes: usize,
    cache_bytes: usize,
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
    rows: List<Row>,
    values: Block<[f32; 2]>,
}

/// A matrix, or one an expert, where it lies in its file.
struct Matrices {
    format: Format,
    rows: usize,
    cols: usize,
    experts: Vec<Bytes>,
    /// The values of a vector, which operations other than products read as f32.
    vector: Block<f32>,
    /// The matrix multiplied after this one, last time.
    next: Option<Weight>,
}

/// Rows of f32.
struct Rows {
    data: Block<f32>,
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

impl Cpu {
    /// A CPU without weights.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if threads cannot be started, [`crate::Error::Limit`] if too many are asked for.
    pub fn new(options: CpuOptions) -> Result<Self> {
        let isa = options.isa.unwrap_or_else(attar_kernels::best);
        let engine = Engine::new(isa, Threads::new(options.threads, options.executor)?)?;
        Ok(Self { memory: Memory::default(), engine, claimed_bytes: 0, cache_bytes: 0 })
    }

    /// The threads that a CPU of these options has.
    pub fn threads_for(options: CpuOptions) -> usize {
        Threads::count_for(options.threads, options.executor)
    }

    /// A block that counts as claimed.
    fn claim<T: Copy>(&mut self, len: usize, value: T) -> Result<Block<T>> {
        let block = Block::claim(len, value)?;
        self.claimed_bytes += Block::<T>::bytes(len);
        Ok(block)
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
        if angles.of == Some(rotary) && *angles.rows == *rows {
            return;
        }
        let shape = &self.rotaries[rotary.0 as usize];
        let pairs = shape.frequencies.len().max(1);
        for (row, values) in rows.iter().zip(angles.values.chunks_exact_mut(pairs)) {
            values.iter_mut().zip(shape.angles(row.position)).for_each(|(v, angle)| *v = angle);
        }
        angles.of = Some(rotary);
        angles.rows.set(rows.iter().copied());
    }
}

/// Puts a value into a table; says where.
fn add<T>(table: &mut Vec<T>, value: T) -> Result<u32> {
    memory::push(table, value)?;
    Ok(table.len() as u32 - 1)
}

impl Backend for Cpu {
    fn name(&self) -> &str {
        self.engine.isa.name()
    }

    fn threads(&self) -> usize {
        self.engine.pool.count()
    }

    fn vector(&mut self, tensor: &Tensor) -> Result<Weight> {
        let (format, cols) = (tensor.format()?, tensor.row_len());
        let mut vector = self.claim(cols, 0.0)?;
        if !vector.is_empty() {
            format.info().dequantize(&tensor.bytes, &mut vector);
        }
        let experts = Vec::new();
        add(
            &mut self.memory.weights,
            Matrices { format, rows: 1, cols, experts, vector, next: None },
        )
        .map(Weight)
    }

    fn weight(&mut self, experts: &[Tensor]) -> Result<Weight> {
        let (format, rows, cols) = matrix_shape(experts)?;
        self.engine.expect(format, cols);
        let experts = memory::collect(experts.iter().map(|t| t.bytes.clone()))?;
        let vector = Block::default();
        add(&mut self.memory.weights, Matrices { format, rows, cols, experts, vector, next: None })
            .map(Weight)
    }

    fn buffer(&mut self, rows: usize, width: usize) -> Result<View> {
        let data = self.claim(rows.saturating_mul(width), 0.0)?;
        let buffer = add(&mut self.memory.buffers, Rows { data, stride: width }).map(Buffer)?;
        Ok(View { buffer, row: 0, rows, column: 0, width })
    }

    fn cache(&mut self, shape: CacheShape) -> Result<Cache> {
        let (key_bytes, value_bytes) = shape.bytes()?;
        let (keys, values) = (self.claim(key_bytes, 0)?, self.claim(value_bytes, 0)?);
        self.cache_bytes += key_bytes + value_bytes;
        add(&mut self.memory.caches, KeyValues { shape, keys, values }).map(Cache)
    }

    fn rotary(&mut self, shape: RotaryShape) -> Result<Rotary> {
        add(&mut self.memory.rotaries, shape).map(Rotary)
    }

    fn routing(&mut self, rows: usize, used: usize) -> Result<Routing> {
        let slots = rows.saturating_mul(used);
        let routes = Routes {
            used,
            experts: self.claim(slots, 0)?,
            weights: self.claim(slots, 0.0)?,
            slots: List::claim(slots, 0)?,
            sources: List::claim(slots, 0)?,
        };
        add(&mut self.memory.routings, routes).map(Routing)
    }

    fn seal(&mut self, rows: usize) -> Result<()> {
        let pairs = self.memory.rotaries.iter().map(|r| r.frequencies.len()).max().unwrap_or(0);
        self.memory.angles.values = self.claim(rows.saturating_mul(pairs), [0.0; 2])?;
        self.memory.angles.rows = List::claim(rows, Row { sequence: 0, position: 0 })?;
        let memory = &self.memory;
        let used = memory.routings.iter().map(|r| r.used).max().unwrap_or(1);
        let scores = memory.caches.iter().map(|cache| cache.scratch_len(rows)).max().unwrap_or(0);
        self.claimed_bytes += self.engine.seal(rows, used, scores)?;
        Ok(())
    }

    fn claimed_bytes(&self) -> usize {
        self.claimed_bytes
    }

    fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    fn cached(&self, cache: Cache, positions: usize, each: &mut dyn FnMut(&[u8])) {
        let KeyValues { shape, keys, values } = &self.memory.caches[cache.0 as usize];
        KeyValues::pieces(shape, positions).for_each(|(key, value)| {
            each(&keys[key]);
            each(&values[value]);
        });
    }

    fn restore(&mut self, cache: Cache, positions: usize, fill: &mut dyn FnMut(&mut [u8])) {
        let KeyValues { shape, keys, values } = &mut self.memory.caches[cache.0 as usize];
        KeyValues::pieces(shape, positions).for_each(|(key, value)| {
            fill(&mut keys[key]);
            fill(&mut values[value]);
        });
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

    fn gelu(&mut self, x: View) {
        let isa = self.engine.isa;
        self.each_row(x, |_, _, row| isa.gelu(row));
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
                for (i, [cos, sin]) in angles.iter().enumerate() {
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
