//! Text to tokens and back.

use super::failure::{Outcome, Status, failure, wrong};
use super::handle::Memory;
use super::out::Out;
use super::plan::with_scratch;
use crate::Tokenizer;

const PLAIN: u32 = 1;
const CONTROL: u32 = 2;
const SPELL_CONTROL: u32 = 1;

pub(super) fn tokenize(
    tokenizer: &Tokenizer,
    text: &[u8],
    flags: u32,
    scratch: Option<Memory>,
    mut out: Out<'_, u32>,
    len: &mut usize,
) -> Outcome<()> {
    if flags & !(PLAIN | CONTROL) != 0 {
        return Err(wrong("unknown flags"));
    }
    with_scratch(scratch, |memory| {
        memory.lend(|| {
            let ids = tokenizer.encode(text, flags & PLAIN == 0, flags & CONTROL != 0)?;
            out.restart();
            out.put(&ids);
            Ok(())
        })
    })?;
    out.finish(len)
}

pub(super) fn detokenize(
    tokenizer: &Tokenizer,
    ids: &[u32],
    flags: u32,
    mut out: Out<'_, u8>,
    len: &mut usize,
) -> Outcome<()> {
    if flags & !SPELL_CONTROL != 0 {
        return Err(wrong("unknown flags"));
    }
    if tokenizer.is_empty() {
        return Err(failure(Status::Unsupported, "the vocabulary has only ids"));
    }
    if ids.iter().any(|id| *id as usize >= tokenizer.len()) {
        return Err(failure(Status::Arg, "a token beyond the vocabulary"));
    }
    for id in ids {
        tokenizer.spell(*id, flags & SPELL_CONTROL != 0, &mut |bytes| out.put(bytes));
    }
    out.finish(len)
}
