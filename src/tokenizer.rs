//! Text to token ids and back, by the vocabulary a file carries.
//!
//! | `tokenizer.ggml.model` | how text is cut |
//! |---|---|
//! | `llama` | `spm.rs`: characters merged by score |
//! | `gpt2`, `gemma4` | `bpe.rs`: bytes or characters merged by a list |
//! | `bert` | `wordpiece.rs`: longest pieces of lower-case words |
//! | `t5` | `unigram.rs`: the likeliest cut |
//! | `test`, `none`, `no_vocab` | no text at all, ids only |

mod bpe;
mod merge;
#[cfg(feature = "std")]
mod parts;
mod special;
mod split;
mod spm;
mod stream;
mod unicode;
mod unigram;
mod vocab;
mod wordpiece;

pub use stream::TextStream;

use crate::gguf::Gguf;
use crate::memory::{self, text};
use crate::{Error, Result};
use alloc::vec::Vec;
use special::Specials;
use vocab::{Kind, NONE, Vocab};

/// `tokenizer.ggml.model` of vocabularies whose characters are merged by score.
#[cfg(feature = "train")]
pub(crate) const MERGED_BY_SCORE: &str = "llama";
/// That of vocabularies whose bytes are merged by a list.
#[cfg(feature = "train")]
pub(crate) const BYTE_LEVEL: &str = "gpt2";
#[cfg(feature = "train")]
pub(crate) use bpe::{char_of as byte_character, split_words};

/// How vocabularies with visible spaces write one: U+2581.
const SPACE: &[u8] = "\u{2581}".as_bytes();

enum Algorithm {
    /// Whether a space is put before the first word.
    Spm {
        adds_space: bool,
    },
    Bpe(bpe::Bpe),
    WordPiece,
    Unigram(unigram::Unigram),
}

/// A vocabulary and its rules. The strings stay in the file.
pub struct Tokenizer {
    vocab: Vocab,
    /// `None` for a vocabulary without text.
    algorithm: Option<Algorithm>,
    specials: Specials,
}

/// Where `encode` puts ids, with what to do about text no token holds.
struct Output<'a> {
    ids: &'a mut Vec<u32>,
    vocab: &'a Vocab,
    unknown: Option<u32>,
}

impl Output<'_> {
    fn push(&mut self, id: u32) -> Result<()> {
        memory::push(self.ids, id)
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    fn truncate(&mut self, len: usize) {
        self.ids.truncate(len);
    }

    /// The token, or, where there is none, those of the bytes of its text.
    fn push_or_bytes(&mut self, id: u32, text: &[u8]) -> Result<()> {
        if id != NONE {
            return self.push(id);
        }
        if text.iter().any(|byte| self.vocab.byte(*byte).is_none()) {
            return self.push_unknown(text);
        }
        text.iter().filter_map(|byte| self.vocab.byte(*byte)).try_for_each(|id| self.push(id))
    }

    fn push_unknown(&mut self, text: &[u8]) -> Result<()> {
        let Some(id) = self.unknown else {
            let text = text.escape_ascii();
            return Err(Error::Invalid(text!("the vocabulary cannot spell '{text}'")));
        };
        self.push(id)
    }
}

/// Appends `text` with its spaces made visible, after one more if `starts`.
fn escape_spaces(text: &[u8], starts: bool, out: &mut Vec<u8>) -> Result<()> {
    if starts {
        memory::append(out, SPACE)?;
    }
    for (i, word) in text.split(|byte| *byte == b' ').enumerate() {
        if i > 0 {
            memory::append(out, SPACE)?;
        }
        memory::append(out, word)?;
    }
    Ok(())
}

impl Tokenizer {
    /// Reads a file's vocabulary.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Invalid`] or [`Error::Unsupported`] naming the key,
    /// [`Error::Memory`].
    pub fn load(gguf: &Gguf) -> Result<Self> {
        let key = "tokenizer.ggml.model";
        let name = gguf.str(key)?.ok_or_else(|| Error::Missing(text!("key '{key}'")))?;
        let textless = matches!(name, "test" | "none" | "no_vocab");
        let vocab = match gguf.get("tokenizer.ggml.tokens") {
            None if textless => Vocab::EMPTY,
            _ => Vocab::read(gguf)?,
        };
        let algorithm = match name {
            "llama" => {
                let adds_space = gguf.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
                Some(Algorithm::Spm { adds_space })
            }
            "gpt2" => Some(Algorithm::Bpe(bpe::Bpe::read(gguf, &vocab, true)?)),
            "gemma4" => Some(Algorithm::Bpe(bpe::Bpe::read(gguf, &vocab, false)?)),
            "bert" => Some(Algorithm::WordPiece),
            "t5" => Some(Algorithm::Unigram(unigram::Unigram::read(gguf, &vocab)?)),
            _ if textless => None,
            other => {
                return Err(Error::Unsupported(text!("key '{key}' with value '{other}'")));
            }
        };
        let (adds_bos, adds_eos) = match &algorithm {
            Some(Algorithm::Spm { .. }) => (true, false),
            Some(Algorithm::Bpe(bpe)) => (bpe.adds_bos(), false),
            Some(Algorithm::WordPiece) => (true, true),
            Some(Algorithm::Unigram(_)) => (false, true),
            None => (false, false),
        };
        let specials = Specials::read(gguf, &vocab, adds_bos, adds_eos)?;
        Ok(Self { vocab, algorithm, specials })
    }

