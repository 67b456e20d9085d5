//! What loaders share: reading keys and tensors with their checks, and the blocks most families have.

use super::dims::{COUNT_MAX, Dims, count, count_at, need_count};
use crate::backend::{
    Backend, CacheShape, NormKind, Pairing, Rotary, RotaryShape, RouteShape, Weight,
};
use crate::gguf::{Gguf, Tensor};
use crate::memory::{self, name, text};
use crate::model::attention::{Grouped, GroupedShape};
use crate::model::feed::{ExpertLinear, Experts, Feed, Gated, Shared};
use crate::model::linear::{Linear, Norm, Scale};
use crate::model::position::{Scaling, Yarn, frequencies};
use crate::model::stack::{Layer, Residual, Scratch, ScratchShape};
use crate::model::{Decoder, DecoderShape};
use crate::{Error, Result};
use alloc::vec::Vec;
use attar_kernels::Format;

/// Rows whose logits are computed together: more would take memory, fewer time.
const LOGIT_ROWS: usize = 16;

/// Sizes a session chooses; 0 leaves the choice to the model.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Positions the cache holds.
    pub context_len: usize,
    /// Rows of a batch at most.
    pub batch_len: usize,
    /// Encoding of keys and values: F32 or F16.
    pub cache: Format,
    /// Independent texts, of `context_len` positions each.
    pub sequences: usize,
    /// Rows whose logits are computed together; 0 for as many as pay when few are needed.
    pub logit_rows: usize,
}

