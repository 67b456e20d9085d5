//! Unigram vocabularies, as T5 uses them: of all ways to cut the text into tokens, the one with the
//! highest sum of scores (Kudo, arXiv 1804.10959), after the file's own normalisation of characters.

use super::merge::char_len;
use super::vocab::{Kind, NONE, Vocab};
use super::{Output, SPACE};
use crate::bytes::Bytes;
use crate::gguf::{Gguf, ValueType};
use crate::memory::{self, name, text};
use crate::{Error, Result};
use alloc::vec::Vec;

/// What an unknown character costs below the worst token, as SentencePiece has it.
const UNKNOWN_PENALTY: f64 = 10.0;

pub(super) struct Unigram {
    charsmap: Option<Charsmap>,
    adds_space: bool,
    merges_spaces: bool,
    unknown_score: f64,
}

/// Where the best way to a place in the text comes from.
#[derive(Clone, Copy)]
struct Step {
    score: f64,
    start: usize,
    id: u32,
}

impl Unigram {
    pub(super) fn read(gguf: &Gguf, vocab: &Vocab) -> Result<Self> {
        let flag = |key: &str, default| {
            Ok::<_, Error>(gguf.bool(&name!("tokenizer.ggml.{key}"))?.unwrap_or(default))
        };
        let normal = (0..vocab.len() as u32).filter(|id| vocab.kind(*id) == Kind::Normal);
        let lowest = normal.map(|id| vocab.score(id)).fold(0f32, f32::min);
        Ok(Self {
            charsmap: Charsmap::read(gguf)?,
            adds_space: flag("add_space_prefix", true)?,
            merges_spaces: flag("remove_extra_whitespaces", false)?,
            unknown_score: f64::from(lowest) - UNKNOWN_PENALTY,
        })
    }

    /// Appends the tokens of a text.
    pub(super) fn encode(&self, vocab: &Vocab, text: &[u8], out: &mut Output<'_>) -> Result<()> {
        let text = self.normalize(text)?;
        let steps = self.best_steps(vocab, &text)?;
        let mut tokens: Vec<(u32, usize)> = Vec::new();
        let mut end = text.len();
        while end > 0 {
            let Step { start, id, .. } = steps[end];
            // Neighbouring unknown characters are one unknown token.
            if id != NONE || tokens.last().is_none_or(|(last, _)| *last != NONE) {
                memory::push(&mut tokens, (id, end))?;
            }
            end = start;
        }
        let mut start = 0;
        for (id, end) in tokens.into_iter().rev() {
            match id {
                NONE => out.push_unknown(&text[start..end])?,
                id => out.push(id)?,
            }
            start = end;
        }
        Ok(())
    }

    fn best_steps(&self, vocab: &Vocab, text: &[u8]) -> Result<Vec<Step>> {
        let none = Step { score: f64::NEG_INFINITY, start: 0, id: NONE };
        let mut steps = memory::filled(text.len() + 1, none)?;
        steps[0].score = 0.0;
        let mut start = 0;
        while start < text.len() {
            let len = char_len(&text[start..]);
            let before = steps[start].score;
            let mut offer = |len: usize, score: f64, id: u32| {
                let step = &mut steps[start + len];
                if before + score > step.score {
                    *step = Step { score: before + score, start, id };
                }
            };
            let mut known = false;
            vocab.prefixes(&text[start..], |token_len, id| {
                let score = match vocab.kind(id) {
                    Kind::Normal | Kind::Unused => f64::from(vocab.score(id)),
                    Kind::UserDefined => 0.0,
                    Kind::Unknown | Kind::Control | Kind::Byte => return,
                };
                known |= token_len == len;
                offer(token_len, score, id);
            });
            if !known {
                offer(len, self.unknown_score, NONE);
            }
            start += len;
        }
        Ok(steps)
    }

