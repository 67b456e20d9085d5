//! Attention whose query heads share keys and values in groups: multi-head, grouped-query and
//! multi-query attention (arXiv 1706.03762, 2305.13245, 1911.02150).

use super::linear::{Linear, Norm};
use super::stack::Scratch;
use crate::backend::{Backend, Cache, Rotary, Row, View};

/// One attention block.
#[derive(Debug)]
pub struct Grouped {
    /// `[heads * key_len, width]`.
    pub query: Linear,
    /// `[kv_heads * key_len, width]`.
    pub key: Linear,
    /// `[kv_heads * value_len, width]`.
    pub value: Linear,
    /// `[width, heads * value_len]`.
    pub output: Linear,
    /// Of each query head, before rotation.
    pub query_norm: Option<Norm>,
    /// Of each key head, before rotation.
    pub key_norm: Option<Norm>,
    /// Rotation of queries and keys, if position enters that way.
    pub rotary: Option<Rotary>,
    /// Keys and values of earlier positions.
    pub cache: Cache,
    /// Counts and widths.
    pub shape: GroupedShape,
}

/// Counts and widths of a [`Grouped`] block.
#[derive(Clone, Copy, Debug)]
pub struct GroupedShape {
    /// Query heads.
    pub heads: usize,
    /// Heads with keys and values of their own.
    pub kv_heads: usize,
    /// Width of a query or key.
    pub key_len: usize,
    /// Width of a value.
    pub value_len: usize,
    /// What scores are multiplied by.
    pub scale: f32,
}

impl Grouped {
    /// `out = W_o attention(W_q x, W_k x, W_v x)`.
    pub fn forward(
        &self,
        backend: &mut dyn Backend,
        scratch: &Scratch,
        out: View,
        x: View,
        rows: &[Row],
    ) {
        let GroupedShape { heads, kv_heads, key_len, value_len, scale } = self.shape;
        let query = scratch.query.first(x.rows).columns(heads * key_len);
        let key = scratch.key.first(x.rows).columns(kv_heads * key_len);
        let value = scratch.value.first(x.rows).columns(kv_heads * value_len);
        let mixed = scratch.mixed.first(x.rows).columns(heads * value_len);
        self.query.forward(backend, query, x);
        self.key.forward(backend, key, x);
        self.value.forward(backend, value, x);
        if let Some(norm) = &self.query_norm {
            norm.forward_heads(backend, query, key_len);
        }
        if let Some(norm) = &self.key_norm {
            norm.forward_heads(backend, key, key_len);
        }
        if let Some(rotary) = self.rotary {
            backend.rope(query, heads, rotary, rows);
            backend.rope(key, kv_heads, rotary, rows);
        }
        backend.store(self.cache, key, value, rows);
        backend.attention(mixed, query, self.cache, scale, rows);
        self.output.forward(backend, out, mixed);
    }
}
