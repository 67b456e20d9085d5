//! What a model is: an input table, a stack of layers, a norm and an output head.
//!
//! Families differ in data, not in code: [`crate::arch`] reads a file into these structures, and
//! [`Decoder::forward`] is the only forward pass.

pub mod attention;
pub mod feed;
pub mod linear;
pub mod position;
pub mod stack;

use crate::backend::{Backend, Cache, Row, View, Weight};
use crate::{Error, Result};
use alloc::vec::Vec;
use linear::{Linear, Norm};
use stack::{Layer, Scratch};

/// A model that predicts the next token.
pub struct Decoder {
    /// Widths and counts.
    pub shape: DecoderShape,
    /// `[vocab_len, width]`.
    pub input: Weight,
    /// What embeddings are multiplied by, if by anything.
    pub input_scale: Option<f32>,
    /// From the input up.
    pub layers: Vec<Layer>,
    /// Before the head.
    pub norm: Norm,
    /// `[vocab_len, width]`; often the input table again.
    pub head: Linear,
    /// Buffers all layers share.
    pub scratch: Scratch,
    /// `[logit_rows, vocab_len]`.
    pub logits: View,
}

/// Widths and counts of a [`Decoder`].
#[derive(Clone, Copy, Debug)]
pub struct DecoderShape {
    /// Number of tokens.
    pub vocab_len: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Positions the cache holds.
    pub context_len: usize,
    /// Rows of a batch at most.
    pub batch_len: usize,
    /// Rows whose logits are computed at a time.
    pub logit_rows: usize,
}

impl Decoder {
    /// Keys and values of all layers, from the input up.
    pub fn caches(&self) -> impl Iterator<Item = Cache> {
        self.layers.iter().filter_map(|layer| Some(layer.attention.as_ref()?.inner.cache))
    }

    /// Runs `ids` at the places `rows` through the stack, leaving their keys and values in the cache
    /// and the last layer's output for [`Decoder::logits`].
    ///
    /// # Errors
    /// [`Error::Cancelled`] before a layer once `go_on` says no.
    pub fn forward(
        &self,
        backend: &mut dyn Backend,
        ids: &[u32],
        rows: &[Row],
        go_on: &dyn Fn() -> bool,
    ) -> Result<()> {
        assert!(ids.len() == rows.len() && rows.len() <= self.shape.batch_len);
        let x = self.scratch.x.first(rows.len());
        backend.embed(x, self.input, ids);
        if let Some(factor) = self.input_scale {
            backend.scale(x, factor);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            if !go_on() {
                return Err(Error::Cancelled);
            }
            backend.layer(index);
            layer.forward(backend, &self.scratch, rows);
        }
        backend.layer(self.layers.len());
        Ok(())
    }

    /// Logits of `count` rows from `first` of the last batch, at most
    /// [`DecoderShape::logit_rows`] at a time: `[count, vocab_len]`.
    pub fn logits<'b>(
        &self,
        backend: &'b mut dyn Backend,
        first: usize,
        count: usize,
    ) -> Result<&'b [f32]> {
        let h = self.normalized(backend, first, count);
        let logits = self.logits.first(count);
        self.head.forward(backend, logits, h);
        backend.read(logits)
    }

    /// The `count` largest logits of row `row` of the last batch with their tokens, as
    /// [`Backend::largest`] finds them.
    pub fn largest<'b>(
        &self,
        backend: &'b mut dyn Backend,
        row: usize,
        count: usize,
    ) -> Result<&'b [(f32, u32)]> {
        let h = self.normalized(backend, row, 1);
        let logits = self.logits.first(1);
        self.head.forward(backend, logits, h);
        backend.largest(logits, count)
    }

    /// What the head reads, of the same rows: `[count, width]`.
    pub fn states<'b>(
        &self,
        backend: &'b mut dyn Backend,
        first: usize,
        count: usize,
    ) -> Result<&'b [f32]> {
        let h = self.normalized(backend, first, count);
        backend.read(h)
    }

    fn normalized(&self, backend: &mut dyn Backend, first: usize, count: usize) -> View {
        let h = self.scratch.h.first(count);
        self.norm.forward(backend, h, self.scratch.x.rows_at(first, count));
        h
    }
}
