//! Byte-pair encoding by a list of merges (Sennrich et al., arXiv 1508.07909), over the bytes of the
//! text (GPT-2's way) or over its characters with bytes to fall back on (Gemma's).

use super::merge::{Merger, Symbol};
use super::split::Split;
use super::vocab::{NONE, Strings, Vocab};
use super::{Output, escape_spaces};
use crate::gguf::Gguf;
use crate::memory::{self, text};
use crate::{Error, Result};
use alloc::vec::Vec;

/// Names under which whole words that are tokens are taken as they are, without merging.
const WHOLE_WORDS: [&str; 5] = ["llama-bpe", "llama3", "llama-v3", "falcon3", "tekken"];

pub(super) struct Bpe {
    split: Split,
    whole_words: bool,
    /// Whether text becomes one character a byte before merging.
    pub(super) byte_level: bool,
    /// Left, right and what they become, most wanted first.
    merges: Vec<[u32; 3]>,
    /// Open addressing: indices of `merges`, or `NONE`.
    table: Vec<u32>,
}

impl Bpe {
    /// Reads the merges, and the rules by which text is first split into words.
    pub(super) fn read(gguf: &Gguf, vocab: &Vocab, byte_level: bool) -> Result<Self> {
        let key = "tokenizer.ggml.pre";
        let name = gguf.str(key)?.unwrap_or(if byte_level { "default" } else { "gemma-4" });
        let split = Split::from_name(name)
            .ok_or_else(|| Error::Unsupported(text!("key '{key}' with value '{name}'")))?;
        let key = "tokenizer.ggml.merges";
        let strings = Strings::read(gguf, key)?;
        let strings = strings.ok_or_else(|| Error::Missing(text!("key '{key}'")))?;
        let mut merges = memory::reserved(strings.len())?;
        for merge in strings.iter().filter_map(|merge| parse(vocab, merge)) {
            memory::push(&mut merges, merge)?;
        }
        let table = memory::filled((merges.len() * 2 + 1).next_power_of_two(), NONE)?;
        let whole_words = WHOLE_WORDS.contains(&name);
        let mut bpe = Self { split, whole_words, byte_level, merges, table };
        for i in 0..bpe.merges.len() {
            let [left, right, _] = bpe.merges[i];
            let place = bpe.place(left, right);
            // Of two merges of one pair the first is the more wanted.
            if bpe.table[place] == NONE {
                bpe.table[place] = i as u32;
            }
        }
        Ok(bpe)
    }

    /// Whether the family puts a beginning-of-sequence token first unless the file says otherwise.
    pub(super) fn adds_bos(&self) -> bool {
        self.whole_words
    }

    /// Where the pair is in the table, or the free place where it would be.
    fn place(&self, left: u32, right: u32) -> usize {
        let mask = self.table.len() - 1;
        let hash = (u64::from(left) << 32 | u64::from(right)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut place = (hash >> 24) as usize & mask;
        while self.table[place] != NONE {
            let [a, b, _] = self.merges[self.table[place] as usize];
            if (a, b) == (left, right) {
                break;
            }
            place = (place + 1) & mask;
        }
        place
    }

    /// Appends the tokens of a text.
    pub(super) fn encode(&self, vocab: &Vocab, text: &[u8], out: &mut Output<'_>) -> Result<()> {
        let mut merger = Merger::default();
        let mut mapped = Vec::new();
        self.split.words(text, &mut |word| {
            mapped.clear();
            self.map(word, &mut mapped)?;
            self.encode_word(vocab, &mapped, &mut merger, out)
        })
    }

    fn encode_word(
        &self,
        vocab: &Vocab,
        word: &[u8],
        merger: &mut Merger,
        out: &mut Output<'_>,
    ) -> Result<()> {
        match vocab.find(word).filter(|_| self.whole_words) {
            Some(id) => out.push(id),
            None => self.merge(vocab, word, merger, &mut |_| {}, out),
        }
    }

    /// Appends the tokens of a word as the vocabulary spells it.
    pub(super) fn merge(
        &self,
        vocab: &Vocab,
        word: &[u8],
        merger: &mut Merger,
        merged: &mut dyn FnMut(u32),
        out: &mut Output<'_>,
    ) -> Result<()> {
        let join = |left: &Symbol, right: &Symbol| {
            let rank = self.table[self.place(left.id, right.id)];
            Some((rank, self.merges.get(rank as usize)?[2]))
        };
        merger.run(vocab, word, &join, merged, &mut |symbol| {
            out.push_or_bytes(symbol.id, &word[symbol.start..][..symbol.len])
        })
    }

    /// The word as the vocabulary spells it.
    fn map(&self, word: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if !self.byte_level {
            return escape_spaces(word, false, out);
        }
        word.iter().try_for_each(|byte| {
            memory::append(out, char_of(*byte).encode_utf8(&mut [0; 4]).as_bytes())
        })
    }
}

/// Calls `each` with the words of a text under the rules named `gpt-2`.
#[cfg(feature = "train")]
pub(crate) fn split_words(text: &[u8], each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    Split::from_name("gpt-2").map_or(Ok(()), |split| split.words(text, each))
}

/// `LEFT RIGHT`, where LEFT may itself start with a space. A merge of what are no tokens cannot
/// happen and is dropped.
fn parse(vocab: &Vocab, merge: &[u8]) -> Option<[u32; 3]> {
    let space = merge.iter().skip(1).position(|byte| *byte == b' ')? + 1;
    let (left, right) = (&merge[..space], &merge[space + 1..]);
    Some([vocab.find(left)?, vocab.find(right)?, vocab.find_joined(left, right)?])
}

/// The character GPT-2 writes for a byte: itself where it can be seen, or the next free one from
/// U+0100 on.
pub(crate) fn char_of(byte: u8) -> char {
    char::from_u32(match byte {
        0..=0x20 => u32::from(byte) + 0x100,
        0x7f..=0xa0 => u32::from(byte) - 0x7f + 0x121,
        0xad => 0x143,
        _ => u32::from(byte), // can be seen
    })
    .unwrap_or('\0')
}

/// How GPT-2 writes a byte.
#[cfg(feature = "std")]
pub(super) fn spelling(byte: u8) -> Vec<u8> {
    char_of(byte).encode_utf8(&mut [0; 4]).as_bytes().into()
}

/// The inverse of [`char_of`].
pub(super) fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        v @ 0x100..=0x120 => u8::try_from(v - 0x100).ok(),
        v @ 0x121..=0x142 => u8::try_from(v - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        v => u8::try_from(v).ok().filter(|byte| char_of(*byte) == c),
    }
}

#[cfg(test)]
mod tests {
    use super::{byte_of, char_of};

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!([char_of(b' '), char_of(b'\n'), char_of(0x7f)], ['Ġ', 'Ċ', 'ġ']);
        assert_eq!(byte_of('\n'), None);
        assert_eq!(byte_of('世'), None);
    }
}
