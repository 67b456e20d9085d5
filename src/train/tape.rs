//! A device that remembers: it runs each operation in f32 and walks back through them for gradients.
//!
//! Reverse-mode differentiation (Griewank and Walther, Evaluating Derivatives, 2008). Every buffer has
//! a twin for the gradient with respect to what it holds at that point of the walk: an operation that
//! overwrote a view finds the gradient of its result there and leaves zeros; what it read gets its part
//! added. So views, operations in place and reused buffers need no rules of their own. What an operation
//! needs on the way back it keeps when it runs, once for all that read the same content.
//!
//! Sums run in orders that do not depend on the number of threads.

mod attention;
mod back;
mod experts;
mod parameter;
mod rows;

pub use parameter::{Parameter, Piece};

use super::product::multiply_on;
use crate::Result;
use crate::backend::{
    Backend, Buffer, Cache, CacheShape, NormKind, NormShape, Pairing, Rotary, RotaryShape,
    RouteShape, Routing, Row, Threads, View, Weight, matrix_shape,
};
use crate::gguf::Tensor;
use attar_kernels::{Format, Isa, math};
use attention::KeyValues;
use back::Operation;
use experts::Routes;
use rows::{Kept, Rows};
use std::sync::Arc;

/// How to make a [`Tape`].
#[derive(Clone, Copy, Debug)]
pub struct TapeOptions {
    /// Threads, the caller's included; 0 means one a core.
    pub threads: usize,
    /// Whether the tensor of a name learns: it is held in f32 then and has a gradient. Others stay in
    /// their format.
    pub learns: fn(&str) -> bool,
    /// Whether operations are remembered; without, there is no way back, and less memory is taken.
    pub records: bool,
}

impl Default for TapeOptions {
    fn default() -> Self {
        Self { threads: 0, learns: |_| true, records: true }
    }
}

/// Place in a record, for [`Tape::back_to`].
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    operations: usize,
    kept: usize,
}

/// The device.
pub struct Tape {
    threads: Threads,
    isa: &'static Isa,
    learns: fn(&str) -> bool,
    records: bool,
    parameters: Vec<Parameter>,
    values: Vec<Rows>,
    gradients: Vec<Rows>,
    caches: Vec<KeyValues>,
    rotaries: Vec<RotaryShape>,
    routings: Vec<Routes>,
    record: Vec<Operation>,
    kept: Kept,
    /// The rows of the batch at work, shared by the operations that ask for them.
    batch: Arc<[Row]>,
    /// Weights of frozen matrices, a tile at a time.
    tile: Vec<f32>,
    /// Rotations of the batch they were worked out for.
    angles: Angles,
}

/// Cosine and sine of each pair of each row of a batch.
#[derive(Default)]
struct Angles {
    of: Option<(Rotary, Arc<[Row]>)>,
    values: Vec<[f32; 2]>,
}

impl Mark {
    /// Before everything.
    pub const START: Self = Self { operations: 0, kept: 0 };
}

impl Tape {
    /// A tape without weights.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if threads cannot be started, [`crate::Error::Limit`] if too many are asked for.
    pub fn new(options: TapeOptions) -> Result<Self> {
        Ok(Self {
            threads: Threads::new(options.threads, None)?,
            isa: attar_kernels::best(),
            learns: options.learns,
            records: options.records,
            parameters: Vec::new(),
            values: Vec::new(),
            gradients: Vec::new(),
            caches: Vec::new(),
            rotaries: Vec::new(),
            routings: Vec::new(),
            record: Vec::new(),
            kept: Kept::default(),
            batch: Arc::new([]),
            tile: Vec::new(),
            angles: Angles::default(),
        })
    }

    /// What was loaded, in the order of loading.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The same, to be changed between steps; with the threads to do it.
    pub(crate) fn parameters_mut(&mut self) -> (&mut [Parameter], &mut Threads) {
        (&mut self.parameters, &mut self.threads)
    }

    /// Where the record is now.
    pub fn mark(&self) -> Mark {
        Mark { operations: self.record.len(), kept: self.kept.used }
    }

    /// Forgets the record, not the weights' gradients.
    pub fn forget(&mut self) {
        self.record.clear();
        self.kept.truncate(0);
        self.gradients.iter_mut().for_each(|g| g.data.fill(0.0));
        self.caches.iter_mut().for_each(KeyValues::forget_gradients);
    }

