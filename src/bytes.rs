//! The bytes of a model wherever they lie: a mapped file, flash, or memory of our own.
#![cfg_attr(feature = "std", allow(unsafe_code, reason = "mapping a file is one unsafe call"))]

use crate::Result;
use crate::memory::Shared;
#[cfg(feature = "std")]
use crate::memory::text;
use alloc::vec::Vec;
use core::ops::{Deref, Range};

/// A view of bytes that do not move; clones and slices share them.
#[derive(Clone)]
pub struct Bytes {
    source: Source,
    range: Range<usize>,
}

#[derive(Clone)]
enum Source {
    Static(&'static [u8]),
    Owned(Shared<Vec<u8>>),
    #[cfg(feature = "std")]
    Mapped(Shared<memmap2::Mmap>),
}

impl Bytes {
    /// Maps a file. It must not shrink while it is mapped: the system then ends the process when
    /// a page that is gone is touched.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) naming the path.
    #[cfg(feature = "std")]
    pub fn map(path: &std::path::Path) -> Result<Self> {
        let failed = |e| crate::Error::io(&text!("map {}", path.display()), e);
        let file = std::fs::File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Ok(Self::from_static(&[])); // nothing to map
        }
        // SAFETY: the map is read only and private to us; other programs that change the file
        // are the hazard this function's page tells of.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
        let range = 0..map.len();
        Ok(Self { source: Source::Mapped(Shared::new(map)?), range })
    }

    /// Bytes that live as long as the program: flash, or `include_bytes!`.
    pub const fn from_static(bytes: &'static [u8]) -> Self {
        Self { range: 0..bytes.len(), source: Source::Static(bytes) }
    }

    /// Takes bytes of our own.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self> {
        Ok(Self { range: 0..bytes.len(), source: Source::Owned(Shared::new(bytes)?) })
    }

    /// Where the view starts in what it is a view of.
    pub(crate) fn start(&self) -> usize {
        self.range.start
    }

    /// A part of the same bytes. The range must lie inside, as a slice's must.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len());
        let start = self.range.start + range.start;
        Self { source: self.source.clone(), range: start..start + range.len() }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.source {
            Source::Static(bytes) => bytes,
            Source::Owned(bytes) => bytes,
            #[cfg(feature = "std")]
            Source::Mapped(map) => map,
        };
        &all[self.range.clone()]
    }
}

impl core::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}
