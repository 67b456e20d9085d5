//! Qwen2 (arXiv 2407.10671) and Qwen3 (arXiv 2505.09388), dense and with experts.
//!
//! Qwen2 has biases on queries, keys and values (read wherever a file has them); Qwen3 normalises
//! the heads of queries and keys instead. Qwen2's mixture keeps the router's probabilities and adds
//! a gated expert that every token uses; Qwen3's scales the chosen probabilities to sum to 1.

use super::Loader;
use crate::Result;
use crate::backend::Pairing;
use crate::memory::name;
use crate::model::Decoder;
use crate::model::feed::{Feed, Shared};

pub(super) fn load_2(loader: &mut Loader<'_>) -> Result<Decoder> {
    loader.feed_scales = false;
    loader.pre_norm_decoder(Pairing::Halves, false, Loader::dense)
}

pub(super) fn load_2_moe(loader: &mut Loader<'_>) -> Result<Decoder> {
    loader.feed_scales = false;
    loader.pre_norm_decoder(Pairing::Halves, false, |loader, layer| {
        let hidden = loader.need_count("expert_feed_forward_length")?;
        let shared = loader.need_count("expert_shared_feed_forward_length")?;
        let network = loader.gated(layer, "_shexp", shared)?;
        let name = name!("blk.{layer}.ffn_gate_inp_shexp");
        let gate = Some(loader.linear(&name, 1, loader.dims.width)?);
        let shared = Some(Shared { network, gate });
        Ok(Some(Feed::Experts(loader.experts(layer, hidden, false, shared)?)))
    })
}

pub(super) fn load_3(loader: &mut Loader<'_>) -> Result<Decoder> {
    loader.pre_norm_decoder(Pairing::Halves, true, Loader::dense)
}

pub(super) fn load_3_moe(loader: &mut Loader<'_>) -> Result<Decoder> {
    loader.pre_norm_decoder(Pairing::Halves, true, |loader, layer| {
        let hidden = loader.need_count("expert_feed_forward_length")?;
        Ok(Some(Feed::Experts(loader.experts(layer, hidden, true, None)?)))
    })
}