    /// The text as the vocabulary spells it: characters replaced, spaces merged and made visible.
    fn normalize(&self, text: &[u8]) -> Result<Vec<u8>> {
        let mut out = memory::reserved(text.len() + SPACE.len())?;
        let (mut in_word, mut prefixed) = (false, false);
        let mut rest = text;
        while !rest.is_empty() {
            let (len, replacement) = self.replace(rest);
            for byte in replacement {
                if *byte == b' ' {
                    in_word = false;
                    if !self.merges_spaces {
                        memory::append(&mut out, SPACE)?;
                    }
                    continue;
                }
                if !in_word {
                    in_word = true;
                    // The first word gets a space only where the vocabulary wants one there.
                    let wanted = if prefixed { self.merges_spaces } else { self.adds_space };
                    if wanted {
                        memory::append(&mut out, SPACE)?;
                    }
                    prefixed = true;
                }
                memory::push(&mut out, *byte)?;
            }
            rest = &rest[len..];
        }
        Ok(out)
    }

    /// How many bytes of `text` become what.
    fn replace<'a>(&'a self, text: &'a [u8]) -> (usize, &'a [u8]) {
        if let Some(found) = self.charsmap.as_ref().and_then(|map| map.longest(text)) {
            return found;
        }
        match char_len(text) {
            1 if !text[0].is_ascii() => (1, "\u{fffd}".as_bytes()),
            len => (len, &text[..len]),
        }
    }
}

/// SentencePiece's `precompiled_charsmap`: a double-array trie (as Darts-clone lays it out) from byte
/// strings to offsets of zero-terminated replacements.
struct Charsmap {
    bytes: Bytes,
    trie_len: usize,
}

impl Charsmap {
    fn read(gguf: &Gguf) -> Result<Option<Self>> {
        let key = "tokenizer.ggml.precompiled_charsmap";
        let array = gguf.get(key).and_then(|value| match value {
            crate::gguf::Value::Array(array) => Some(array),
            _ => None, // reported below
        });
        let Some(array) = array else { return Ok(None) };
        let bytes = gguf.array_bytes(&array);
        let trie_len = bytes.first_chunk().map(|len| u32::from_le_bytes(*len) as usize);
        let whole = trie_len.filter(|len| len % 4 == 0 && *len <= bytes.len() - 4);
        let of_bytes = matches!(array.kind, ValueType::U8 | ValueType::I8);
        let Some(trie_len) = whole.filter(|_| of_bytes) else {
            let (kind, len) = (array.kind.name(), array.len);
            return Err(Error::Invalid(text!(
                "key '{key}' is an array of {len} {kind}, expected bytes that hold a trie"
            )));
        };
        Ok(Some(Self { bytes, trie_len }))
    }

    fn node(&self, i: u32) -> Option<u32> {
        let trie = &self.bytes[4..4 + self.trie_len];
        let at = usize::try_from(i).ok()?.checked_mul(4)?;
        trie.get(at..)?.first_chunk().map(|node| u32::from_le_bytes(*node))
    }

    /// The longest known start of `text`: its length and its replacement.
    fn longest<'a>(&'a self, text: &[u8]) -> Option<(usize, &'a [u8])> {
        let base = |node: u32| (node >> 10) << ((node & 1 << 9) >> 6);
        let mut place = base(self.node(0)?);
        let mut found = None;
        for (i, byte) in text.iter().enumerate().take_while(|(_, byte)| **byte != 0) {
            place ^= u32::from(*byte);
            let Some(node) = self.node(place) else { break };
            if node & (1 << 31 | 0xff) != u32::from(*byte) {
                break;
            }
            place ^= base(node);
            if node >> 8 & 1 == 1 {
                found = self.node(place).map(|leaf| (i + 1, leaf & 0x7fff_ffff));
            }
        }
        let (len, offset) = found?;
        let replacements = &self.bytes[4 + self.trie_len..];
        let replacement = replacements.get(offset as usize..)?;
        let end = replacement.iter().position(|byte| *byte == 0)?;
        Some((len, &replacement[..end]))
    }
}