    /// Token ids of `text`, which may be any bytes.
    ///
    /// With `add_special`, the tokens the family puts first and last are added. With
    /// `parse_special`, the spelling of a control token in the text becomes that token: only for
    /// text one trusts.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a vocabulary without text, [`Error::Invalid`] for text that has
    /// no tokens, where the vocabulary has none for unknown text either, [`Error::Memory`].
    pub fn encode(&self, text: &[u8], add_special: bool, parse_special: bool) -> Result<Vec<u32>> {
        let Some(algorithm) = &self.algorithm else {
            return Err(Error::Unsupported("text: the vocabulary has only ids".into()));
        };
        let Specials { bos, eos, adds_bos, adds_eos, unknown, .. } = self.specials;
        // Few texts have more tokens than bytes.
        let mut ids = memory::reserved(text.len() + 2)?;
        let mut out = Output { ids: &mut ids, vocab: &self.vocab, unknown };
        if let Some(id) = bos.filter(|_| add_special && adds_bos) {
            out.push(id)?;
        }
        let mut after_token = true;
        let mut rest = text;
        while !rest.is_empty() {
            let found = self.specials.find(&self.vocab, rest, parse_special);
            let plain = &rest[..found.map_or(rest.len(), |(at, _)| at)];
            if !plain.is_empty() {
                self.encode_plain(algorithm, plain, after_token, &mut out)?;
                after_token = false;
            }
            rest = &rest[plain.len()..];
            if let Some((_, id)) = found {
                out.push(id)?;
                rest = &rest[self.vocab.text(id).len()..];
                after_token = true;
            }
        }
        if let Some(id) = eos.filter(|_| add_special && adds_eos) {
            out.push(id)?;
        }
        Ok(ids)
    }

    fn encode_plain(
        &self,
        algorithm: &Algorithm,
        text: &[u8],
        starts: bool,
        out: &mut Output<'_>,
    ) -> Result<()> {
        let vocab = &self.vocab;
        match algorithm {
            Algorithm::Spm { adds_space } => spm::encode(vocab, text, starts && *adds_space, out),
            Algorithm::Bpe(bpe) => bpe.encode(vocab, text, out),
            Algorithm::WordPiece => wordpiece::encode(vocab, text, out),
            Algorithm::Unigram(unigram) => unigram.encode(vocab, text, out),
        }
    }

    /// Hands the text of a token to `put`, in parts; nothing for an id beyond the vocabulary, and
    /// nothing for a control token unless `special`. A token may hold a part of a character.
    pub fn spell(&self, id: u32, special: bool, put: &mut dyn FnMut(&[u8])) {
        let text = self.vocab.text(id);
        match self.vocab.kind(id) {
            Kind::Control | Kind::Unknown if !special => {}
            Kind::Control | Kind::Unknown => put(text),
            Kind::Byte => put(self.vocab.byte_of(id).as_slice()),
            Kind::UserDefined if self.is_byte_level() => put(text),
            Kind::Normal | Kind::UserDefined | Kind::Unused => self.spell_text(text, put),
        }
    }

    fn is_byte_level(&self) -> bool {
        matches!(&self.algorithm, Some(Algorithm::Bpe(bpe)) if bpe.byte_level)
    }

    /// Undoes the vocabulary's spelling.
    fn spell_text(&self, text: &[u8], put: &mut dyn FnMut(&[u8])) {
        if self.is_byte_level() {
            for chunk in text.utf8_chunks() {
                for c in chunk.valid().chars() {
                    match bpe::byte_of(c) {
                        Some(byte) => put(&[byte]),
                        None => put(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
                put(chunk.invalid());
            }
            return;
        }
        let mut rest = text;
        while let Some(at) = rest.windows(SPACE.len()).position(|part| part == SPACE) {
            put(&rest[..at]);
            put(b" ");
            rest = &rest[at + SPACE.len()..];
        }
        put(rest);
    }

    /// Appends what [`Tokenizer::spell`] gives.
    ///
    /// # Errors
    /// [`Error::Memory`]; never if `out` has room for [`Tokenizer::piece_len_max`] more.
    pub fn append_piece(&self, id: u32, special: bool, out: &mut Vec<u8>) -> Result<()> {
        let mut result = Ok(());
        self.spell(id, special, &mut |part| {
            if result.is_ok() {
                result = memory::append(out, part);
            }
        });
        result
    }

    /// The text of one token, nothing for a control token.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn piece(&self, id: u32) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.append_piece(id, false, &mut out)?;
        Ok(out)
    }

    /// The text of tokens; `encode`'s inverse, also for the space some families put first.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn decode(&self, ids: &[u32], special: bool) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for id in ids {
            self.append_piece(*id, special, &mut out)?;
        }
        if self.puts_space_first() && out.first() == Some(&b' ') {
            out.remove(0);
        }
        Ok(out)
    }

    fn puts_space_first(&self) -> bool {
        match &self.algorithm {
            Some(Algorithm::Spm { adds_space }) => *adds_space,
            Some(Algorithm::WordPiece | Algorithm::Unigram(_)) => true,
            Some(Algorithm::Bpe(_)) | None => false,
        }
    }

    /// Bytes of the longest token's text, at least.
    pub fn piece_len_max(&self) -> usize {
        self.vocab.token_len_max
    }

    /// The id of the token spelt exactly so in the file.
    pub fn find(&self, text: &[u8]) -> Option<u32> {
        self.vocab.find(text)
    }

    /// The token that starts a sequence, if the vocabulary has one.
    pub fn bos(&self) -> Option<u32> {
        self.specials.bos
    }

    /// The token that ends a sequence, if the vocabulary has one.
    pub fn eos(&self) -> Option<u32> {
        self.specials.eos
    }

    /// Whether generation ends with this token: the end of a sequence, of a turn, or of text.
    pub fn is_end_of_text(&self, id: u32) -> bool {
        self.specials.ends.contains(&id)
    }

    /// Number of tokens with a spelling.
    pub fn len(&self) -> usize {
        self.vocab.len()
    }

    /// Whether there are no tokens with a spelling.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