    /// Adds to the gradient of what `x` holds: `[rows, width]`.
    pub fn seed(&mut self, x: View, gradient: &[f32]) {
        assert!(gradient.len() == x.rows * x.width);
        let rows = &mut self.gradients[x.buffer.0 as usize];
        for (r, gradient) in gradient.chunks_exact(x.width).enumerate() {
            rows.row_mut(x, r).iter_mut().zip(gradient).for_each(|(a, b)| *a += b);
        }
    }

    /// The gradient with respect to what `x` holds at this point of the walk: `[rows, width]`.
    pub fn gradient(&self, x: View) -> Vec<f32> {
        let rows = &self.gradients[x.buffer.0 as usize];
        (0..x.rows).flat_map(|r| rows.row(x, r).iter().copied()).collect()
    }

    /// Remembers an operation that has been run.
    fn note(&mut self, operation: Operation) {
        match self.records {
            true => self.record.push(operation),
            false => self.kept.truncate(0),
        }
    }

    /// Keeps what a view holds for the way back.
    fn keep(&mut self, x: View) -> usize {
        self.kept.keep(&mut self.values[x.buffer.0 as usize], x)
    }

    /// The values of a buffer, out of the table so that others can be read meanwhile.
    fn take(&mut self, buffer: Buffer) -> Rows {
        let mut rows = std::mem::take(&mut self.values[buffer.0 as usize]);
        rows.kept = None;
        rows
    }

    fn put(&mut self, buffer: Buffer, rows: Rows) {
        self.values[buffer.0 as usize] = rows;
    }

    /// Calls `f(tape, row index, columns)` for each row of `x`; `f` may read every buffer but that of `x`.
    fn each_row(&mut self, x: View, f: impl Fn(&Reads<'_>, usize, &mut [f32]) + Sync) {
        let mut out = self.take(x.buffer);
        let Self { threads, values, parameters, .. } = self;
        let reads = Reads { values, parameters };
        out.each(threads, x, |r, row| f(&reads, r, row));
        self.put(x.buffer, out);
    }

    /// Makes `angles` those of `rotary` for a batch.
    fn turn(&mut self, rotary: Rotary, rows: &Arc<[Row]>) {
        let Angles { of, values } = &mut self.angles;
        if of.as_ref().is_some_and(|(of, batch)| *of == rotary && *batch == *rows) {
            return;
        }
        let shape = &self.rotaries[rotary.0 as usize];
        values.clear();
        rows.iter().for_each(|row| values.extend(shape.angles(row.position)));
        *of = Some((rotary, rows.clone()));
    }

    /// Rotates the heads of a buffer's rows, or turns them back.
    fn rotate(&mut self, on: &mut Rows, x: View, heads: usize, rotary: Rotary, back: bool) {
        let shape = &self.rotaries[rotary.0 as usize];
        let (pairs, pairing) = (shape.frequencies.len(), shape.pairing);
        let values = &self.angles.values;
        on.each(&mut self.threads, x, |r, row| {
            let angles = &values[r * pairs..][..pairs];
            rotate(row, heads, pairing, angles, if back { -1.0 } else { 1.0 });
        });
    }

    fn batch(&mut self, rows: &[Row]) -> Arc<[Row]> {
        if *self.batch != *rows {
            self.batch = rows.into();
        }
        self.batch.clone()
    }
}

/// What an operation on rows may read.
struct Reads<'a> {
    values: &'a [Rows],
    parameters: &'a [Parameter],
}

impl Reads<'_> {
    fn row(&self, x: View, r: usize) -> &[f32] {
        self.values[x.buffer.0 as usize].row(x, r)
    }

    fn vector(&self, weight: Weight) -> &[f32] {
        self.parameters[weight.0 as usize].used()
    }
}

/// Puts a value into a table; says where.
fn add<T>(table: &mut Vec<T>, value: T) -> u32 {
    table.push(value);
    table.len() as u32 - 1
}

/// Rotates the first values of each head by `angles`, or by their opposites where `direction` is -1.
fn rotate(row: &mut [f32], heads: usize, pairing: Pairing, angles: &[[f32; 2]], direction: f32) {
    for head in row.chunks_exact_mut(row.len() / heads) {
        for (i, [cos, sin]) in angles.iter().enumerate() {
            let (a, b) = match pairing {
                Pairing::Adjacent => (2 * i, 2 * i + 1),
                Pairing::Halves => (i, i + angles.len()),
            };
            let (first, second, sin) = (head[a], head[b], sin * direction);
            head[a] = first * cos - second * sin;
            head[b] = first * sin + second * cos;
        }
    }
}

impl Backend for Tape {
    fn name(&self) -> &str {
        "tape"
    }

    fn threads(&self) -> usize {
        self.threads.count()
    }

