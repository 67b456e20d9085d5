//! Counts a file gives under its architecture's prefix, each within bounds.

use super::loader::LoadOptions;
use crate::gguf::{Gguf, Value};
use crate::memory::{name, text};
use crate::{Error, Result};

/// Context a session gets unless it asks for another, if the model was trained on as much.
const CONTEXT_LEN_DEFAULT: usize = 4096;
/// Rows of a batch unless asked otherwise: enough to keep the kernels busy.
const BATCH_LEN_DEFAULT: usize = 512;

/// No count of a real model is larger; a few of them multiplied with a size still fit an address of
/// 32 bits or are checked.
pub(super) const COUNT_MAX: usize = 1 << 24;

/// Widths and counts from the keys that every family has.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width of a query or key.
    pub key_len: usize,
    /// Width of a value.
    pub value_len: usize,
    /// Added to mean squares.
    pub eps: f32,
    /// Positions the cache holds.
    pub context_len: usize,
    /// Rows of a batch at most.
    pub batch_len: usize,
}

impl Dims {
    pub(super) fn read(gguf: &Gguf, architecture: &str, options: &LoadOptions) -> Result<Self> {
        let need = |key: &str| need_count(gguf, architecture, key);
        let maybe = |key: &str| count(gguf, architecture, key);
        let width = need("embedding_length")?;
        let key_len = match maybe("attention.key_length")? {
            Some(len) => len,
            // Where the first layer has no attention, the file must say.
            None => match count_at(gguf, architecture, "attention.head_count", 0)? {
                None | Some(0) => need("attention.key_length")?,
                Some(heads) => width / heads,
            },
        };
        let value_len = maybe("attention.value_length")?.unwrap_or(key_len);
        let eps_key = name!("{architecture}.attention.layer_norm_rms_epsilon");
        let eps = gguf.f32(&eps_key)?.ok_or_else(|| Error::Missing(text!("key '{eps_key}'")))?;
        let trained = maybe("context_length")?.unwrap_or(CONTEXT_LEN_DEFAULT);
        let context_len = match options.context_len {
            0 => trained.min(CONTEXT_LEN_DEFAULT),
            len => len,
        };
        if context_len > COUNT_MAX {
            let most = format_args!("expected at most {COUNT_MAX}");
            return Err(Error::Limit(text!("a context of {context_len} positions, {most}")));
        }
        if context_len > trained {
            log::warn!("a context of {context_len} is longer than the {trained} the model knows");
        }
        let batch_len = if options.batch_len == 0 { BATCH_LEN_DEFAULT } else { options.batch_len };
        let batch_len = batch_len.min(context_len.saturating_mul(options.sequences));
        let layers = need("block_count")?;
        Ok(Self { layers, width, key_len, value_len, eps, context_len, batch_len })
    }
}

/// A count under the architecture's prefix; 0 reads as absent.
pub(super) fn count(gguf: &Gguf, architecture: &str, key: &str) -> Result<Option<usize>> {
    let key = name!("{architecture}.{key}");
    Ok(bounded(gguf.usize(&key)?, &key)?.filter(|n| *n != 0))
}

/// A count of a layer; 0 reads as absent where it is one for all.
pub(super) fn count_at(
    gguf: &Gguf,
    architecture: &str,
    key: &str,
    layer: usize,
) -> Result<Option<usize>> {
    let key = name!("{architecture}.{key}");
    let each = matches!(gguf.get(&key), Some(Value::Array(_)));
    Ok(bounded(gguf.usize_at(&key, layer)?, &key)?.filter(|n| each || *n != 0))
}

fn bounded(count: Option<usize>, key: &str) -> Result<Option<usize>> {
    match count {
        Some(n) if n > COUNT_MAX => {
            Err(Error::Limit(text!("key '{key}' is {n}, expected at most {COUNT_MAX}")))
        }
        count => Ok(count),
    }
}

/// A count that must be there.
pub(super) fn need_count(gguf: &Gguf, architecture: &str, key: &str) -> Result<usize> {
    let missing = || Error::Missing(text!("key '{architecture}.{key}', or it is 0"));
    count(gguf, architecture, key)?.ok_or_else(missing)
}
