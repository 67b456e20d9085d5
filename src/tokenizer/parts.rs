//! What a token is made of, for whoever takes tokens out of a vocabulary.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "runs on a computer")]

use super::merge::{Merger, char_len};
use super::vocab::Kind;
use super::{Algorithm, Output, SPACE, Tokenizer, bpe, spm};
use crate::Result;

impl Tokenizer {
    /// The tokens that the spelling of a token goes through when it is encoded, itself not always among
    /// them: a vocabulary that keeps them makes the same token of the same text.
    ///
    /// Merges of a whole text within the bounds of one of its tokens are those of the token's text alone,
    /// since none crosses the bounds and the order among the others is the same.
    ///
    /// # Errors
    /// [`crate::Error::Memory`].
    pub fn parts(&self, id: u32) -> Result<Vec<u32>> {
        let vocab = &self.vocab;
        let text = vocab.text(id);
        let (mut merged, mut ids) = (Vec::new(), Vec::new());
        let mut out = Output { ids: &mut ids, vocab, unknown: Some(id) };
        match &self.algorithm {
            _ if vocab.kind(id) != Kind::Normal => {}
            Some(Algorithm::Spm { .. }) => {
                spm::merge(vocab, text, &mut |id| merged.push(id), &mut out)?;
            }
            Some(Algorithm::Bpe(bpe)) => {
                let merger = &mut Merger::default();
                bpe.merge(vocab, text, merger, &mut |id| merged.push(id), &mut out)?;
                merged.extend(characters(text).filter_map(|text| vocab.find(text)));
            }
            // One token is not made of others there.
            Some(Algorithm::WordPiece | Algorithm::Unigram(_)) | None => {}
        }
        Ok(merged)
    }

    /// The tokens of a byte of text: of its character if that is a token, and the one that stands for any
    /// byte.
    pub fn byte_tokens(&self, byte: u8) -> impl Iterator<Item = u32> {
        let spelt = match &self.algorithm {
            Some(Algorithm::Bpe(bpe)) if bpe.byte_level => bpe::spelling(byte),
            _ if byte == b' ' => SPACE.into(),
            _ => vec![byte],
        };
        self.vocab.find(&spelt).into_iter().chain(self.vocab.byte(byte))
    }

    /// Whether a token is more than text: it steers, ends, or stands for what is unknown.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.vocab.kind(id), Kind::Control | Kind::Unknown | Kind::UserDefined)
    }
}

fn characters(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (first, rest) = text.split_at(text.first().map(|_| char_len(text))?);
        text = rest;
        Some(first)
    })
}
