//! Cutting out of a model what it can do without: tokens, layers, heads, neurons, experts, columns.
//!
//! A [`Request`] says how much shall remain, a [`Ranking`] what each part is worth by what a calibration
//! has seen, [`choose`] turns both into a [`Cut`], and [`write_pruned`] writes what remains.

mod choose;
mod metadata;
mod rank;
mod shape;
mod slice;
mod vocab;
mod write;

pub use choose::{Request, Share, choose};
pub use rank::{LayerRanking, Ranking, drop_by_influence, drop_by_loss};
pub use shape::{LayerShape, Shape};
pub use vocab::{VocabSize, keep_tokens};
pub use write::{Pruned, PrunedTensor, write_pruned};

/// What remains of a model. Lists are in rising order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Tokens, by their ids; all where `None`.
    pub tokens: Option<Vec<u32>>,
    /// Columns of the residual stream; all where `None`.
    pub width: Option<Vec<usize>>,
    /// The layers that remain, in order.
    pub layers: Vec<LayerCut>,
}

/// What remains of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerCut {
    /// Which layer it was.
    pub layer: usize,
    /// Groups of heads with common keys and values; all where `None`.
    pub groups: Option<Vec<usize>>,
    /// Neurons of the feed-forward block, or of each of the experts there were; all where `None`.
    pub hidden: Option<Vec<Vec<usize>>>,
    /// Experts; all where `None`.
    pub experts: Option<Vec<usize>>,
}

impl Cut {
    /// Leaves a model of this shape as it is.
    pub fn nothing(shape: &Shape) -> Self {
        let layer = |layer| LayerCut { layer, groups: None, hidden: None, experts: None };
        Self { tokens: None, width: None, layers: (0..shape.layers.len()).map(layer).collect() }
    }

    /// Leaves out layers, too.
    pub fn drop_layers(&mut self, dropped: &[usize]) {
        self.layers.retain(|layer| !dropped.contains(&layer.layer));
    }
}
