//! Text from tokens as they come: only whole characters leave.

use super::Tokenizer;
use alloc::vec::Vec;

/// Turns tokens into text, keeping back a character until its last byte has come. Bytes that are
/// no UTF-8 come out as U+FFFD.
pub struct TextStream {
    /// Bytes that came and did not leave.
    pending: Vec<u8>,
    /// What left last.
    text: alloc::string::String,
}

/// The longest wait: a character of four bytes lacks one.
const PENDING_MAX: usize = 3;

impl TextStream {
    /// Reserves what the tokens of a vocabulary need: pushing does not allocate.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let len = tokenizer.piece_len_max() + PENDING_MAX;
        // Every byte could turn into U+FFFD, which has three.
        Self {
            pending: Vec::with_capacity(len),
            text: alloc::string::String::with_capacity(3 * len),
        }
    }

    /// Adds a token; returns the text that is complete.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> &str {
        tokenizer.append_piece(id, false, &mut self.pending);
        self.text.clear();
        let mut kept = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.text.push_str(chunk.valid());
            let broken = chunk.invalid();
            if chunks.peek().is_none() && could_go_on(broken) {
                kept = broken.len();
            } else if !broken.is_empty() {
                self.text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        let len = self.pending.len();
        self.pending.copy_within(len - kept.., 0);
        self.pending.truncate(kept);
        &self.text
    }

    /// Ends the text: a character that lacks bytes comes out as U+FFFD.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.pending.is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        self.pending.clear();
        &self.text
    }
}

/// Whether bytes that are no character yet become one with more bytes.
fn could_go_on(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && core::str::from_utf8(bytes)
            .is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
}