    fn vector(&mut self, tensor: &Tensor) -> Result<Weight> {
        let (format, cols) = (tensor.format()?, tensor.row_len());
        let learns = (self.learns)(&tensor.name);
        let mut parameter = Parameter::new(format, [1, cols], std::slice::from_ref(tensor), learns);
        parameter.unpack();
        Ok(Weight(add(&mut self.parameters, parameter)))
    }

    fn weight(&mut self, experts: &[Tensor]) -> Result<Weight> {
        let (format, rows, cols) = matrix_shape(experts)?;
        let learns = (self.learns)(&experts[0].name);
        let parameter = Parameter::new(format, [rows, cols], experts, learns);
        Ok(Weight(add(&mut self.parameters, parameter)))
    }

    fn buffer(&mut self, rows: usize, width: usize) -> Result<View> {
        let buffer = Buffer(add(&mut self.values, Rows::claim(rows, width)?));
        self.gradients.push(Rows::claim(rows, width)?);
        Ok(View { buffer, row: 0, rows, column: 0, width })
    }

    fn cache(&mut self, shape: CacheShape) -> Result<Cache> {
        Ok(Cache(add(&mut self.caches, KeyValues::claim(shape)?)))
    }

    fn rotary(&mut self, shape: RotaryShape) -> Result<Rotary> {
        Ok(Rotary(add(&mut self.rotaries, shape)))
    }

    fn routing(&mut self, rows: usize, used: usize) -> Result<Routing> {
        Ok(Routing(add(&mut self.routings, Routes::new(rows, used))))
    }

    fn seal(&mut self, _rows: usize) -> Result<()> {
        Ok(())
    }

    fn claimed_bytes(&self) -> usize {
        let rows: usize = self.values.iter().map(|rows| rows.data.len() * 8).sum();
        rows + self.cache_bytes() + self.parameters.iter().map(Parameter::bytes).sum::<usize>()
    }

    fn cache_bytes(&self) -> usize {
        self.caches.iter().map(KeyValues::bytes).sum()
    }

    fn cached(&self, cache: Cache, positions: usize, each: &mut dyn FnMut(&[u8])) {
        self.caches[cache.0 as usize].pieces(positions, each);
    }

    fn restore(&mut self, cache: Cache, positions: usize, fill: &mut dyn FnMut(&mut [u8])) {
        self.caches[cache.0 as usize].pieces_mut(positions, fill);
    }

    fn write(&mut self, out: View, values: &[f32]) {
        assert!(values.len() == out.rows * out.width);
        self.each_row(out, |_, r, row| row.copy_from_slice(&values[r * out.width..][..out.width]));
        self.note(Operation::Write { out });
    }

    fn read(&mut self, x: View) -> Result<&[f32]> {
        let rows = &self.values[x.buffer.0 as usize];
        assert!(x.column == 0 && x.width == rows.stride);
        Ok(&rows.data[x.row * rows.stride..][..x.rows * rows.stride])
    }

    fn embed(&mut self, out: View, table: Weight, ids: &[u32]) {
        assert!(out.rows == ids.len());
        self.each_row(out, |reads, r, row| {
            reads.parameters[table.0 as usize].row(ids[r] as usize, row);
        });
        self.note(Operation::Embed { out, table, ids: ids.into() });
    }

    fn matmul(&mut self, out: View, w: Weight, x: View) {
        assert!(out.rows == x.rows);
        let kept = self.parameters[w.0 as usize].learns().then(|| self.keep(x));
        let mut target = self.take(out.buffer);
        let Self { threads, values, parameters, tile, .. } = self;
        let x_values = values[x.buffer.0 as usize].matrix(x);
        parameters[w.0 as usize].tiles(0, threads, tile, |threads, first, w| {
            let columns = View { column: out.column + first, width: w.rows, ..out };
            multiply_on(threads, target.target(columns), 0.0, 1.0, x_values, w.transposed());
        });
        self.put(out.buffer, target);
        self.note(Operation::Product { out, weight: w, x, kept });
    }

    fn copy(&mut self, out: View, x: View) {
        assert!(out.rows == x.rows);
        self.each_row(out, |reads, r, row| row.copy_from_slice(reads.row(x, r)));
        self.note(Operation::Copy { out, x });
    }

    fn add(&mut self, x: View, y: View) {
        assert!(x.rows == y.rows && x.width == y.width);
        self.each_row(x, |reads, r, row| {
            row.iter_mut().zip(reads.row(y, r)).for_each(|(a, b)| *a += b);
        });
        self.note(Operation::Add { x, y });
    }

