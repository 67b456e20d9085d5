//! The shape of a model: what a file without weights would say.

use crate::gguf::write::TensorPlan;
use crate::gguf::{TensorType, Value};
use crate::memory::text;
use crate::{Error, Result};
use attar_kernels::Format;

/// The shape of a decoder with gated feed-forward blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Family, as in `general.architecture`; one that needs no tensors beyond the usual.
    pub architecture: String,
    /// Tokens of the vocabulary.
    pub vocab_len: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Number of layers.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of the feed-forward block, or of one expert.
    pub feed_len: usize,
    /// Experts a layer; 0 for a dense model.
    pub experts: usize,
    /// Experts a token uses.
    pub experts_used: usize,
    /// Longest context.
    pub context_len: usize,
    /// Whether the table of embeddings is the last matrix too.
    pub tied: bool,
    /// Base of the angles of rotations.
    pub rope_base: f32,
    /// What norms add to a mean square.
    pub norm_epsilon: f32,
}

impl Shape {
    /// Whether the sizes go together, with matrices in `format`.
    ///
    /// # Errors
    /// [`Error::Invalid`] saying which do not.
    pub fn check(&self, format: Format) -> Result<()> {
        let sizes = [
            ("vocabulary", self.vocab_len),
            ("width", self.width),
            ("layers", self.layers),
            ("heads", self.heads),
            ("key-value heads", self.kv_heads),
            ("feed-forward", self.feed_len),
            ("context", self.context_len),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| *size == 0 || *size > 1 << 24) {
            return Err(Error::Invalid(text!("{name} of {size}, expected 1 to 2^24")));
        }
        let block = format.info().block_len;
        let divides = self.width.is_multiple_of(self.heads * 2)
            && self.heads.is_multiple_of(self.kv_heads)
            && self.width.is_multiple_of(block)
            && self.feed_len.is_multiple_of(block);
        if !divides {
            return Err(Error::Invalid(text!(
                "width {} and feed-forward {} must be multiples of {block}, the width of twice the {} \
                 heads, these of the {} key-value heads",
                self.width,
                self.feed_len,
                self.heads,
                self.kv_heads
            )));
        }
        if self.experts_used > self.experts {
            let (used, experts) = (self.experts_used, self.experts);
            return Err(Error::Invalid(text!("{used} experts used of {experts}")));
        }
        Ok(())
    }

    /// What a file says of the shape.
    pub(crate) fn keys(&self) -> Vec<(String, Value<'static>)> {
        let name = |key: &str| format!("{}.{key}", self.architecture);
        [
            ("context_length", self.context_len),
            ("embedding_length", self.width),
            ("block_count", self.layers),
            ("feed_forward_length", self.feed_len),
            ("rope.dimension_count", self.width / self.heads),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("vocab_size", self.vocab_len),
        ]
        .into_iter()
        .chain([("expert_count", self.experts), ("expert_used_count", self.experts_used)])
        .filter(|(key, _)| self.experts > 0 || !key.starts_with("expert"))
        .map(|(key, value)| (name(key), Value::U32(value as u32)))
        .chain([
            (name("attention.layer_norm_rms_epsilon"), Value::F32(self.norm_epsilon)),
            (name("rope.freq_base"), Value::F32(self.rope_base)),
        ])
        .collect()
    }

    /// The tensors, with matrices in `format`.
    pub(crate) fn plans(&self, format: Format) -> Vec<TensorPlan> {
        let plan = |name: String, format: Format, dims: &[usize]| TensorPlan {
            name,
            kind: TensorType::of(format),
            dims: dims.into(),
        };
        let matrix = |name: String, dims: &[usize]| plan(name, format, dims);
        let vector = |name: String| plan(name, Format::F32, &[self.width]);
        let (width, feed, experts) = (self.width, self.feed_len, self.experts);
        let kv_width = width / self.heads * self.kv_heads;
        let mut plans = vec![matrix("token_embd.weight".into(), &[width, self.vocab_len])];
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            plans.push(vector(name("attn_norm")));
            plans.push(matrix(name("attn_q"), &[width, width]));
            plans.push(matrix(name("attn_k"), &[width, kv_width]));
            plans.push(matrix(name("attn_v"), &[width, kv_width]));
            plans.push(matrix(name("attn_output"), &[width, width]));
            plans.push(vector(name("ffn_norm")));
            if experts == 0 {
                plans.push(matrix(name("ffn_gate"), &[width, feed]));
                plans.push(matrix(name("ffn_up"), &[width, feed]));
                plans.push(matrix(name("ffn_down"), &[feed, width]));
            } else {
                plans.push(plan(name("ffn_gate_inp"), Format::F32, &[width, experts]));
                plans.push(matrix(name("ffn_gate_exps"), &[width, feed, experts]));
                plans.push(matrix(name("ffn_up_exps"), &[width, feed, experts]));
                plans.push(matrix(name("ffn_down_exps"), &[feed, width, experts]));
            }
        }
        plans.push(vector("output_norm.weight".into()));
        if !self.tied {
            plans.push(matrix("output.weight".into(), &[width, self.vocab_len]));
        }
        plans
    }
}
