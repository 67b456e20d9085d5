//! Files of any shape and format with random weights: to measure speed, not to tell stories.

use crate::gguf::write::{TensorPlan, Writer};
use crate::gguf::{TensorType, Value};
use crate::memory::text;
use crate::{Error, Result};
use attar_kernels::Format;
use std::path::Path;

/// The shape of a decoder with gated feed-forward blocks.
#[derive(Clone, Debug)]
pub struct RandomModel {
    /// Family, as in `general.architecture`; one that needs no tensors beyond the usual.
    pub architecture: String,
    /// Tokens of the vocabulary, which has no text.
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
    /// Encoding of the matrices.
    pub format: Format,
    /// Same seed, same file.
    pub seed: u64,
}

/// Each tensor's rows are drawn from as many random ones: what is measured does not depend on the
/// values, and quantising billions of them would take minutes.
const DISTINCT_ROWS: usize = 64;

/// Writes the model to `out`, which appears when it is whole; `each` is told of every tensor.
///
/// # Errors
/// [`Error::Invalid`] for a shape that does not divide, [`Error::Io`] naming the path.
pub fn write_random(model: &RandomModel, out: &Path, each: &mut dyn FnMut(&str)) -> Result<()> {
    model.check()?;
    let plans = model.plans();
    let name = |key: &str| format!("{}.{key}", model.architecture);
    let keys: Vec<(String, Value<'_>)> = [
        ("context_length", model.context_len),
        ("embedding_length", model.width),
        ("block_count", model.layers),
        ("feed_forward_length", model.feed_len),
        ("rope.dimension_count", model.width / model.heads),
        ("attention.head_count", model.heads),
        ("attention.head_count_kv", model.kv_heads),
        ("vocab_size", model.vocab_len),
    ]
    .into_iter()
    .chain([("expert_count", model.experts), ("expert_used_count", model.experts_used)])
    .filter(|(key, _)| model.experts > 0 || !key.starts_with("expert"))
    .map(|(key, value)| (name(key), Value::U32(value as u32)))
    .chain([(name("attention.layer_norm_rms_epsilon"), Value::F32(1e-5))])
    .collect();
    let metadata = [
        ("general.architecture", Value::String(model.architecture.as_bytes())),
        ("general.name", Value::String(b"random weights")),
        ("tokenizer.ggml.model", Value::String(b"no_vocab")),
    ]
    .into_iter()
    .chain(keys.iter().map(|(key, value)| (key.as_str(), *value)));
    let mut writer = Writer::create(out, metadata, &plans)?;
    let mut random = Random(model.seed);
    for plan in &plans {
        fill(plan, &mut random, &mut writer)?;
        each(&plan.name);
    }
    writer.finish()
}

impl RandomModel {
    fn check(&self) -> Result<()> {
        let sizes =
            [self.vocab_len, self.width, self.layers, self.heads, self.kv_heads, self.feed_len];
        if sizes.iter().any(|size| *size == 0 || *size > 1 << 24) {
            return Err(Error::Invalid("a size that is 0 or above 2^24".into()));
        }
        let block = self.format.info().block_len;
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

    fn plans(&self) -> Vec<TensorPlan> {
        let plan = |name: String, format: Format, dims: &[usize]| TensorPlan {
            name,
            kind: TensorType::of(format),
            dims: dims.into(),
        };
        let matrix = |name: String, dims: &[usize]| plan(name, self.format, dims);
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
        plans.push(matrix("output.weight".into(), &[width, self.vocab_len]));
        plans
    }
}

/// Normal values of standard deviation `1 / sqrt(row length)`, so that products stay near 1; ones for
/// vectors, which are norms.
fn fill(plan: &TensorPlan, random: &mut Random, writer: &mut Writer) -> Result<()> {
    let len = plan.dims[0];
    let rows: usize = plan.dims[1..].iter().product();
    if plan.dims.len() == 1 {
        return writer.append(&1f32.to_le_bytes().repeat(len));
    }
    let Some(format) = plan.kind.format() else { return Ok(()) };
    let row_bytes = format.info().row_bytes(len);
    let scale = 1.0 / (len as f32).sqrt();
    let mut pool = vec![0; DISTINCT_ROWS * row_bytes];
    for row in pool.chunks_exact_mut(row_bytes) {
        let values: Vec<f32> = (0..len).map(|_| random.normal() * scale).collect();
        format.info().quantize(&values, row);
    }
    for _ in 0..rows {
        let row = (random.next() >> 32) as usize % DISTINCT_ROWS;
        writer.append(&pool[row * row_bytes..][..row_bytes])?;
    }
    Ok(())
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Nearly normal: the sum of twelve uniform values less six.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..12).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32).sum();
        sum - 6.0
    }
}
