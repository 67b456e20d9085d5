//! The one formula all layers follow.

use super::attention::Grouped;
use super::feed::Feed;
use super::linear::Norm;
use crate::Result;
use crate::backend::{Backend, Row, View};

/// `x <- last(x + after(inner(before(x))))`, each norm optional.
#[derive(Debug)]
pub struct Residual<F> {
    /// Before the block (pre-norm models).
    pub before: Option<Norm>,
    /// The block.
    pub inner: F,
    /// After the block.
    pub after: Option<Norm>,
    /// After the sum (post-norm models).
    pub last: Option<Norm>,
}

impl<F> Residual<F> {
    /// A block with a norm before it.
    pub fn pre_norm(before: Norm, inner: F) -> Self {
        Self { before: Some(before), inner, after: None, last: None }
    }

    fn forward(
        &self,
        backend: &mut dyn Backend,
        scratch: &Scratch,
        rows: usize,
        run: impl FnOnce(&F, &mut dyn Backend, View, View),
    ) {
        let (x, h, y) = (scratch.x.first(rows), scratch.h.first(rows), scratch.y.first(rows));
        match &self.before {
            Some(norm) => norm.forward(backend, h, x),
            None => backend.copy(h, x),
        }
        run(&self.inner, backend, y, h);
        if let Some(norm) = &self.after {
            norm.forward(backend, y, y);
        }
        backend.add(x, y);
        if let Some(norm) = &self.last {
            norm.forward(backend, x, x);
        }
    }
}

/// Attention, then a feed-forward block.
#[derive(Debug)]
pub struct Layer {
    /// Mixes positions; pruned models have layers without.
    pub attention: Option<Residual<Grouped>>,
    /// Transforms each position; pruned models have layers without.
    pub feed: Option<Residual<Feed>>,
}

impl Layer {
    /// Runs a batch through the layer, in place in [`Scratch::x`].
    pub fn forward(&self, backend: &mut dyn Backend, scratch: &Scratch, rows: &[Row]) {
        if let Some(attention) = &self.attention {
            attention.forward(backend, scratch, rows.len(), |attention, backend, out, x| {
                attention.forward(backend, scratch, out, x, rows);
            });
        }
        if let Some(feed) = &self.feed {
            feed.forward(backend, scratch, rows.len(), |feed, backend, out, x| {
                feed.forward(backend, scratch, out, x);
            });
        }
    }
}

/// Largest widths of what lies between the operations of a layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScratchShape {
    /// The residual stream.
    pub width: usize,
    /// All query heads.
    pub query: usize,
    /// All keys.
    pub key: usize,
    /// All values.
    pub value: usize,
    /// All attention results.
    pub mixed: usize,
    /// The hidden layer of a dense block, 0 if there is none.
    pub hidden: usize,
    /// The hidden layer of one expert, 0 if there is none.
    pub expert_hidden: usize,
    /// Number of experts.
    pub experts: usize,
    /// Experts each row goes to.
    pub experts_used: usize,
}

impl ScratchShape {
    /// Widens to serve another layer too.
    pub fn include(&mut self, other: &Self) {
        let fields = [
            (&mut self.width, other.width),
            (&mut self.query, other.query),
            (&mut self.key, other.key),
            (&mut self.value, other.value),
            (&mut self.mixed, other.mixed),
            (&mut self.hidden, other.hidden),
            (&mut self.expert_hidden, other.expert_hidden),
            (&mut self.experts, other.experts),
            (&mut self.experts_used, other.experts_used),
        ];
        fields.into_iter().for_each(|(own, other)| *own = other.max(*own));
    }
}

/// Buffers all layers share, of as many rows as a batch has at most.
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    /// The residual stream.
    pub x: View,
    /// A block's input.
    pub h: View,
    /// A block's output.
    pub y: View,
    /// Queries.
    pub query: View,
    /// Keys of the batch.
    pub key: View,
    /// Values of the batch.
    pub value: View,
    /// Attention results.
    pub mixed: View,
    /// Gate of a dense block, or its only hidden layer.
    pub gate: View,
    /// The other factor of a gated block.
    pub up: View,
    /// Gates, factors and results of experts, a row for each choice of each row; and router scores.
    pub experts: Option<ExpertScratch>,
}

/// The part of [`Scratch`] that experts need.
#[derive(Clone, Copy, Debug)]
pub struct ExpertScratch {
    /// Router scores.
    pub scores: View,
    /// Gates.
    pub gate: View,
    /// The other factors.
    pub up: View,
    /// Results before they are combined.
    pub down: View,
    /// Result of the shared expert.
    pub shared: View,
}

impl Scratch {
    /// Claims buffers of `rows` rows.
    ///
    /// # Errors
    /// [`crate::Error::Memory`].
    pub fn claim(backend: &mut dyn Backend, rows: usize, shape: &ScratchShape) -> Result<Self> {
        let mut buffer = |width: usize| backend.buffer(rows, width.max(1));
        let (x, h, y) = (buffer(shape.width)?, buffer(shape.width)?, buffer(shape.width)?);
        let (query, key) = (buffer(shape.query)?, buffer(shape.key)?);
        let (value, mixed) = (buffer(shape.value)?, buffer(shape.mixed)?);
        let (gate, up) = (buffer(shape.hidden)?, buffer(shape.hidden)?);
        let mut experts = None;
        if shape.experts > 0 {
            let slots = rows.saturating_mul(shape.experts_used);
            experts = Some(ExpertScratch {
                scores: backend.buffer(rows, shape.experts)?,
                gate: backend.buffer(slots, shape.expert_hidden)?,
                up: backend.buffer(slots, shape.expert_hidden)?,
                down: backend.buffer(slots, shape.width)?,
                shared: backend.buffer(rows, shape.width)?,
            });
        }
        Ok(Self { x, h, y, query, key, value, mixed, gate, up, experts })
    }
}
