//! Byte-pair merging: neighbours are joined, the most wanted pair first, until no pair is a token.

use super::vocab::{NONE, Vocab};
use crate::{Result, memory};
use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// A piece of the text on its way to a token.
#[derive(Clone, Copy)]
pub(super) struct Symbol {
    pub(super) start: usize,
    pub(super) len: usize,
    /// The token of the text, or `NONE`.
    pub(super) id: u32,
    previous: u32,
    next: u32,
}

/// Buffers that live through one call of `encode`.
#[derive(Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    /// The least first: equal ranks go from left to right.
    queue: BinaryHeap<Reverse<Offer>>,
}

/// A pair that could be joined: its rank, left, right, and the ids they had.
type Offer = (u32, u32, u32, [u32; 2]);

/// `join(left, right)` gives the rank of a pair, lowest first, and the token it becomes.
pub(super) type Join<'a> = &'a dyn Fn(&Symbol, &Symbol) -> Option<(u32, u32)>;

impl Merger {
    /// Splits `text` into characters, merges them, and calls `each` with the symbols that remain;
    /// `merged` is told of every token on the way. Time grows as `n log n`.
    pub(super) fn run(
        &mut self,
        vocab: &Vocab,
        text: &[u8],
        join: Join<'_>,
        merged: &mut dyn FnMut(u32),
        each: &mut dyn FnMut(&Symbol) -> Result<()>,
    ) -> Result<()> {
        self.split(vocab, text)?;
        for right in 1..self.symbols.len() {
            self.offer(right as u32 - 1, right as u32, join)?;
        }
        while let Some(Reverse((_, left, right, ids))) = self.queue.pop() {
            let [a, b] = [left, right].map(|i| self.symbols[i as usize]);
            // Either may have been merged with another neighbour since.
            if a.next != right || [a.id, b.id] != ids || a.len == 0 {
                continue;
            }
            let Some((_, id)) = join(&a, &b) else { continue };
            merged(id);
            self.symbols[right as usize].len = 0;
            let joined = &mut self.symbols[left as usize];
            joined.len += b.len;
            joined.id = id;
            joined.next = b.next;
            if b.next != NONE {
                self.symbols[b.next as usize].previous = left;
                self.offer(left, b.next, join)?;
            }
            if a.previous != NONE {
                self.offer(a.previous, left, join)?;
            }
        }
        self.symbols.iter().filter(|symbol| symbol.len > 0).try_for_each(each)
    }

    fn split(&mut self, vocab: &Vocab, text: &[u8]) -> Result<()> {
        self.symbols.clear();
        self.queue.clear();
        let mut start = 0;
        while start < text.len() {
            let len = char_len(&text[start..]);
            let id = vocab.find(&text[start..start + len]).unwrap_or(NONE);
            let i = self.symbols.len() as u32;
            let previous = if i == 0 { NONE } else { i - 1 };
            let symbol = Symbol { start, len, id, previous, next: i + 1 };
            memory::push(&mut self.symbols, symbol)?;
            start += len;
        }
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
        Ok(())
    }

    fn offer(&mut self, left: u32, right: u32, join: Join<'_>) -> Result<()> {
        let [a, b] = [left, right].map(|i| &self.symbols[i as usize]);
        match join(a, b) {
            Some((rank, _)) => {
                memory::push_heap(&mut self.queue, Reverse((rank, left, right, [a.id, b.id])))
            }
            None => Ok(()),
        }
    }
}

/// Bytes of the first character; 1 where it is not UTF-8.
pub(super) fn char_len(text: &[u8]) -> usize {
    let len = match text[0] {
        0..=0x7f => return 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return 1, // no character starts so
    };
    let whole = text.get(..len).is_some_and(|text| core::str::from_utf8(text).is_ok());
    if whole { len } else { 1 }
}
