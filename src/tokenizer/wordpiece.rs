//! WordPiece, as BERT uses it: words are lowered and bared of accents, then cut into the longest
//! pieces the vocabulary has, from the left (Wu et al., arXiv 1609.08144).

use super::unicode::{Class, class, is_ideograph};
use super::vocab::Vocab;
use super::{Output, SPACE};
use crate::Result;
use alloc::string::String;
use unicode_normalization::UnicodeNormalization;

/// Appends the tokens of a text.
pub(super) fn encode(vocab: &Vocab, text: &[u8], out: &mut Output<'_>) -> Result<()> {
    let mut word = String::new();
    let mut flush = |word: &mut String| -> Result<()> {
        if !word.is_empty() {
            encode_word(vocab, word, out)?;
            word.clear();
        }
        Ok(())
    };
    for c in String::from_utf8_lossy(text).chars() {
        if c == '\0' || c == char::REPLACEMENT_CHARACTER {
            continue;
        }
        if c.is_whitespace() {
            flush(&mut word)?;
        } else if stands_alone(c) {
            flush(&mut word)?;
            word.push(c);
            flush(&mut word)?;
        } else if !c.is_control() {
            let bare = core::iter::once(c).nfd().filter(|c| class(*c) != Class::Mark);
            word.extend(bare.flat_map(char::to_lowercase));
        }
    }
    flush(&mut word)
}

fn stands_alone(c: char) -> bool {
    class(c) == Class::Punctuation || c.is_ascii_punctuation() || is_ideograph(c)
}

/// Pieces of one word. The file spells a word's first piece with a space's sign before it.
fn encode_word(vocab: &Vocab, word: &str, out: &mut Output<'_>) -> Result<()> {
    let start_of_word = out.len();
    let mut rest = word.as_bytes();
    let mut sign = SPACE;
    while !rest.is_empty() {
        let longest = rest.len().min(vocab.token_len_max);
        let found = (1..=longest)
            .rev()
            .find_map(|len| vocab.find_joined(sign, &rest[..len]).map(|id| (len, id)));
        let Some((len, id)) = found else {
            out.truncate(start_of_word);
            return out.push_unknown(word.as_bytes());
        };
        out.push(id);
        rest = &rest[len..];
        sign = &[];
    }
    Ok(())
}
