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
mod forward;
mod parameter;
mod rows;

pub use parameter::{Parameter, Piece};

use crate::Result;
use crate::backend::{Buffer, Pairing, Rotary, RotaryShape, Row, Threads, View, Weight};
use attar_kernels::{Format, Isa};
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

/// Formats keys and values are held in: the tape has one.
const CACHE_FORMAT: Format = Format::F32;
