//! Text from tokens as they come: only whole characters leave.

use super::Tokenizer;
use crate::{Result, memory};
use alloc::vec::Vec;

/// Turns tokens into text, keeping back a character until its last byte has come. Bytes that are
/// no UTF-8 come out as U+FFFD.
pub struct TextStream {
    /// Bytes that came and did not leave.
    pending: Vec<u8>,
    /// What left last, UTF-8.
    text: Vec<u8>,
}

/// The longest wait: a character of four bytes lacks one.
const PENDING_MAX: usize = 3;
const BROKEN: &[u8] = "\u{fffd}".as_bytes();

impl TextStream {
    /// Reserves what the tokens of a vocabulary need: pushing them does not allocate.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let len = tokenizer.piece_len_max() + PENDING_MAX;
        // Every byte could turn into U+FFFD.
        Ok(Self { pending: memory::reserved(len)?, text: memory::reserved(BROKEN.len() * len)? })
    }

    /// Adds a token; returns the text that is complete.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory), which a token of the vocabulary it was made for
    /// cannot cause.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<&str> {
        tokenizer.append_piece(id, false, &mut self.pending)?;
        self.text.clear();
        let mut kept = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            memory::append(&mut self.text, chunk.valid().as_bytes())?;
            let broken = chunk.invalid();
            if chunks.peek().is_none() && could_go_on(broken) {
                kept = broken.len();
            } else if !broken.is_empty() {
                memory::append(&mut self.text, BROKEN)?;
            }
        }
        let len = self.pending.len();
        self.pending.copy_within(len - kept.., 0);
        self.pending.truncate(kept);
        Ok(core::str::from_utf8(&self.text).unwrap_or_default())
    }

    /// Ends the text: a character that lacks bytes comes out as U+FFFD.
    pub fn finish(&mut self) -> &'static str {
        let broken = !self.pending.is_empty();
        self.pending.clear();
        if broken { "\u{fffd}" } else { "" }
    }
}

/// Whether bytes that are no character yet become one with more bytes.
fn could_go_on(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && core::str::from_utf8(bytes)
            .is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
}
