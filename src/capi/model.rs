//! Models: a file, its vocabulary, and what may be asked of them.

use super::config::Config;
use super::failure::{Failure, Outcome, Status, failure, wrong};
use super::identity;
use super::lent::Progress;
use super::out::Out;
use super::source::Opened;
use super::types::{AttarLimits, AttarSource};
use crate::Tokenizer;
use crate::gguf::Value;
use core::fmt::Write;

/// What the handle of a model has.
pub(super) struct Model {
    pub(super) tokenizer: Tokenizer,
    /// Tells this model from others.
    pub(super) identity: u64,
    /// Dropped last: the vocabulary's texts lie in it.
    pub(super) file: Opened,
}

impl Model {
    pub(super) fn open(
        source: &AttarSource,
        config: &Config,
        progress: &Progress,
    ) -> Outcome<Self> {
        progress.tell(0)?;
        let file = Opened::open(source, config.copy, progress)?;
        if let Some(limits) = &config.limits {
            check(&file, limits)?;
        }
        progress.tell(950)?;
        let tokenizer = Tokenizer::load(&file.gguf).map_err(Failure::in_file)?;
        let identity = identity::of_model(file.bytes(), &file.gguf);
        progress.tell(1000)?;
        Ok(Self { tokenizer, identity, file })
    }

    /// A metadata value as text.
    pub(super) fn meta(&self, key: &str, mut out: Out<'_, u8>, len: &mut usize) -> Outcome<()> {
        let value =
            self.file.gguf.get(key).ok_or_else(|| wrong("the file does not have this key"))?;
        // Writing to `Out` does not fail.
        let _ = match value {
            Value::String(text) => {
                out.put(text);
                Ok(())
            }
            Value::Bool(value) => write!(out, "{value}"),
            Value::F32(value) => write!(out, "{value}"),
            Value::F64(value) => write!(out, "{value}"),
            Value::Array(_) => {
                return Err(failure(Status::Unsupported, "the value is an array"));
            }
            other => write!(out, "{}", other.integer().unwrap_or(0)),
        };
        out.finish_text(len)
    }
}

/// Whether a file stays within limits.
pub(super) fn check(file: &Opened, limits: &AttarLimits) -> Outcome<()> {
    let over = |what| Err(failure(Status::Limit, what));
    let gguf = &file.gguf;
    let exceeds = |count: usize, limit: u32| limit != 0 && count > limit as usize;
    if exceeds(gguf.tensors().len(), limits.max_tensors) {
        return over("more tensors than max_tensors");
    }
    if exceeds(gguf.metadata().count(), limits.max_tensors) {
        return over("more metadata keys than max_tensors");
    }
    let meta = identity::meta_bytes(file.bytes(), gguf) as u64;
    if limits.max_meta_bytes != 0 && meta > limits.max_meta_bytes {
        return over("more bytes before the weights than max_meta_bytes");
    }
    let architecture = gguf.architecture().unwrap_or("");
    if exceeds(count(file, architecture, "block_count"), limits.max_layers) {
        return over("more layers than max_layers");
    }
    if exceeds(vocab_len(file), limits.max_vocab) {
        return over("more tokens than max_vocab");
    }
    Ok(())
}

/// A count under the architecture's prefix; 0 where there is none.
fn count(file: &Opened, architecture: &str, key: &str) -> usize {
    let named = |name: &str| {
        name.strip_prefix(architecture).and_then(|rest| rest.strip_prefix('.')) == Some(key)
    };
    let value = file.gguf.metadata().find(|(name, _)| named(name));
    value.and_then(|(_, value)| usize::try_from(value.integer()?).ok()).unwrap_or(0)
}

/// Tokens the input table has.
fn vocab_len(file: &Opened) -> usize {
    let table = file.gguf.tensors().iter().find(|tensor| &*tensor.name == "token_embd.weight");
    table.and_then(|tensor| tensor.dims.last().copied()).unwrap_or(0)
}

/// What a file is, as JSON.
pub(super) fn probe(file: &Opened, out: &mut Out<'_, u8>) {
    let gguf = &file.gguf;
    let architecture = gguf.architecture().unwrap_or("");
    let known = crate::arch::ARCHITECTURES.iter().any(|row| row.name == architecture);
    let name = match gguf.get("general.name") {
        Some(Value::String(name)) => name,
        _ => b"", // it may be missing
    };
    let _ = write!(out, "{{\"format\":\"gguf\",\"version\":{},\"architecture\":", gguf.version());
    out.json_string(architecture.as_bytes());
    let _ = write!(out, ",\"architecture_known\":{known},\"name\":");
    out.json_string(name);
    let meta = identity::meta_bytes(file.bytes(), gguf);
    let weights: usize = gguf.tensors().iter().map(|tensor| tensor.len()).sum();
    let numbers = [
        ("file_bytes", file.bytes().len()),
        ("meta_bytes", meta),
        ("keys", gguf.metadata().count()),
        ("tensors", gguf.tensors().len()),
        ("weights", weights),
        ("vocab", vocab_len(file)),
        ("layers", count(file, architecture, "block_count")),
        ("width", count(file, architecture, "embedding_length")),
        ("context", count(file, architecture, "context_length")),
    ];
    for (name, number) in numbers {
        let _ = write!(out, ",\"{name}\":{number}");
    }
    let _ = write!(out, ",\"types\":{{");
    let mut first = true;
    for kind in &crate::gguf::TENSOR_TYPES {
        let count = gguf.tensors().iter().filter(|tensor| tensor.kind == kind).count();
        if count > 0 {
            let comma = if core::mem::take(&mut first) { "" } else { "," };
            let _ = write!(out, "{comma}\"{}\":{count}", kind.name);
        }
    }
    let _ = write!(out, "}}}}");
}
