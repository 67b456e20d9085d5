//! Keys and values in f32, attention over them, and its way back.
//!
//! Scores are worked out again on the way back instead of being kept, a block of queries at a time
//! (as in FlashAttention, arXiv 2205.14135): memory does not grow with the square of the context.

use super::CACHE_FORMAT;
use super::rows::Rows;
use crate::backend::{CacheShape, Row, Threads, View};
use crate::train::product::{Matrix, Target, dot, multiply};
use crate::{Result, memory};
use attar_kernels::Isa;
use std::ops::Range;

/// Queries whose scores are in work at a time.
const QUERIES: usize = 64;

/// Keys and values of one layer, as `[sequence][head][position][width]`.
pub(super) struct KeyValues {
    shape: CacheShape,
    keys: Vec<f32>,
    values: Vec<f32>,
    /// Gradients of both, claimed when first needed.
    key_gradient: Vec<f32>,
    value_gradient: Vec<f32>,
}

/// Consecutive positions of one sequence in consecutive rows of a batch.
#[derive(Clone, Copy)]
struct Block {
    sequence: usize,
    position: usize,
    row: usize,
    count: usize,
}

/// Cuts a batch into blocks of up to [`QUERIES`] rows.
fn blocks(rows: &[Row]) -> Vec<Block> {
    let mut all: Vec<Block> = Vec::new();
    for (r, row) in rows.iter().enumerate() {
        let (sequence, position) = (row.sequence as usize, row.position as usize);
        match all.last_mut() {
            Some(last)
                if last.sequence == sequence
                    && last.position + last.count == position
                    && last.count < QUERIES =>
            {
                last.count += 1;
            }
            _ => all.push(Block { sequence, position, row: r, count: 1 }),
        }
    }
    all
}

/// Where keys, or values, of one row lie.
fn place(shape: &CacheShape, head: usize, row: Row, len: usize) -> Range<usize> {
    let head = row.sequence as usize * shape.heads + head;
    let start = (head * shape.context_len + row.position as usize) * len;
    start..start + len
}

impl KeyValues {
    pub(super) fn claim(shape: CacheShape) -> Result<Self> {
        let lines = shape.sequences.saturating_mul(shape.heads).saturating_mul(shape.context_len);
        Ok(Self {
            shape: CacheShape { format: CACHE_FORMAT, ..shape },
            keys: memory::filled(lines.saturating_mul(shape.key_len), 0.0)?,
            values: memory::filled(lines.saturating_mul(shape.value_len), 0.0)?,
            key_gradient: Vec::new(),
            value_gradient: Vec::new(),
        })
    }

