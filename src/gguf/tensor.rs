//! A tensor of a file: what the table says of it, and its bytes where they lie.

use super::types::TensorType;
use crate::bytes::Bytes;
use crate::memory::{self, text};
use crate::{Error, Result};
use alloc::vec::Vec;
use attar_kernels::Format;
use core::fmt;
use core::ops::Deref;

/// A tensor. Clones share the file.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Name.
    pub name: TensorName,
    /// Encoding.
    pub kind: &'static TensorType,
    /// Sizes, the length of a row first.
    pub dims: Dims,
    /// Whole rows, one after another.
    pub bytes: Bytes,
}

impl Tensor {
    /// Rows made in memory.
    #[cfg(feature = "gpu")]
    pub(crate) fn unnamed(
        format: attar_kernels::Format,
        sizes: &[usize],
        bytes: alloc::vec::Vec<u8>,
    ) -> Result<Self> {
        let (kind, dims) = (TensorType::of(format), Dims::new(sizes));
        let name = TensorName(Bytes::from_vec(alloc::vec::Vec::new())?);
        Ok(Self { name, kind, dims, bytes: Bytes::from_vec(bytes)? })
    }

    /// The encoding, for kernels.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where no kernel reads it.
    pub fn format(&self) -> Result<Format> {
        self.kind.format().ok_or_else(|| {
            let (name, kind) = (&self.name, self.kind.name);
            Error::Unsupported(text!("tensor '{name}' of type {kind}"))
        })
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there are no weights: never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of a row.
    pub fn row_len(&self) -> usize {
        self.dims[0]
    }

    /// The slices along the last of at least two dimensions, all under this tensor's name.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn split_last(&self) -> Result<Vec<Self>> {
        let [dims @ .., count] = &self.dims[..] else { return Ok(Vec::new()) };
        let (dims, len) = (Dims::new(dims), self.bytes.len() / count);
        memory::collect((0..*count).map(|i| Self {
            name: self.name.clone(),
            kind: self.kind,
            dims,
            bytes: self.bytes.slice(i * len..(i + 1) * len),
        }))
    }
}

/// The name of a tensor, where it lies in its file.
#[derive(Clone)]
pub struct TensorName(pub(super) Bytes);

impl Deref for TensorName {
    type Target = str;

    fn deref(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default() // checked when the file was opened
    }
}

impl fmt::Display for TensorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for TensorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// The sizes of a tensor: one to four, none zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    sizes: [usize; Dims::LEN_MAX],
    len: usize,
}

impl Dims {
    pub(super) const LEN_MAX: usize = 4;

    /// At most four sizes.
    pub(super) fn new(sizes: &[usize]) -> Self {
        let mut dims = Self { sizes: [1; Self::LEN_MAX], len: sizes.len() };
        dims.sizes[..sizes.len()].copy_from_slice(sizes);
        dims
    }
}

impl Deref for Dims {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.sizes[..self.len]
    }
}

impl fmt::Debug for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
