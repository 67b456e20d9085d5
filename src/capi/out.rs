//! Results into a caller's buffer: what fits is written, what is needed is counted.

use super::failure::{Outcome, Status, failure};
use core::fmt::{self, Write};

/// A buffer under way.
pub(super) struct Out<'a, T> {
    room: &'a mut [T],
    needed: usize,
}

impl<'a, T: Copy> Out<'a, T> {
    pub(super) fn new(room: &'a mut [T]) -> Self {
        Self { room, needed: 0 }
    }

    pub(super) fn put(&mut self, values: &[T]) {
        let end = self.needed.saturating_add(values.len());
        if let Some(room) = self.room.get_mut(self.needed..end) {
            room.copy_from_slice(values);
        }
        self.needed = end;
    }

    /// Forgets what was put.
    pub(super) fn restart(&mut self) {
        self.needed = 0;
    }

    /// The first `needed` of the room, to be filled.
    pub(super) fn take(mut self, needed: usize, len: &mut usize) -> Outcome<&'a mut [T]> {
        self.needed = needed;
        self.finish(len)?;
        Ok(&mut self.room[..needed])
    }

    /// Says how much was needed.
    pub(super) fn finish(&self, len: &mut usize) -> Outcome<()> {
        *len = self.needed;
        if self.needed > self.room.len() {
            return Err(failure(Status::SmallBuffer, "the buffer is too small"));
        }
        Ok(())
    }
}

impl Out<'_, u8> {
    /// The same for a text, which ends with a zero.
    pub(super) fn finish_text(mut self, len: &mut usize) -> Outcome<()> {
        self.put(&[0]);
        self.finish(len)
    }

    /// A string of JSON; what is no UTF-8 becomes U+FFFD.
    pub(super) fn json_string(&mut self, bytes: &[u8]) {
        self.put(b"\"");
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' => self.put(b"\\\""),
                    '\\' => self.put(b"\\\\"),
                    c if c < ' ' => drop(write!(self, "\\u{:04x}", u32::from(c))),
                    c => self.put(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            if !chunk.invalid().is_empty() {
                self.put("\u{fffd}".as_bytes());
            }
        }
        self.put(b"\"");
    }
}

impl Write for Out<'_, u8> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}