    fn add_bias(&mut self, x: View, bias: Weight) {
        self.each_row(x, |reads, _, row| {
            row.iter_mut().zip(reads.vector(bias)).for_each(|(a, b)| *a += b);
        });
        self.note(Operation::Bias { x, bias });
    }

    fn scale(&mut self, x: View, factor: f32) {
        self.each_row(x, |_, _, row| row.iter_mut().for_each(|v| *v *= factor));
        self.note(Operation::Scale { x, factor });
    }

    fn scale_rows(&mut self, x: View, gate: View) {
        assert!(x.rows == gate.rows && gate.width == 1);
        let (kept, kept_gate) = (self.keep(x), self.keep(gate));
        self.each_row(x, |reads, r, row| {
            let factor = 1.0 / (1.0 + math::exp(-reads.row(gate, r)[0]));
            row.iter_mut().for_each(|v| *v *= factor);
        });
        self.note(Operation::ScaleRows { x, gate, kept, kept_gate });
    }

    fn norm(&mut self, out: View, x: View, norm: NormShape, group: usize) {
        let kept = self.keep(x);
        let isa = self.isa;
        let apply = match norm.kind {
            NormKind::Rms => Isa::rms_norm,
            NormKind::Layer => Isa::layer_norm,
        };
        let blocks = std::mem::take(&mut self.kept.blocks);
        self.each_row(out, |reads, r, row| {
            row.copy_from_slice(&blocks[kept][r * x.width..][..x.width]);
            let weight = norm.weight.map(|w| reads.vector(w));
            row.chunks_mut(group).for_each(|x| apply(isa, x, weight, norm.eps));
        });
        self.kept.blocks = blocks;
        self.note(Operation::Norm { out, x, norm, group, kept });
    }

    fn swiglu(&mut self, gate: View, up: View) {
        assert!(gate.rows == up.rows && gate.width == up.width);
        let (kept_gate, kept_up) = (self.keep(gate), self.keep(up));
        let isa = self.isa;
        self.each_row(gate, |reads, r, row| isa.swiglu(row, reads.row(up, r)));
        self.note(Operation::Swiglu { gate, up, kept_gate, kept_up });
    }

    fn rope(&mut self, x: View, heads: usize, rotary: Rotary, rows: &[Row]) {
        assert!(x.rows == rows.len() && x.width.is_multiple_of(heads));
        let rows = self.batch(rows);
        self.turn(rotary, &rows);
        let mut out = self.take(x.buffer);
        self.rotate(&mut out, x, heads, rotary, false);
        self.put(x.buffer, out);
        self.note(Operation::Rope { x, heads, rotary, rows });
    }

    fn store(&mut self, cache: Cache, key: View, value: View, rows: &[Row]) {
        assert!(key.rows == rows.len() && value.rows == rows.len());
        let held = &mut self.caches[cache.0 as usize];
        held.store(&self.values[key.buffer.0 as usize], key, true, rows);
        held.store(&self.values[value.buffer.0 as usize], value, false, rows);
        let rows = self.batch(rows);
        self.note(Operation::Store { cache, key, value, rows });
    }

    fn attention(&mut self, out: View, query: View, cache: Cache, scale: f32, rows: &[Row]) {
        let kept = self.keep(query);
        let mut target = self.take(out.buffer);
        let held = &self.caches[cache.0 as usize];
        held.attend(
            &mut self.threads,
            self.isa,
            &mut target,
            out,
            &self.kept.blocks[kept],
            scale,
            rows,
        );
        self.put(out.buffer, target);
        let kept_out = self.keep(out);
        let rows = self.batch(rows);
        self.note(Operation::Attention { out, query, cache, scale, rows, kept, kept_out });
    }

    fn route(&mut self, routing: Routing, scores: View, shape: RouteShape) {
        self.choose(routing, scores, shape);
    }

    fn matmul_experts(&mut self, out: View, w: Weight, x: View, routing: Routing) {
        self.product_experts(out, w, x, routing);
    }

    fn scale_experts(&mut self, x: View, factors: Weight, routing: Routing) {
        let kept = self.keep(x);
        let experts = self.routings[routing.0 as usize].experts.clone();
        self.each_row(x, |reads, slot, row| {
            let factor = reads.vector(factors)[experts[slot] as usize];
            row.iter_mut().for_each(|v| *v *= factor);
        });
        self.note(Operation::ScaleExperts { x, factors, experts, kept });
    }

    fn combine(&mut self, out: View, x: View, routing: Routing) {
        self.combine_experts(out, x, routing);
    }
}

/// Formats keys and values are held in: the tape has one.
const CACHE_FORMAT: Format = Format::F32;
