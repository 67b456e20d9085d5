//! Shape files, and models of a shape with fresh weights: where training from nothing begins.

use super::vocabulary::Vocabulary;
use crate::compress::{Random, Shape};
use crate::gguf::write::{TensorPlan, Writer};
use crate::gguf::{Gguf, Tensor, TensorType, Value};
use crate::memory::text;
use crate::{Error, Result};
use attar_kernels::Format;
use serde::Deserialize;
use std::path::Path;

/// What a shape file may say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    architecture: String,
    vocabulary: usize,
    width: usize,
    layers: usize,
    heads: usize,
    kv_heads: Option<usize>,
    feed_forward: usize,
    #[serde(default)]
    experts: usize,
    #[serde(default)]
    experts_used: usize,
    context: usize,
    #[serde(default = "tied")]
    tied: bool,
    #[serde(default = "rope_base")]
    rope_base: f32,
    #[serde(default = "norm_epsilon")]
    norm_epsilon: f32,
}

fn tied() -> bool {
    true
}

fn rope_base() -> f32 {
    10000.0
}

fn norm_epsilon() -> f32 {
    1e-5
}

impl Shape {
    /// Reads a shape from JSON, for example
    /// `{"architecture": "...", "vocabulary": 1024, "width": 128, "layers": 8, "heads": 8,
    /// "kv_heads": 4, "feed_forward": 320, "context": 256}`. It may also say `experts`, `experts_used`,
    /// `tied` (true), `rope_base` (10000) and `norm_epsilon` (1e-5); `kv_heads` are as many as `heads`
    /// unless it says otherwise.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming what is missing, unknown, out of range or does not divide.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let file: File =
            serde_json::from_slice(json).map_err(|e| Error::Invalid(text!("a shape: {e}")))?;
        let shape = Self {
            architecture: file.architecture,
            vocab_len: file.vocabulary,
            width: file.width,
            layers: file.layers,
            heads: file.heads,
            kv_heads: file.kv_heads.unwrap_or(file.heads),
            feed_len: file.feed_forward,
            experts: file.experts,
            experts_used: file.experts_used,
            context_len: file.context,
            tied: file.tied,
            rope_base: file.rope_base,
            norm_epsilon: file.norm_epsilon,
        };
        let positive = |value: f32| value.is_finite() && value > 0.0;
        for (name, value) in [("rope_base", file.rope_base), ("norm_epsilon", file.norm_epsilon)] {
            if !positive(value) {
                return Err(Error::Invalid(text!("a shape: {name} of {value}, expected above 0")));
            }
        }
        shape.check(Format::F32)?;
        Ok(shape)
    }
}

/// Writes a model of this shape with random weights in F32 to `out`, which appears when it is whole.
///
/// Weights are normal. Their deviation is 0.02 in the table of embeddings and one over the root of the
/// row's length elsewhere; what is added to the residual stream is smaller by the root of the number of
/// additions, so that the stream does not grow with depth (Radford et al., 2019).
///
/// # Errors
/// [`Error::Invalid`] if the vocabulary has another number of tokens than the shape,
/// [`Error::Io`] naming the path.
pub fn write_fresh(shape: &Shape, vocabulary: &Vocabulary, seed: u64, out: &Path) -> Result<()> {
    shape.check(Format::F32)?;
    if vocabulary.len() != shape.vocab_len {
        let (found, expected) = (vocabulary.len(), shape.vocab_len);
        return Err(Error::Invalid(text!(
            "a vocabulary of {found} tokens for a shape with {expected}"
        )));
    }
    let plans = shape.plans(Format::F32);
    let keys = shape.keys();
    let mut writer = vocabulary.with_metadata(|vocabulary| {
        let general = [
            ("general.architecture", Value::String(shape.architecture.as_bytes())),
            ("general.file_type", Value::U32(0)),
        ];
        let keys = keys.iter().map(|(key, value)| (key.as_str(), *value));
        let metadata = general.into_iter().chain(keys).chain(vocabulary.iter().copied());
        Writer::create(out, metadata, &plans)
    })?;
    let mut random = Random(seed);
    plans.iter().try_for_each(|plan| fresh(plan, shape.layers, &mut random, &mut writer))?;
    writer.finish()
}

/// Writes the model of a file with fresh weights in place of its own, as [`write_fresh`] draws them;
/// biases are zero.
///
/// # Errors
/// [`Error::Io`] naming the path.
pub fn write_forgotten(gguf: &Gguf, seed: u64, out: &Path) -> Result<()> {
    let key = format!("{}.block_count", gguf.architecture()?);
    let layers = gguf.usize(&key)?.unwrap_or(1);
    let learned = |tensor: &Tensor| &*tensor.name != "rope_freqs.weight";
    let plan = |tensor: &Tensor| TensorPlan {
        name: tensor.name.to_string(),
        kind: if learned(tensor) { TensorType::of(Format::F32) } else { tensor.kind },
        dims: tensor.dims.to_vec(),
    };
    let plans: Vec<_> = gguf.tensors().iter().map(plan).collect();
    let metadata = gguf.metadata().filter(|(name, _)| {
        !["general.file_type", "general.quantization_version"].contains(name)
            && !name.starts_with("split.")
    });
    let metadata = metadata.chain([("general.file_type", Value::U32(0))]);
    let mut writer = Writer::create(out, metadata, &plans)?;
    let mut random = Random(seed);
    for (tensor, plan) in gguf.tensors().iter().zip(&plans) {
        match learned(tensor) {
            true => fresh(plan, layers, &mut random, &mut writer)?,
            false => writer.append(&tensor.bytes)?,
        }
    }
    writer.finish()
}

/// Draws the weights of one tensor.
fn fresh(plan: &TensorPlan, layers: usize, random: &mut Random, writer: &mut Writer) -> Result<()> {
    let deviation = deviation(&plan.name, plan.dims[0], layers);
    for _ in 0..plan.dims[1..].iter().product() {
        let mut value = || match plan.dims.len() {
            _ if plan.name.ends_with(".bias") => 0.0,
            1 => 1.0, // a norm
            _ => random.normal() * deviation,
        };
        let row: Vec<u8> = (0..plan.dims[0]).flat_map(|_| value().to_le_bytes()).collect();
        writer.append(&row)?;
    }
    Ok(())
}

fn deviation(name: &str, row_len: usize, layers: usize) -> f32 {
    let plain = 1.0 / (row_len as f32).sqrt();
    if name == "token_embd.weight" {
        0.02
    } else if name.contains("attn_output") || name.contains("ffn_down") {
        plain / (2.0 * layers as f32).sqrt()
    } else {
        plain
    }
}
