//! WordPiece, as BERT uses it: words are lowered and bared of accents, then cut into the longest
//! pieces the vocabulary has, from the left (Wu et al., arXiv 1609.08144).

use super::unicode::{Class, class, folded, is_ideograph};
use super::vocab::Vocab;
use super::{Output, SPACE};
use crate::{Result, memory};
use alloc::vec::Vec;

/// Appends the tokens of a text.
pub(super) fn encode(vocab: &Vocab, text: &[u8], out: &mut Output<'_>) -> Result<()> {
    let mut word = Vec::new();
    for c in text.utf8_chunks().flat_map(|chunk| chunk.valid().chars()) {
        if c == '\0' || c == char::REPLACEMENT_CHARACTER {
            continue;
        }
        if c.is_whitespace() {
            end_word(vocab, &mut word, out)?;
        } else if stands_alone(c) {
            end_word(vocab, &mut word, out)?;
            push(&mut word, c)?;
            end_word(vocab, &mut word, out)?;
        } else if !c.is_control() {
            folded(c).try_for_each(|c| push(&mut word, c))?;
        }
    }
    end_word(vocab, &mut word, out)
}

fn push(word: &mut Vec<u8>, c: char) -> Result<()> {
    memory::append(word, c.encode_utf8(&mut [0; 4]).as_bytes())
}

fn stands_alone(c: char) -> bool {
    class(c) == Class::Punctuation || c.is_ascii_punctuation() || is_ideograph(c)
}

/// Appends the pieces of a word, if there is one, and empties it. The file spells a word's first
/// piece with a space's sign before it.
fn end_word(vocab: &Vocab, word: &mut Vec<u8>, out: &mut Output<'_>) -> Result<()> {
    let start_of_word = out.len();
    let mut rest = &word[..];
    let mut sign = SPACE;
    while !rest.is_empty() {
        let longest = rest.len().min(vocab.token_len_max);
        let found = (1..=longest)
            .rev()
            .find_map(|len| vocab.find_joined(sign, &rest[..len]).map(|id| (len, id)));
        let Some((len, id)) = found else {
            out.truncate(start_of_word);
            out.push_unknown(word)?;
            break;
        };
        out.push(id)?;
        rest = &rest[len..];
        sign = &[];
    }
    word.clear();
    Ok(())
}
