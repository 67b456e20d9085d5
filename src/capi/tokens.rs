//! The tokens of a session, in room for as many as its context has.

use crate::Result;
use crate::memory::Block;
use core::ops::Deref;

/// Tokens, oldest first.
pub(super) struct Tokens {
    room: Block<u32>,
    len: usize,
}

impl Tokens {
    pub(super) fn claim(count: usize) -> Result<Self> {
        Ok(Self { room: Block::claim(count)?, len: 0 })
    }

    /// Appends tokens, for which there must be room.
    pub(super) fn append(&mut self, ids: &[u32]) {
        self.room[self.len..][..ids.len()].copy_from_slice(ids);
        self.len += ids.len();
    }

    /// Keeps the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for Tokens {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.room[..self.len]
    }
}
