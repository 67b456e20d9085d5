//! Sessions as bytes. All numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | magic |
//! | 8..12 | version, 1 |
//! | 12..16 | encoding of keys and values, by GGUF's number |
//! | 16..24 | bytes in all |
//! | 24..32 | hash of the model |
//! | 32..36 | tokens held |
//! | 36..40 | of these, those whose keys and values follow |
//! | 40..72 | place in the sequence of random numbers |
//! | 72.. | tokens, 4 bytes each; keys and values |
//! | last 8 | hash of everything before |

use super::failure::{Outcome, Status, failure, wrong};
use super::identity::Hash;
use super::out::Out;
use super::session::Conversation;

const MAGIC: [u8; 8] = *b"ATTARKVS";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 72;
const HASH_LEN: usize = 8;

/// A saved state's parts, whose sizes agree.
struct Saved<'a> {
    tokens: &'a [u8],
    positions: usize,
    random: [u64; 4],
    cached: &'a [u8],
}

fn damaged(what: &str) -> super::failure::Failure {
    failure(Status::Verify, what)
}

impl Conversation {
    fn state_len(&self, tokens: usize, positions: usize) -> Option<usize> {
        let cached = self.session.cached_len(positions);
        (HEADER_LEN + HASH_LEN).checked_add(tokens.checked_mul(4)?)?.checked_add(cached)
    }

    pub(super) fn save(&self, room: Out<'_, u8>, len: &mut usize) -> Outcome<()> {
        let (tokens, positions) = (self.tokens.len(), self.session.position());
        let total =
            self.state_len(tokens, positions).ok_or_else(|| wrong("a state without end"))?;
        let room = room.take(total, len)?;
        let (body, hash) = room.split_at_mut(total - HASH_LEN);
        let mut out = Out::new(body);
        out.put(&MAGIC);
        out.put(&VERSION.to_le_bytes());
        out.put(&self.cache.info().gguf_id.to_le_bytes());
        out.put(&(total as u64).to_le_bytes());
        out.put(&self.model.identity.to_le_bytes());
        out.put(&(tokens as u32).to_le_bytes());
        out.put(&(positions as u32).to_le_bytes());
        self.sampler.random_state().iter().for_each(|word| out.put(&word.to_le_bytes()));
        self.tokens.iter().for_each(|id| out.put(&id.to_le_bytes()));
        self.session.cached(positions, &mut |piece| out.put(piece))?;
        out.finish(&mut 0)?;
        hash.copy_from_slice(&hash_of(body).to_le_bytes());
        Ok(())
    }

    pub(super) fn load(&mut self, bytes: &[u8]) -> Outcome<()> {
        let saved = self.check_saved(bytes)?;
        let mut rest = saved.cached;
        self.session.restore(saved.positions, &mut |piece| {
            let (own, others) = rest.split_at(piece.len().min(rest.len()));
            piece[..own.len()].copy_from_slice(own);
            rest = others;
        })?;
        self.tokens.set(saved.tokens.chunks_exact(4).map(|id| number(id) as u32));
        self.sampler.set_random_state(saved.random);
        self.fresh = false;
        Ok(())
    }

    /// Checks everything before anything is changed.
    fn check_saved<'a>(&self, bytes: &'a [u8]) -> Outcome<Saved<'a>> {
        if bytes.len() < HEADER_LEN + HASH_LEN || bytes[..8] != MAGIC {
            return Err(damaged("not a saved state"));
        }
        if number(&bytes[8..12]) != u64::from(VERSION) {
            return Err(failure(Status::Version, "a saved state of another version"));
        }
        let (body, hash) = bytes.split_at(bytes.len() - HASH_LEN);
        if number(&bytes[16..24]) != bytes.len() as u64 || number(hash) != hash_of(body) {
            return Err(damaged("the saved state is damaged"));
        }
        if number(&bytes[24..32]) != self.model.identity {
            return Err(damaged("the saved state belongs to another model"));
        }
        if number(&bytes[12..16]) != u64::from(self.cache.info().gguf_id) {
            return Err(damaged("the saved state encodes keys and values otherwise"));
        }
        let (tokens, positions) =
            (number(&bytes[32..36]) as usize, number(&bytes[36..40]) as usize);
        if tokens > self.session.context_len() {
            return Err(failure(
                Status::ContextFull,
                "the saved state holds more than the context",
            ));
        }
        if positions > tokens || self.state_len(tokens, positions) != Some(bytes.len()) {
            return Err(damaged("the saved state contradicts itself"));
        }
        let (tokens, cached) = body[HEADER_LEN..].split_at(4 * tokens);
        let vocab_len = self.session.vocab_len() as u64;
        if tokens.chunks_exact(4).any(|id| number(id) >= vocab_len) {
            return Err(damaged("the saved state has a token beyond the vocabulary"));
        }
        let random = core::array::from_fn(|i| number(&bytes[40 + 8 * i..][..8]));
        Ok(Saved { tokens, positions, random, cached })
    }
}

/// A number of at most 8 bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hash = Hash::START;
    hash.add(bytes);
    hash.value()
}
