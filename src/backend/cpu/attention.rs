//! The key-value cache and attention over it.
//!
//! A cache lies as `[sequence][head][position][width]`, so that the keys of one head are a matrix:
//! scores are its product with the queries of all heads that share it, by the same kernels as
//! every other product. The softmax runs over exactly the positions a row may see, and values are
//! added in the order of positions: neither depends on how a prompt was cut.

use super::product::Engine;
use super::{Cpu, Memory};
use crate::backend::{Cache, CacheShape, Row, View};
use crate::memory::Block;
use attar_kernels::{Isa, PanelArgs};
use core::ops::Range;

/// Queries multiplied with the keys of one head at a time, unless more heads share the keys.
const QUERIES: usize = 16;

/// Keys and values of one layer.
pub(super) struct KeyValues {
    pub(super) shape: CacheShape,
    pub(super) keys: Block<u8>,
    pub(super) values: Block<u8>,
}

impl KeyValues {
    /// f32 a thread needs for batches of `rows`: queries, results and scores of as many columns as are
    /// taken at a time.
    pub(super) fn scratch_len(&self, rows: usize) -> usize {
        let CacheShape { context_len, value_len, .. } = self.shape;
        let columns = self.group() * self.rows_max().min(rows);
        columns.saturating_mul(context_len.saturating_add(self.query_len() + value_len))
    }

    /// f32 that a query takes as the kernels read it.
    fn query_len(&self) -> usize {
        Isa::column_bytes(self.shape.format, self.shape.key_len) / size_of::<f32>()
    }

    /// Where the first `positions` of each head of each sequence lie, among keys and among values.
    pub(super) fn pieces(
        shape: &CacheShape,
        positions: usize,
    ) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<> {
        let CacheShape { sequences, heads, context_len, key_len, value_len, format, .. } = *shape;
        let piece = move |head: usize, width: usize| {
            let bytes = format.info().row_bytes(width);
            head * context_len * bytes..(head * context_len + positions) * bytes
        };
        (0..sequences * heads).map(move |head| (piece(head, key_len), piece(head, value_len)))
    }

    /// Rows whose queries are multiplied at a time.
    fn rows_max(&self) -> usize {
        (QUERIES / self.group()).max(1)
    }

    /// Query heads that share a head of the cache.
    fn group(&self) -> usize {
        self.shape.query_heads / self.shape.heads
    }

    /// Index of a position in a matrix of one row a position.
    fn place(&self, row: Row, head: usize) -> usize {
        let head = row.sequence as usize * self.shape.heads + head;
        head * self.shape.context_len + row.position as usize
    }
}

impl Cpu {
    pub(super) fn store_rows(&mut self, cache: Cache, key: View, value: View, rows: &[Row]) {
        let KeyValues { shape, .. } = self.memory.caches[cache.0 as usize];
        assert!(key.rows == rows.len() && value.rows == rows.len());
        assert!(key.width == shape.heads * shape.key_len);
        assert!(value.width == shape.heads * shape.value_len);
        let info = shape.format.info();
        let (key_bytes, value_bytes) =
            (info.row_bytes(shape.key_len), info.row_bytes(shape.value_len));
        let Memory { buffers, caches, .. } = &mut self.memory;
        let cache = &mut caches[cache.0 as usize];
        for (r, &row) in rows.iter().enumerate() {
            let k = buffers[key.buffer.0 as usize].row(key, r);
            let v = buffers[value.buffer.0 as usize].row(value, r);
            for head in 0..shape.heads {
                let place = cache.place(row, head);
                let (k, v) = (&k[head * shape.key_len..], &v[head * shape.value_len..]);
                let keys = &mut cache.keys[place * key_bytes..][..key_bytes];
                info.write(&k[..shape.key_len], keys);
                let values = &mut cache.values[place * value_bytes..][..value_bytes];
                info.write(&v[..shape.value_len], values);
            }
        }
    }

