//! Keys and values as bytes, to be kept elsewhere and taken on again.

use super::Session;
use crate::{Error, Result};

impl Session {
    /// Bytes that [`Session::cached`] hands out for the first `positions`.
    pub fn cached_len(&self, positions: usize) -> usize {
        let context_len = self.decoder.shape.context_len;
        self.backend.cache_bytes() / context_len * positions.min(context_len)
    }

    /// Calls `each` with the keys and values of the first `positions`, piece by piece in a fixed
    /// order.
    ///
    /// # Errors
    /// [`Error::Position`] if not as many are held.
    pub fn cached(&self, positions: usize, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        if positions > self.position {
            return Err(Error::Position { position: positions, held: self.position });
        }
        let caches = self.decoder.caches();
        caches.for_each(|cache| self.backend.cached(cache, positions, each));
        Ok(())
    }

    /// Makes the session hold `positions` whose keys and values `fill` writes, piece by piece in the
    /// order of [`Session::cached`]. They must come from a session over the same model with the same
    /// encoding.
    ///
    /// # Errors
    /// [`Error::ContextFull`] if the context is shorter.
    pub fn restore(&mut self, positions: usize, fill: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        let context_len = self.decoder.shape.context_len;
        if positions > context_len {
            return Err(Error::ContextFull { context_len, position: 0, more: positions });
        }
        let caches = self.decoder.caches();
        caches.for_each(|cache| self.backend.restore(cache, positions, fill));
        self.position = positions;
        Ok(())
    }
}