/// A file on its way to a device.
pub struct Loader<'a> {
    gguf: &'a Gguf,
    backend: &'a mut dyn Backend,
    architecture: &'static str,
    cache: Format,
    sequences: usize,
    logit_rows: usize,
    /// Widths and counts that every family has.
    pub dims: Dims,
    /// Whether factors of feed-forward blocks are part of the family; where they are not, a file
    /// may still carry them.
    pub feed_scales: bool,
    scratch: ScratchShape,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        gguf: &'a Gguf,
        backend: &'a mut dyn Backend,
        options: &LoadOptions,
        architecture: &'static str,
    ) -> Result<Self> {
        let dims = Dims::read(gguf, architecture, options)?;
        let scratch = ScratchShape { width: dims.width, ..ScratchShape::default() };
        Ok(Self {
            gguf,
            backend,
            architecture,
            cache: options.cache,
            sequences: options.sequences,
            logit_rows: if options.logit_rows == 0 { LOGIT_ROWS } else { options.logit_rows },
            dims,
            feed_scales: true,
            scratch,
        })
    }

    /// A count under the architecture's prefix; 0 reads as absent.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        count(self.gguf, self.architecture, key)
    }

    /// A count that must be there.
    pub fn need_count(&self, key: &str) -> Result<usize> {
        need_count(self.gguf, self.architecture, key)
    }

    /// A count of a layer: one for all, or one a layer, where 0 means that the layer lacks it.
    fn count_at(&self, key: &str, layer: usize) -> Result<Option<usize>> {
        count_at(self.gguf, self.architecture, key, layer)
    }

    /// A number under the architecture's prefix; 0 reads as absent.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let value = self.gguf.f32(&name!("{}.{key}", self.architecture))?;
        Ok(value.map(f64::from).filter(|v| *v != 0.0))
    }

    fn tensor(&self, name: &str, dims: &[usize]) -> Result<Tensor> {
        let tensor = self.gguf.need_tensor(name)?;
        if tensor.dims[..] != *dims {
            let found = &tensor.dims;
            let what = text!("tensor '{name}' has dimensions {found:?}, expected {dims:?}");
            return Err(Error::Invalid(what));
        }
        Ok(tensor)
    }

    /// A vector, where the file has it.
    pub fn vector(&mut self, name: &str, len: usize) -> Result<Option<Weight>> {
        match self.gguf.tensor(name) {
            Some(_) => Ok(Some(self.backend.vector(&self.tensor(name, &[len])?)?)),
            None => Ok(None),
        }
    }

    /// `NAME.weight` of `[rows, cols]`, with `NAME.bias` and `NAME.scale` where the file has them.
    pub fn linear(&mut self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        let scale = self.factor(&name!("{name}.scale"))?.map(Scale::Product);
        self.unscaled_linear(name, rows, cols).map(|linear| Linear { scale, ..linear })
    }

    fn unscaled_linear(&mut self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        let dims: &[usize] = if rows == 1 { &[cols] } else { &[cols, rows] };
        let tensor = self.tensor(&name!("{name}.weight"), dims)?;
        let weight = self.backend.weight(&[tensor])?;
        let bias = self.vector(&name!("{name}.bias"), rows)?;
        Ok(Linear { weight, bias, scale: None })
    }

    /// As [`Loader::linear`], but of a feed-forward block, whose factor multiplies the bias too.
    fn feed_linear(&mut self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        let mut scale = None;
        if self.feed_scales {
            scale = self.factor(&name!("{name}.scale"))?.map(Scale::Sum);
        }
        self.unscaled_linear(name, rows, cols).map(|linear| Linear { scale, ..linear })
    }

    fn factor(&self, name: &str) -> Result<Option<f32>> {
        if self.gguf.tensor(name).is_none() {
            return Ok(None);
        }
        let tensor = self.tensor(name, &[1])?;
        let mut value = [0.0];
        tensor.format()?.info().dequantize(&tensor.bytes, &mut value);
        Ok(Some(value[0]))
    }

    /// An RMS norm, `NAME.weight`.
    pub fn rms_norm(&mut self, name: &str, len: usize) -> Result<Norm> {
        let tensor = self.tensor(&name!("{name}.weight"), &[len])?;
        let weight = self.backend.vector(&tensor)?;
        Ok(Norm { kind: NormKind::Rms, weight, bias: None, eps: self.dims.eps })
    }

    /// The rotation of all layers, from the `rope.*` keys and the tensor `rope_freqs.weight`.
    pub fn rotary(&mut self, pairing: Pairing) -> Result<Rotary> {
        let rotated = self.count("rope.dimension_count")?.unwrap_or(self.dims.key_len);
        if rotated > self.dims.key_len || rotated % 2 == 1 {
            let (name, len) = (self.architecture, self.dims.key_len);
            return Err(Error::Invalid(text!(
                "key '{name}.rope.dimension_count' is {rotated}, expected an even number up to {len}"
            )));
        }
        let pairs = rotated / 2;
        let mut divisors = Vec::new();
        if self.gguf.tensor("rope_freqs.weight").is_some() {
            let tensor = self.tensor("rope_freqs.weight", &[pairs])?;
            divisors = memory::filled(pairs, 1.0)?;
            tensor.format()?.info().dequantize(&tensor.bytes, &mut divisors);
        }
        let base = self.number("rope.freq_base")?.unwrap_or(10_000.0);
        let (frequencies, magnitude) = frequencies(pairs, base, self.scaling()?, &divisors)?;
        self.backend.rotary(RotaryShape { frequencies, magnitude, pairing })
    }

    fn scaling(&self) -> Result<Scaling> {
        let key = name!("{}.rope.scaling.type", self.architecture);
        let factor = match self.number("rope.scaling.factor")? {
            Some(factor) => factor,
            None => self.number("rope.scale_linear")?.unwrap_or(1.0),
        };
        match self.gguf.str(&key)?.unwrap_or("linear") {
            "none" => Ok(Scaling::None),
            "linear" if factor == 1.0 => Ok(Scaling::None),
            "linear" => Ok(Scaling::Linear { factor }),
            "yarn" => Ok(Scaling::Yarn(Yarn {
                factor,
                original_context_len: self
                    .count("rope.scaling.original_context_length")?
                    .map_or_else(|| self.need_count("context_length"), Ok)?,
                beta_fast: self.number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: self.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                magnitude: self.number("rope.scaling.attn_factor")?.unwrap_or(1.0),
            })),
            other => Err(Error::Unsupported(text!("key '{key}' with value '{other}'"))),
        }
    }

    /// Query heads of a layer, and heads with keys and values of their own; 0 where there is no attention.
    fn heads(&self, layer: usize) -> Result<(usize, usize)> {
        let (name, key) = (self.architecture, "attention.head_count");
        let missing = || Error::Missing(text!("key '{name}.{key}', or it is 0"));
        let heads = self.count_at(key, layer)?.ok_or_else(missing)?;
        let kv_heads = self.count_at("attention.head_count_kv", layer)?.unwrap_or(heads);
        if heads > 0 && (kv_heads == 0 || !heads.is_multiple_of(kv_heads)) {
            return Err(Error::Invalid(text!(
                "key '{name}.{key}' is {heads} in layer {layer}, no multiple of {kv_heads} in \
                 '{name}.{key}_kv'"
            )));
        }
        Ok((heads, kv_heads))
    }

    /// Attention of layer `layer` under the usual names; norms of query and key heads where asked.
    fn grouped(
        &mut self,
        layer: usize,
        (heads, kv_heads): (usize, usize),
        rotary: Rotary,
        head_norms: bool,
    ) -> Result<Grouped> {
        let Dims { width, key_len, value_len, .. } = self.dims;
        // First, for a device that does not take it to take nothing of the layer.
        let cache = self.backend.cache(CacheShape {
            sequences: self.sequences,
            context_len: self.dims.context_len,
            heads: kv_heads,
            query_heads: heads,
            key_len,
            value_len,
            format: self.cache,
        })?;
        let name = |part: &str| name!("blk.{layer}.attn_{part}");
        let (mut query_norm, mut key_norm) = (None, None);
        if head_norms {
            query_norm = Some(self.rms_norm(&name("q_norm"), key_len)?);
            key_norm = Some(self.rms_norm(&name("k_norm"), key_len)?);
        }
        let (query, key) = (all_heads(heads, key_len)?, all_heads(kv_heads, key_len)?);
        let (mixed, value) = (all_heads(heads, value_len)?, all_heads(kv_heads, value_len)?);
        self.scratch.include(&ScratchShape { query, key, value, mixed, ..Default::default() });
        Ok(Grouped {
            query: self.linear(&name("q"), query, width)?,
            key: self.linear(&name("k"), key, width)?,
            value: self.linear(&name("v"), value, width)?,
            output: self.linear(&name("output"), width, mixed)?,
            query_norm,
            key_norm,
            rotary: Some(rotary),
            cache,
            shape: GroupedShape {
                heads,
                kv_heads,
                key_len,
                value_len,
                scale: 1.0 / attar_kernels::math::sqrt(key_len as f32),
            },
        })
    }

    /// A gated block `PREFIX_gate`, `PREFIX_up`, `PREFIX_down`, the names ending in `suffix`.
    pub fn gated(&mut self, layer: usize, suffix: &str, hidden: usize) -> Result<Gated> {
        let width = self.dims.width;
        let name = |part: &str| name!("blk.{layer}.ffn_{part}{suffix}");
        self.scratch.include(&ScratchShape { hidden, ..ScratchShape::default() });
        Ok(Gated {
            gate: self.feed_linear(&name("gate"), hidden, width)?,
            up: self.feed_linear(&name("up"), hidden, width)?,
            down: self.feed_linear(&name("down"), width, hidden)?,
            hidden,
        })
    }

    /// Experts of layer `layer` under the usual names.
    pub fn experts(
        &mut self,
        layer: usize,
        hidden: usize,
        normalize: bool,
        shared: Option<Shared>,
    ) -> Result<Experts> {
        let width = self.dims.width;
        let experts = self.need_count("expert_count")?;
        let used = self.need_count("expert_used_count")?;
        if used > experts {
            let name = self.architecture;
            return Err(Error::Invalid(text!(
                "key '{name}.expert_used_count' is {used}, more than the {experts} experts"
            )));
        }
        let scale = self.number("expert_weights_scale")?.unwrap_or(1.0) as f32;
        self.scratch.include(&ScratchShape {
            expert_hidden: hidden,
            experts,
            experts_used: used,
            ..ScratchShape::default()
        });
        Ok(Experts {
            // Before their routing: a device that takes as many experts can choose among them.
            gate: self.expert_linear(layer, "gate", [experts, hidden, width])?,
            router: self.linear(&name!("blk.{layer}.ffn_gate_inp"), experts, width)?,
            route: RouteShape { used, normalize, scale },
            routing: self.backend.routing(self.dims.batch_len, used)?,
            up: self.expert_linear(layer, "up", [experts, hidden, width])?,
            down: self.expert_linear(layer, "down", [experts, width, hidden])?,
            hidden,
            shared,
        })
    }

    /// One matrix an expert: a tensor of three dimensions, or, in older files, a tensor an expert.
    fn expert_linear(
        &mut self,
        layer: usize,
        part: &str,
        dims: [usize; 3],
    ) -> Result<ExpertLinear> {
        let [experts, rows, cols] = dims;
        let name = name!("blk.{layer}.ffn_{part}_exps");
        let one = |e: usize| name!("blk.{layer}.ffn_{part}.{e}.weight");
        let matrices = if self.gguf.tensor(&one(0)).is_some() {
            let mut matrices = Vec::new();
            for e in 0..experts {
                memory::push(&mut matrices, self.tensor(&one(e), &[cols, rows])?)?;
            }
            matrices
        } else {
            self.tensor(&name!("{name}.weight"), &[cols, rows, experts])?.split_last()?
        };
        let weight = self.backend.weight(&matrices)?;
        let mut scale = None;
        if self.feed_scales {
            scale = self.vector(&name!("{name}.scale"), experts)?;
        }
        Ok(ExpertLinear { weight, scale })
    }

    /// A decoder whose layers are attention, then feed-forward, each with an RMS norm before it;
    /// `feed` reads the second block of a layer.
    pub fn pre_norm_decoder(
        &mut self,
        pairing: Pairing,
        head_norms: bool,
        feed: fn(&mut Self, usize) -> Result<Option<Feed>>,
    ) -> Result<Decoder> {
        let rotary = self.rotary(pairing)?;
        let width = self.dims.width;
        // Each layer has tensors of its own: a file with fewer than it says is found out below.
        let mut layers = memory::reserved(self.dims.layers.min(self.gguf.tensors().len()))?;
        for layer in 0..self.dims.layers {
            self.backend.layer(layer);
            let mut whole = Layer { attention: None, feed: None };
            let heads = self.heads(layer)?;
            if heads.0 > 0 {
                let attention = self.grouped(layer, heads, rotary, head_norms)?;
                let before = self.rms_norm(&name!("blk.{layer}.attn_norm"), width)?;
                whole.attention = Some(Residual::pre_norm(before, attention));
            }
            if let Some(feed) = feed(self, layer)? {
                let before = self.rms_norm(&name!("blk.{layer}.ffn_norm"), width)?;
                whole.feed = Some(Residual::pre_norm(before, feed));
            }
            memory::push(&mut layers, whole)?;
        }
        self.backend.layer(self.dims.layers);
        self.decoder(layers)
    }

    /// The feed-forward block of a dense layer under the usual names, unless the layer has none.
    pub fn dense(&mut self, layer: usize) -> Result<Option<Feed>> {
        let key = "feed_forward_length";
        match self.count_at(key, layer)? {
            None => self.need_count(key).map(|_| None),
            Some(0) => Ok(None),
            Some(hidden) => Ok(Some(Feed::Gated(self.gated(layer, "", hidden)?))),
        }
    }

    /// A decoder of `layers` with the usual table, last norm and head; without a head of its own the
    /// file shares the table.
    pub fn decoder(&mut self, layers: Vec<Layer>) -> Result<Decoder> {
        let Dims { width, context_len, batch_len, .. } = self.dims;
        let table = self.gguf.need_tensor("token_embd.weight")?;
        let vocab_len = *table.dims.last().unwrap_or(&0);
        let input = self.linear("token_embd", vocab_len, width)?;
        let head = match self.gguf.tensor("output.weight") {
            Some(_) => self.linear("output", vocab_len, width)?,
            None => input,
        };
        let norm = self.rms_norm("output_norm", width)?;
        let scratch = Scratch::claim(self.backend, batch_len, &self.scratch)?;
        let logit_rows = self.logit_rows.min(batch_len);
        let logits = self.backend.buffer(logit_rows, vocab_len)?;
        let shape = DecoderShape { vocab_len, width, context_len, batch_len, logit_rows };
        Ok(Decoder {
            shape,
            input: input.weight,
            input_scale: None,
            layers,
            norm,
            head,
            scratch,
            logits,
        })
    }
}

/// Width of `heads` heads of `len` each.
fn all_heads(heads: usize, len: usize) -> Result<usize> {
    heads.checked_mul(len).filter(|width| *width <= COUNT_MAX).ok_or_else(|| {
        Error::Limit(text!("{heads} heads of {len}, expected at most {COUNT_MAX} columns"))
    })
}