    pub(super) fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * size_of::<f32>()
    }

    pub(super) fn pieces(&self, positions: usize, each: &mut dyn FnMut(&[u8])) {
        let CacheShape { context_len, key_len, value_len, .. } = self.shape;
        let keys = self.keys.chunks_exact(context_len * key_len);
        for (keys, values) in keys.zip(self.values.chunks_exact(context_len * value_len)) {
            each(bytemuck::cast_slice(&keys[..positions * key_len]));
            each(bytemuck::cast_slice(&values[..positions * value_len]));
        }
    }

    pub(super) fn pieces_mut(&mut self, positions: usize, fill: &mut dyn FnMut(&mut [u8])) {
        let CacheShape { context_len, key_len, value_len, .. } = self.shape;
        let keys = self.keys.chunks_exact_mut(context_len * key_len);
        for (keys, values) in keys.zip(self.values.chunks_exact_mut(context_len * value_len)) {
            fill(bytemuck::cast_slice_mut(&mut keys[..positions * key_len]));
            fill(bytemuck::cast_slice_mut(&mut values[..positions * value_len]));
        }
    }

    /// Puts keys, or values, at their rows' places.
    pub(super) fn store(&mut self, from: &Rows, x: View, keys: bool, rows: &[Row]) {
        let shape = self.shape;
        let (len, held) = match keys {
            true => (shape.key_len, &mut self.keys),
            false => (shape.value_len, &mut self.values),
        };
        assert!(x.width == shape.heads * len);
        for (r, row) in rows.iter().enumerate() {
            for (head, values) in from.row(x, r).chunks_exact(len).enumerate() {
                held[place(&shape, head, *row, len)].copy_from_slice(values);
            }
        }
    }

    /// Takes the gradient of what was stored out of the cache.
    pub(super) fn back_store(&mut self, to: &mut Rows, x: View, keys: bool, rows: &[Row]) {
        let shape = self.shape;
        let (len, gradient) = match keys {
            true => (shape.key_len, &mut self.key_gradient),
            false => (shape.value_len, &mut self.value_gradient),
        };
        if gradient.is_empty() {
            return;
        }
        for (r, row) in rows.iter().enumerate() {
            for (head, values) in to.row_mut(x, r).chunks_exact_mut(len).enumerate() {
                let given = &mut gradient[place(&shape, head, *row, len)];
                values.iter_mut().zip(&*given).for_each(|(a, b)| *a += b);
                given.fill(0.0);
            }
        }
    }

    pub(super) fn forget_gradients(&mut self) {
        self.key_gradient.fill(0.0);
        self.value_gradient.fill(0.0);
    }

    /// The first `count` keys, or values, of a head.
    fn head(&self, keys: bool, sequence: usize, head: usize, count: usize) -> Matrix<'_> {
        let (len, held) = match keys {
            true => (self.shape.key_len, &self.keys),
            false => (self.shape.value_len, &self.values),
        };
        let row = Row { sequence: sequence as u32, position: 0 };
        Matrix::new(&held[place(&self.shape, head, row, len).start..], count, len, len)
    }

    /// Softmax of the scores of a block's queries in one query head: `[count, positions up to the last]`.
    fn probabilities(
        &self,
        isa: &Isa,
        block: Block,
        head: usize,
        query: &[f32],
        scale: f32,
        out: &mut Vec<f32>,
    ) {
        let CacheShape { heads, query_heads, key_len, .. } = self.shape;
        let seen = block.position + block.count;
        out.resize(block.count * seen, 0.0);
        let width = query_heads * key_len;
        let query = &query[block.row * width + head * key_len..];
        let query = Matrix::new(query, block.count, key_len, width);
        let keys = self.head(true, block.sequence, head / (query_heads / heads), seen);
        let mut target = Target { data: out, step: seen, column: 0, columns: seen };
        multiply(&mut target, 0.0, scale, query, keys.transposed());
        for (i, row) in out.chunks_exact_mut(seen).enumerate() {
            let (visible, hidden) = row.split_at_mut(block.position + i + 1);
            isa.softmax(visible);
            hidden.fill(0.0);
        }
    }

    /// Attention of queries `[rows, query_heads * key_len]`.
    #[expect(clippy::too_many_arguments, reason = "those of the operation, and its tools")]
    pub(super) fn attend(
        &self,
        threads: &mut Threads,
        isa: &Isa,
        target: &mut Rows,
        out: View,
        query: &[f32],
        scale: f32,
        rows: &[Row],
    ) {
        let CacheShape { heads, query_heads, value_len, .. } = self.shape;
        let stride = target.stride;
        let mut rest = &mut target.data[out.row * stride..][..out.rows * stride];
        let mut parts = Vec::new();
        for block in blocks(rows) {
            let (part, after) = rest.split_at_mut(block.count * stride);
            rest = after;
            parts.push((block, part));
        }
        threads.each(&mut parts, |_, (block, part)| {
            let mut scores = Vec::new();
            for head in 0..query_heads {
                self.probabilities(isa, *block, head, query, scale, &mut scores);
                let seen = block.position + block.count;
                let values = self.head(false, block.sequence, head / (query_heads / heads), seen);
                let column = out.column + head * value_len;
                let mut target = Target { data: part, step: stride, column, columns: value_len };
                multiply(
                    &mut target,
                    0.0,
                    1.0,
                    Matrix::new(&scores, block.count, seen, seen),
                    values,
                );
            }
        });
    }

    /// Adds the gradients of the queries, and of the keys and values in the cache. `kept` are the queries
    /// and the results.
    #[expect(clippy::too_many_arguments, reason = "those of the operation, and its tools")]
    pub(super) fn back(
        &mut self,
        threads: &mut Threads,
        isa: &Isa,
        query_gradient: (&mut Rows, View),
        given: (&Rows, View),
        kept: [&[f32]; 2],
        scale: f32,
        rows: &[Row],
    ) {
        let CacheShape { context_len, heads, query_heads, key_len, value_len, .. } = self.shape;
        let mut key_gradient = std::mem::take(&mut self.key_gradient);
        let mut value_gradient = std::mem::take(&mut self.value_gradient);
        key_gradient.resize(self.keys.len(), 0.0);
        value_gradient.resize(self.values.len(), 0.0);
        let group = query_heads / heads;
        let all = blocks(rows);
        let gradients = key_gradient
            .chunks_exact_mut(context_len * key_len)
            .zip(value_gradient.chunks_exact_mut(context_len * value_len));
        let mut tasks: Vec<_> =
            gradients.map(|(keys, values)| Task { keys, values, query: Vec::new() }).collect();
        let this = &*self;
        threads.each(&mut tasks, |i, task| {
            let (sequence, head) = (i / heads, i % heads);
            for block in all.iter().filter(|block| block.sequence == sequence) {
                for head in head * group..(head + 1) * group {
                    this.back_block(isa, task, *block, head, given, kept, scale);
                }
            }
        });
        let (target, view) = query_gradient;
        for (i, task) in tasks.iter().enumerate() {
            let (sequence, head) = (i / heads, i % heads);
            let mut rows = task.query.chunks_exact(key_len);
            for block in all.iter().filter(|block| block.sequence == sequence) {
                for head in head * group..(head + 1) * group {
                    for (r, row) in (block.row..block.row + block.count).zip(&mut rows) {
                        let target = &mut target.row_mut(view, r)[head * key_len..][..key_len];
                        target.iter_mut().zip(row).for_each(|(a, b)| *a += b);
                    }
                }
            }
        }
        (self.key_gradient, self.value_gradient) = (key_gradient, value_gradient);
    }

    /// One query head of one block, for [`KeyValues::back`].
    #[expect(clippy::too_many_arguments, reason = "those of the operation, and its tools")]
    fn back_block(
        &self,
        isa: &Isa,
        task: &mut Task<'_>,
        block: Block,
        head: usize,
        (given, out): (&Rows, View),
        [query, result]: [&[f32]; 2],
        scale: f32,
    ) {
        let CacheShape { heads, query_heads, key_len, value_len, .. } = self.shape;
        let (seen, count) = (block.position + block.count, block.count);
        let (mut p, mut ds) = (Vec::new(), vec![0.0; count * seen]);
        self.probabilities(isa, block, head, query, scale, &mut p);
        let kv_head = head / (query_heads / heads);
        let columns = View {
            row: out.row + block.row,
            rows: count,
            column: out.column + head * value_len,
            width: value_len,
            ..out
        };
        let (dy, values) = (given.matrix(columns), self.head(false, block.sequence, kv_head, seen));
        let mut target = Target { data: &mut ds, step: seen, column: 0, columns: seen };
        multiply(&mut target, 0.0, 1.0, dy, values.transposed());
        for (i, (ds, p)) in ds.chunks_exact_mut(seen).zip(p.chunks_exact(seen)).enumerate() {
            let result = &result[(block.row + i) * out.width + head * value_len..][..value_len];
            let along = dot(given.row(columns, i), result);
            ds.iter_mut().zip(p).for_each(|(ds, p)| *ds = p * (*ds - along) * scale);
        }
        let (p, ds) = (Matrix::new(&p, count, seen, seen), Matrix::new(&ds, count, seen, seen));
        let width = query_heads * key_len;
        let query =
            Matrix::new(&query[block.row * width + head * key_len..], count, key_len, width);
        let add = |data: &mut [f32], len: usize, a: Matrix<'_>, b: Matrix<'_>| {
            multiply(&mut Target { data, step: len, column: 0, columns: len }, 1.0, 1.0, a, b);
        };
        add(task.values, value_len, p.transposed(), dy);
        add(task.keys, key_len, ds.transposed(), query);
        let start = task.query.len();
        task.query.resize(start + count * key_len, 0.0);
        let keys = self.head(true, block.sequence, kv_head, seen);
        add(&mut task.query[start..], key_len, ds, keys);
    }
}

/// Gradients of one head of one sequence.
struct Task<'a> {
    keys: &'a mut [f32],
    values: &'a mut [f32],
    /// Of the queries that read them, block after block, query head after query head.
    query: Vec<f32>,
}