    pub(super) fn attend(
        &mut self,
        out: View,
        query: View,
        cache: Cache,
        scale: f32,
        rows: &[Row],
    ) {
        let mut buffer = self.take(out.buffer);
        let cache = &self.memory.caches[cache.0 as usize];
        let CacheShape { heads, query_heads, key_len, value_len, .. } = cache.shape;
        let group = cache.group();
        assert!(group * heads == query_heads);
        assert!(query.rows == rows.len() && query.width == query_heads * key_len);
        assert!(out.rows == rows.len() && out.width == query_heads * value_len);
        let queries = &self.memory.buffers[query.buffer.0 as usize];
        let isa = self.engine.isa;
        let step = cache.rows_max();
        let Engine { pool, scratch, .. } = &mut self.engine;
        pool.columns(
            scratch,
            buffer.matrix(out),
            group * value_len,
            1,
            |scratch, first, mut part| {
                let head = first / (group * value_len);
                let attention = HeadAttention { isa, cache, head, scale };
                let mut start = 0;
                while start < rows.len() {
                    let same =
                        rows[start..].iter().take_while(|r| r.sequence == rows[start].sequence);
                    let end = start + same.count().min(step);
                    let query = |r| queries.row(query, start + r);
                    let results = attention.run(&rows[start..end], &mut scratch.attention, query);
                    for (r, values) in results.chunks_exact(group * value_len).enumerate() {
                        part.row(start + r).copy_from_slice(values);
                    }
                    start = end;
                }
            },
        );
        self.put(out.buffer, buffer);
    }
}

/// Attention of the query heads that share one head of the cache.
struct HeadAttention<'a> {
    isa: &'static Isa,
    cache: &'a KeyValues,
    head: usize,
    scale: f32,
}

impl HeadAttention<'_> {
    /// Attends for `rows`, all of one sequence: `[rows, group, value_len]`. `query` lends a row of
    /// all query heads.
    fn run<'q, 's>(
        &self,
        rows: &[Row],
        scratch: &'s mut [f32],
        query: impl Fn(usize) -> &'q [f32],
    ) -> &'s [f32] {
        let CacheShape { key_len, value_len, format, .. } = self.cache.shape;
        let (info, group) = (format.info(), self.cache.group());
        let (cols, query_len) = (rows.len() * group, self.cache.query_len());
        let seen = rows.iter().map(|r| r.position as usize + 1).max().unwrap_or(0);
        let (queries, rest) = scratch.split_at_mut(cols * query_len);
        let (results, rest) = rest.split_at_mut(cols * value_len);
        let scores = &mut rest[..cols * seen];
        for (c, column) in queries.chunks_exact_mut(query_len).enumerate() {
            let head = self.head * group + c % group;
            let query = &query(c / group)[head * key_len..][..key_len];
            match info.is_float() {
                true => column.copy_from_slice(query),
                false => self.isa.quantize(query, bytemuck::cast_slice_mut(column)),
            }
        }
        let start = self.cache.place(Row { position: 0, ..rows[0] }, self.head);
        let lines =
            |width: usize| start * info.row_bytes(width)..(start + seen) * info.row_bytes(width);
        let keys = &self.cache.keys[lines(key_len)];
        if info.is_float() {
            self.isa.panel(PanelArgs {
                format,
                w: keys,
                rows: seen,
                len: key_len,
                x: bytemuck::cast_slice(queries),
                cols,
                out: scores,
                scratch: &mut [],
            });
        } else {
            // Keys are short: unpacked for a panel, each would take the room of a whole superblock.
            for (x, scores) in queries.chunks_exact(query_len).zip(scores.chunks_exact_mut(seen)) {
                self.isa.matvec(format, keys, bytemuck::cast_slice(x), scores);
            }
        }
        for (c, scores) in scores.chunks_exact_mut(seen).enumerate() {
            let (own, beyond) = scores.split_at_mut(rows[c / group].position as usize + 1);
            own.iter_mut().for_each(|s| *s *= self.scale);
            self.isa.softmax(own);
            beyond.fill(0.0);
        }
        let values = &self.cache.values[lines(value_len)];
        self.isa.weighted_sum(format, results, values, scores, cols);
        results
    }
}
