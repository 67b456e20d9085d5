//! Which tokens a vocabulary can do without.

use crate::compress::sequences::Sequences;
use crate::gguf::Gguf;
use crate::memory::text;
use crate::{Error, Result, Tokenizer};

/// How many tokens shall remain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum VocabSize {
    /// Those that occur.
    Used,
    /// At most so many: the most frequent.
    Count(usize),
    /// The most frequent that make up this share of all that occur, above 0 and at most 1.
    Coverage(f64),
}

/// The tokens that remain, in rising order: the most frequent, those that they are merged from, special
/// ones, and what spells printable ASCII, tab and newline; with `bytes`, every byte.
///
/// Text whose tokens all remain is still made of the same.
///
/// # Errors
/// [`Error::Invalid`] for a count below what has to remain.
pub fn keep_tokens(
    gguf: &Gguf,
    sequences: &Sequences,
    size: VocabSize,
    bytes: bool,
) -> Result<Vec<u32>> {
    let tokenizer = &Tokenizer::load(gguf)?;
    let len = tokenizer.len();
    if len == 0 {
        return Err(Error::Unsupported("cutting a vocabulary without text".into()));
    }
    let mut counts = vec![0usize; len];
    for id in sequences.iter().flatten() {
        counts.get_mut(*id as usize).into_iter().for_each(|count| *count += 1);
    }
    let mut kept = Kept { tokenizer, kept: vec![false; len], count: 0 };
    kept.needed(bytes)?;
    let named = gguf.metadata().filter(|(key, _)| key.ends_with("_token_id"));
    let named = named.filter_map(|(_, value)| u32::try_from(value.integer()?).ok());
    named.filter(|id| (*id as usize) < len).try_for_each(|id| kept.take(id))?;
    let needed = kept.count;
    let mut order: Vec<u32> = (0..len as u32).filter(|id| counts[*id as usize] > 0).collect();
    order.sort_by_key(|id| std::cmp::Reverse(counts[*id as usize]));
    let total: usize = counts.iter().sum();
    let mut covered = 0;
    for id in order {
        match size {
            VocabSize::Coverage(share) if covered as f64 >= share * total as f64 => break,
            VocabSize::Count(most) if needed > most => {
                return Err(Error::Invalid(text!(
                    "a vocabulary of {most} tokens: {needed} have to remain"
                )));
            }
            VocabSize::Count(most) => {
                // One that does not fit with its parts may leave room for a simpler one.
                if kept.missing(id)?.len() <= most - kept.count {
                    kept.take(id)?;
                }
            }
            VocabSize::Used | VocabSize::Coverage(_) => kept.take(id)?,
        }
        covered += counts[id as usize];
    }
    Ok((0..len as u32).filter(|id| kept.kept[*id as usize]).collect())
}

struct Kept<'a> {
    tokenizer: &'a Tokenizer,
    kept: Vec<bool>,
    count: usize,
}

impl Kept<'_> {
    fn needed(&mut self, all_bytes: bool) -> Result<()> {
        let tokenizer = self.tokenizer;
        let ends = [tokenizer.bos(), tokenizer.eos()].into_iter().flatten();
        let special = (0..tokenizer.len() as u32)
            .filter(|id| tokenizer.is_special(*id) || tokenizer.is_end_of_text(*id));
        special.chain(ends).try_for_each(|id| self.take(id))?;
        for byte in 0..=u8::MAX {
            let plain = matches!(byte, b'\t' | b'\n' | b' '..=b'~');
            // Some readers look for the newline's byte itself.
            let spellings = if all_bytes || byte == b'\n' { 2 } else { usize::from(plain) };
            for id in tokenizer.byte_tokens(byte).take(spellings) {
                self.take(id)?;
            }
        }
        Ok(())
    }

    /// The token and its parts, as far as they do not remain yet.
    fn missing(&self, id: u32) -> Result<Vec<u32>> {
        let mut all = self.tokenizer.parts(id)?;
        all.push(id);
        all.sort_unstable();
        all.dedup();
        all.retain(|id| !self.kept[*id as usize]);
        Ok(all)
    }

    fn take(&mut self, id: u32) -> Result<()> {
        for id in self.missing(id)? {
            self.kept[id as usize] = true;
            self.count += 1;
        }
        Ok(())
    }
}
