//! GGUF files: a view over mapped or static bytes that copies no value and no tensor.
//!
//! The header is walked once when the file is opened, and every count, length, offset and dimension
//! is checked then; what is handed out later cannot fail. The format: the GGUF specification of the
//! ggml project, versions 1 to 3, little-endian.

mod read;
#[cfg(feature = "std")]
mod split;
mod tensor;
mod types;
mod value;
#[cfg(feature = "std")]
pub mod write;

pub use tensor::{Dims, Tensor, TensorName};
pub use types::{TENSOR_TYPES, TensorType, ValueType};
pub use value::{Array, Value};

use crate::bytes::Bytes;
use crate::memory::{Shared, text};
use crate::{Error, Result};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// An open file. Clones share it.
#[derive(Clone, Debug)]
pub struct Gguf {
    contents: Shared<Contents>,
}

#[derive(Debug)]
struct Contents {
    version: u32,
    alignment: usize,
    /// The file, or the first part of a split one.
    bytes: Bytes,
    /// In the file's order.
    keys: Vec<Key>,
    /// In the file's order.
    tensors: Vec<Tensor>,
    /// Indices of `tensors`, sorted by name.
    by_name: Vec<u32>,
    file_bytes: usize,
}

/// Where a metadata pair lies.
#[derive(Debug)]
struct Key {
    name: Range<usize>,
    kind: ValueType,
    value: Range<usize>,
}

impl Gguf {
    /// Maps a file, and the other parts where it is one of a split model
    /// (`NAME-00001-of-0000N.gguf`).
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`], naming the file.
    #[cfg(feature = "std")]
    pub fn open(path: &std::path::Path) -> Result<Self> {
        split::open(path)
    }

    /// Views one whole file in memory.
    ///
    /// # Errors
    /// [`Error::Format`] naming the key or tensor and the byte offset where it breaks the format's
    /// rules, [`Error::Limit`] if it has more keys or tensors than any model, [`Error::Memory`].
    pub fn parse(bytes: Bytes) -> Result<Self> {
        Self::new(read::parse(bytes)?)
    }

    fn new(contents: Contents) -> Result<Self> {
        Ok(Self { contents: Shared::new(contents)? })
    }

    /// Version of the format: 1 to 3.
    pub fn version(&self) -> u32 {
        self.contents.version
    }

    /// What tensor data is aligned to, in bytes.
    pub fn alignment(&self) -> usize {
        self.contents.alignment
    }

    /// Size of the file, or of all parts of a split one.
    pub fn file_bytes(&self) -> usize {
        self.contents.file_bytes
    }

    /// All metadata in the file's order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.contents.keys.iter().filter_map(|key| Some((self.key_name(key), self.decode(key)?)))
    }

    fn key_name(&self, key: &Key) -> &str {
        core::str::from_utf8(&self.contents.bytes[key.name.clone()]).unwrap_or("")
    }

    fn decode(&self, key: &Key) -> Option<Value<'_>> {
        let bytes = &self.contents.bytes[key.value.clone()];
        value::Walk { bytes, wide: self.contents.version > 1 }.value(key.kind)
    }

    /// A metadata value.
    pub fn get(&self, name: &str) -> Option<Value<'_>> {
        let key = self.contents.keys.iter().find(|key| self.key_name(key) == name)?;
        self.decode(key)
    }

    /// A value that must have one of some types.
    fn typed<'a, T>(
        &'a self,
        name: &str,
        expected: impl fmt::Display,
        convert: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let wrong = || {
            let kind = value.kind().name();
            Error::Invalid(match value.integer() {
                Some(v) => text!("key '{name}' is {kind} {v}, expected {expected}"),
                None => text!("key '{name}' is {kind}, expected {expected}"),
            })
        };
        convert(value).map(Some).ok_or_else(wrong)
    }

    /// A count: any integer type, not negative.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another type or a value that does not fit, as in the functions below.
    pub fn usize(&self, name: &str) -> Result<Option<usize>> {
        self.typed(name, "a count", |v| usize::try_from(v.integer()?).ok())
    }

    /// A count that is one for all layers, or an array of one a layer.
    ///
    /// # Errors
    /// As [`Gguf::usize`]; [`Error::Invalid`] too if the array has none for the layer.
    pub fn usize_at(&self, name: &str, layer: usize) -> Result<Option<usize>> {
        let Some(Value::Array(array)) = self.get(name) else { return self.usize(name) };
        let value = array.iter().nth(layer).and_then(|value| value.integer());
        match value.and_then(|value| usize::try_from(value).ok()) {
            None => Err(Error::Invalid(text!("key '{name}' has no count for layer {layer}"))),
            count => Ok(count),
        }
    }

    /// A token id.
    ///
    /// # Errors
    /// As [`Gguf::usize`].
    pub fn u32(&self, name: &str) -> Result<Option<u32>> {
        self.typed(name, "a 32-bit number", |v| u32::try_from(v.integer()?).ok())
    }

    /// A float, finite.
    ///
    /// # Errors
    /// As [`Gguf::usize`].
    pub fn f32(&self, name: &str) -> Result<Option<f32>> {
        let finite = |v: Value<'_>| v.float().filter(|v| v.is_finite()).map(|v| v as f32);
        self.typed(name, "a finite float", finite)
    }

    /// A flag.
    ///
    /// # Errors
    /// As [`Gguf::usize`].
    pub fn bool(&self, name: &str) -> Result<Option<bool>> {
        self.typed(name, "a bool", |v| if let Value::Bool(v) = v { Some(v) } else { None })
    }

    /// A string in UTF-8.
    ///
    /// # Errors
    /// As [`Gguf::usize`].
    pub fn str(&self, name: &str) -> Result<Option<&str>> {
        self.typed(name, "a string in UTF-8", |v| match v {
            Value::String(s) => core::str::from_utf8(s).ok(),
            _ => None, // any other type is the error
        })
    }

    /// An array with elements of type `kind`.
    ///
    /// # Errors
    /// As [`Gguf::usize`].
    pub fn array(&self, name: &str, kind: ValueType) -> Result<Option<Array<'_>>> {
        self.typed(name, format_args!("an array of {}", kind.name()), |v| match v {
            Value::Array(array) if array.kind == kind => Some(array),
            _ => None, // any other type is the error
        })
    }

    /// The elements of one of this file's arrays, sharing the file.
    pub fn array_bytes(&self, array: &Array<'_>) -> Bytes {
        let all = &self.contents.bytes;
        let start = (array.bytes.as_ptr() as usize).wrapping_sub(all.as_ptr() as usize);
        all.slice(start..start.saturating_add(array.bytes.len()))
    }

    /// The model family: `general.architecture`.
    ///
    /// # Errors
    /// [`Error::Missing`] where the file does not say.
    pub fn architecture(&self) -> Result<&str> {
        let name = "general.architecture";
        self.str(name)?.ok_or_else(|| Error::Missing(text!("key '{name}'")))
    }

    /// All tensors in the file's order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.contents.tensors
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        let Contents { tensors, by_name, .. } = &*self.contents;
        let found = by_name.binary_search_by(|i| (*tensors[*i as usize].name).cmp(name));
        found.ok().map(|place| tensors[by_name[place] as usize].clone())
    }

    /// A tensor the model cannot do without.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn need_tensor(&self, name: &str) -> Result<Tensor> {
        self.tensor(name).ok_or_else(|| Error::Missing(text!("tensor '{name}'")))
    }
}
