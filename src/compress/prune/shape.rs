//! The widths and counts of a model that can be cut, from its keys and tensors.

use crate::arch::{self, Architecture};
use crate::gguf::Gguf;
use crate::memory::text;
use crate::session::{Options, Session};
use crate::{Error, Result};

/// Widths and counts of a model.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Its family's name, the prefix of its keys.
    pub family: &'static str,
    /// The family of the same layers with widths of their own, if there is one.
    pub uneven: Option<&'static str>,
    /// Tokens.
    pub vocab_len: usize,
    /// Columns of the residual stream.
    pub width: usize,
    /// Width of a query or key.
    pub key_len: usize,
    /// Width of a value.
    pub value_len: usize,
    /// Of each layer.
    pub layers: Vec<LayerShape>,
}

/// Widths and counts of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// Query heads, 0 without attention.
    pub heads: usize,
    /// Heads with keys and values of their own.
    pub kv_heads: usize,
    /// Neurons of the feed-forward block or of one expert, 0 without one.
    pub hidden: usize,
    /// Experts, 0 in a dense block.
    pub experts: usize,
    /// Experts each token goes to.
    pub experts_used: usize,
}

impl Shape {
    /// Reads the shape of a model.
    ///
    /// # Errors
    /// Those of [`Session::open`]: what cannot run is not cut.
    pub fn of(gguf: &Gguf) -> Result<Self> {
        Session::plan_for(gguf, &Options { context_len: 1, ..Options::default() })?;
        let Architecture { name: family, uneven, .. } = *arch::of(gguf)?;
        let need = |key: &str, layer| {
            let key = format!("{family}.{key}");
            gguf.usize_at(&key, layer)?.ok_or_else(|| Error::Missing(text!("key '{key}'")))
        };
        let table = gguf.need_tensor("token_embd.weight")?;
        let (width, vocab_len) = (table.dims[0], table.dims[1..].iter().product());
        let mut layers = Vec::new();
        for layer in 0..need("block_count", 0)? {
            let heads = need("attention.head_count", layer)?;
            let key = format!("{family}.attention.head_count_kv");
            let kv_heads = gguf.usize_at(&key, layer)?.unwrap_or(heads);
            let down = |suffix: &str| gguf.tensor(&format!("blk.{layer}.ffn_down{suffix}.weight"));
            let (mut hidden, mut experts, mut experts_used) = (0, 0, 0);
            if let Some(down) = down("_exps") {
                (hidden, experts) = (down.dims[0], *down.dims.last().unwrap_or(&0));
                experts_used = need("expert_used_count", layer)?;
            } else if let Some(down) = down("") {
                hidden = down.dims[0];
            }
            layers.push(LayerShape { heads, kv_heads, hidden, experts, experts_used });
        }
        let head_len = |key: &str, default| {
            Ok::<_, Error>(gguf.usize(&format!("{family}.attention.{key}"))?.unwrap_or(default))
        };
        let heads = layers.first().map_or(0, |layer| layer.heads);
        let key_len = head_len("key_length", width / heads.max(1))?;
        let value_len = head_len("value_length", key_len)?;
        Ok(Self { family, uneven, vocab_len, width, key_len, value_len, layers })
    }
}
