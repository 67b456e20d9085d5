//! DeciLM (arXiv 2411.19146): llama's layers, each with widths of its own, some without attention or without
//! feed-forward block. Pruned models that are uneven are written as this.

use super::Loader;
use crate::Result;
use crate::backend::Pairing;
use crate::model::Decoder;

pub(super) fn load(loader: &mut Loader<'_>) -> Result<Decoder> {
    loader.pre_norm_decoder(Pairing::Adjacent, false, Loader::dense)
}
