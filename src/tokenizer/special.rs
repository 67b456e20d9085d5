//! Tokens that are more than text: ends, beginnings, and spellings that are always one token.

use super::vocab::{Kind, Vocab};
use crate::gguf::Gguf;
use crate::memory::{self, name, text};
use crate::{Error, Result};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Control tokens that end an answer, under the names families give them; a file often names only
/// one of them by key.
const ENDS: [&[u8]; 14] = [
    b"<|eot_id|>",
    b"<|im_end|>",
    b"<|end|>",
    b"<end_of_turn>",
    b"<turn|>",
    b"<|endoftext|>",
    b"<|end_of_text|>",
    b"<|eom_id|>",
    b"<|EOT|>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>".as_bytes(),
    b"<EOT>",
    b"<_EOT>",
    b"[EOT]",
    b"[EOS]",
];

pub(super) struct Specials {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) adds_bos: bool,
    pub(super) adds_eos: bool,
    pub(super) unknown: Option<u32>,
    /// Tokens after which nothing follows.
    pub(super) ends: Vec<u32>,
    /// Tokens looked for in text, by their first byte, then the longest first.
    spelt: Vec<u32>,
    /// Where each first byte's tokens start in `spelt`; one more for the end.
    by_byte: Vec<u32>,
}

impl Specials {
    pub(super) fn read(gguf: &Gguf, vocab: &Vocab, bos: bool, eos: bool) -> Result<Self> {
        let key = |name: &str| name!("tokenizer.ggml.{name}");
        let id = |name: &str| -> Result<Option<u32>> {
            let Some(id) = gguf.u32(&key(name))? else { return Ok(None) };
            if vocab.len() > 0 && id as usize >= vocab.len() {
                let (key, len) = (key(name), vocab.len());
                return Err(Error::Invalid(text!("key '{key}' is {id}, beyond {len} tokens")));
            }
            Ok(Some(id))
        };
        let first = id("bos_token_id")?.or(id("cls_token_id")?);
        let last = match gguf.str("tokenizer.ggml.model")? {
            Some("bert") => id("seperator_token_id")?.or(id("eos_token_id")?), // the key's own spelling
            _ => id("eos_token_id")?,
        };
        let named = ENDS.iter().filter_map(|text| vocab.find(text));
        let named = named.filter(|id| matches!(vocab.kind(*id), Kind::Control | Kind::UserDefined));
        let ends = memory::collect(last.into_iter().chain(id("eot_token_id")?).chain(named))?;
        let (spelt, by_byte) = spelt(vocab)?;
        let unknown = id("unknown_token_id")?
            .or_else(|| (0..vocab.len() as u32).find(|id| vocab.kind(*id) == Kind::Unknown));
        Ok(Self {
            bos: first,
            eos: last,
            adds_bos: gguf.bool(&key("add_bos_token"))?.unwrap_or(bos),
            adds_eos: gguf.bool(&key("add_eos_token"))?.unwrap_or(eos),
            unknown,
            ends,
            spelt,
            by_byte,
        })
    }

    /// The first place in `text` where a token is spelt out, and the longest such token there.
    /// Control tokens count only if `control`.
    pub(super) fn find(&self, vocab: &Vocab, text: &[u8], control: bool) -> Option<(usize, u32)> {
        text.iter().enumerate().find_map(|(at, byte)| {
            let [start, end] = [0, 1].map(|i| self.by_byte[usize::from(*byte) + i] as usize);
            let found = self.spelt[start..end].iter().find(|id| {
                text[at..].starts_with(vocab.text(**id))
                    && (control || vocab.kind(**id) == Kind::UserDefined)
            });
            found.map(|id| (at, *id))
        })
    }
}

fn spelt(vocab: &Vocab) -> Result<(Vec<u32>, Vec<u32>)> {
    let mut ids = memory::collect((0..vocab.len() as u32).filter(|id| {
        matches!(vocab.kind(*id), Kind::Control | Kind::Unknown | Kind::UserDefined)
            && !vocab.text(*id).is_empty()
    }))?;
    // Of one spelling the lower id goes first.
    memory::sort_by_key(&mut ids, |id| {
        let text = vocab.text(id);
        (text[0], Reverse(text.len()), id)
    });
    let mut starts = memory::filled(257, 0)?;
    for id in &ids {
        starts[usize::from(vocab.text(*id)[0]) + 1] += 1;
    }
    for byte in 0..256 {
        starts[byte + 1] += starts[byte];
    }
    Ok((ids, starts))
}
