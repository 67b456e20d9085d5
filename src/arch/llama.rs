//! Llama (arXiv 2302.13971) and what shares its layers: Llama 2 and 3, Mistral (arXiv 2310.06825),
//! Mixtral (arXiv 2401.04088). Files call all of them `llama`.

use super::Loader;
use crate::Result;
use crate::backend::Pairing;
use crate::model::Decoder;
use crate::model::feed::Feed;

pub(super) fn load(loader: &mut Loader<'_>) -> Result<Decoder> {
    loader.pre_norm_decoder(Pairing::Adjacent, false, |loader, layer| {
        if loader.count("expert_count")?.is_none() {
            return loader.dense(layer);
        }
        let hidden = loader.need_count("feed_forward_length")?;
        Ok(Some(Feed::Experts(loader.experts(layer, hidden, true, None)?)))
    })
}
