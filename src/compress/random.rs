//! Files of any shape and format with random weights: to measure speed, not to tell stories.

use super::shape::Shape;
use crate::Result;
use crate::gguf::Value;
use crate::gguf::write::{TensorPlan, Writer};
use attar_kernels::Format;
use std::path::Path;

/// A file to measure with.
#[derive(Clone, Debug)]
pub struct RandomModel {
    /// Its shape; the vocabulary has no text.
    pub shape: Shape,
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
/// [`crate::Error::Invalid`] for a shape that does not divide, [`crate::Error::Io`] naming the path.
pub fn write_random(model: &RandomModel, out: &Path, each: &mut dyn FnMut(&str)) -> Result<()> {
    model.shape.check(model.format)?;
    let plans = model.shape.plans(model.format);
    let keys = model.shape.keys();
    let metadata = [
        ("general.architecture", Value::String(model.shape.architecture.as_bytes())),
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
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..len`; 0 for a `len` of 0.
    pub(crate) fn below(&mut self, len: usize) -> usize {
        ((u128::from(self.next()) * len as u128) >> 64) as usize
    }

    /// Nearly normal: the sum of twelve uniform values less six.
    pub(crate) fn normal(&mut self) -> f32 {
        let sum: f32 = (0..12).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32).sum();
        sum - 6.0
    }
}
