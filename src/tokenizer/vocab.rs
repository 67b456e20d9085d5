//! The tokens of a vocabulary: their text where it lies in the file, and a table from text to id.

use crate::bytes::Bytes;
use crate::gguf::{Gguf, ValueType};
use crate::memory::{self, name, text};
use crate::{Error, Result};
use alloc::vec::Vec;

/// No token has this id.
pub(super) const NONE: u32 = u32::MAX;

/// More tokens than any vocabulary, few enough for 32-bit tables.
const LEN_MAX: usize = 1 << 24;

/// What a token is for, as `tokenizer.ggml.token_type` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    /// Steers the model; never text.
    Control,
    /// Text that is always one token.
    UserDefined,
    Unused,
    /// One byte, spelt `<0x41>`.
    Byte,
}

impl Kind {
    fn from_number(number: i128) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// Views of an array of strings, each found in constant time. Nothing is copied.
pub(super) struct Strings {
    bytes: Bytes,
    /// Start within `bytes`, and length.
    spans: Vec<(u32, u32)>,
}

impl Strings {
    /// The array of strings under `key`, where the file has it.
    pub(super) fn read(gguf: &Gguf, key: &str) -> Result<Option<Self>> {
        let Some(array) = gguf.array(key, ValueType::String)? else { return Ok(None) };
        let bytes = gguf.array_bytes(&array);
        if array.len > LEN_MAX || u32::try_from(bytes.len()).is_err() {
            return Err(Error::Limit(text!("key '{key}' has {} strings", array.len)));
        }
        let first = bytes.as_ptr() as usize;
        let mut spans = memory::reserved(array.len)?;
        for s in array.strings() {
            memory::push(&mut spans, ((s.as_ptr() as usize - first) as u32, s.len() as u32))?;
        }
        Ok(Some(Self { bytes, spans }))
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The string; empty beyond the end.
    pub(super) fn get(&self, i: usize) -> &[u8] {
        let (start, len) = self.spans.get(i).copied().unwrap_or((0, 0));
        &self.bytes[start as usize..][..len as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }
}

/// The hash FNV-1a, which goes on where it stopped: all prefixes of a text cost one pass.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    const START: Self = Self(0xcbf2_9ce4_8422_2325);

    fn with(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)))
    }

    /// Where to look first in a table of a power of two.
    fn place(self, len: usize) -> usize {
        ((self.0 ^ (self.0 >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize & (len - 1)
    }
}

/// A vocabulary.
pub(super) struct Vocab {
    pub(super) tokens: Strings,
    kinds: Vec<Kind>,
    pub(super) scores: Vec<f32>,
    /// Open addressing: ids, or `NONE`.
    table: Vec<u32>,
    pub(super) token_len_max: usize,
    /// Tokens of single bytes, or `NONE`; on the heap, to keep moves of a vocabulary off small stacks.
    bytes: Vec<u32>,
}

impl Vocab {
    /// No tokens at all.
    pub(super) const EMPTY: Self = Self {
        tokens: Strings { bytes: Bytes::from_static(&[]), spans: Vec::new() },
        kinds: Vec::new(),
        scores: Vec::new(),
        table: Vec::new(),
        token_len_max: 0,
        bytes: Vec::new(),
    };

    pub(super) fn read(gguf: &Gguf) -> Result<Self> {
        let key = "tokenizer.ggml.tokens";
        let tokens = Strings::read(gguf, key)?;
        let tokens = tokens.ok_or_else(|| Error::Missing(text!("key '{key}'")))?;
        let len = tokens.len();
        let kinds = read_array(gguf, "tokenizer.ggml.token_type", ValueType::I32, len, |value| {
            value.integer().map_or(Kind::Normal, Kind::from_number)
        })?;
        let scores = read_array(gguf, "tokenizer.ggml.scores", ValueType::F32, len, |value| {
            value.float().filter(|v| v.is_finite()).unwrap_or(0.0) as f32
        })?;
        let token_len_max = tokens.iter().map(<[u8]>::len).max().unwrap_or(0);
        let table = table(&tokens)?;
        let mut vocab = Self { tokens, kinds, scores, table, token_len_max, bytes: Vec::new() };
        let byte = |byte| vocab.find(name!("<0x{byte:02X}>").as_bytes()).unwrap_or(NONE);
        vocab.bytes = memory::collect((0..=u8::MAX).map(byte))?;
        Ok(vocab)
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn text(&self, id: u32) -> &[u8] {
        self.tokens.get(id as usize)
    }

    /// Normal where the file does not say.
    pub(super) fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Normal)
    }

    /// 0 where the file does not say.
    pub(super) fn score(&self, id: u32) -> f32 {
        self.scores.get(id as usize).copied().unwrap_or(0.0)
    }

    /// The token of a byte of text that no token holds.
    pub(super) fn byte(&self, byte: u8) -> Option<u32> {
        self.bytes.get(usize::from(byte)).copied().filter(|id| *id != NONE)
    }

    /// The byte of a token that stands for one.
    pub(super) fn byte_of(&self, id: u32) -> Option<u8> {
        let digits = self.text(id).strip_prefix(b"<0x")?.strip_suffix(b">")?;
        let digits = core::str::from_utf8(digits).ok().filter(|digits| digits.len() == 2)?;
        u8::from_str_radix(digits, 16).ok()
    }

    /// The token with exactly this text.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        self.find_joined(text, &[])
    }

    /// The token whose text is `first` followed by `second`.
    pub(super) fn find_joined(&self, first: &[u8], second: &[u8]) -> Option<u32> {
        self.probe(Hash::START.with(first).with(second), |text| {
            text.len() == first.len() + second.len()
                && text.starts_with(first)
                && text.ends_with(second)
        })
    }

    /// Calls `each(length, id)` for every token that `text` starts with.
    pub(super) fn prefixes(&self, text: &[u8], mut each: impl FnMut(usize, u32)) {
        let mut hash = Hash::START;
        for (i, byte) in text.iter().enumerate().take(self.token_len_max) {
            hash = hash.with(&[*byte]);
            if let Some(id) = self.probe(hash, |token| token == &text[..=i]) {
                each(i + 1, id);
            }
        }
    }

    fn probe(&self, hash: Hash, same: impl Fn(&[u8]) -> bool) -> Option<u32> {
        let mask = self.table.len().checked_sub(1)?;
        let mut place = hash.place(self.table.len());
        loop {
            match self.table[place] {
                NONE => return None,
                id if same(self.text(id)) => return Some(id),
                _ => place = (place + 1) & mask, // another text's
            }
        }
    }
}

/// At most half full, so that a search ends soon. Of tokens with one text the last counts.
fn table(tokens: &Strings) -> Result<Vec<u32>> {
    let len = (tokens.len() * 2 + 1).next_power_of_two();
    let mut table = memory::filled(len, NONE)?;
    for (id, text) in tokens.iter().enumerate() {
        let mut place = Hash::START.with(text).place(len);
        while table[place] != NONE && tokens.get(table[place] as usize) != text {
            place = (place + 1) & (len - 1);
        }
        table[place] = id as u32;
    }
    Ok(table)
}

/// One value a token, or none at all.
fn read_array<T>(
    gguf: &Gguf,
    key: &str,
    kind: ValueType,
    len: usize,
    convert: impl Fn(crate::gguf::Value<'_>) -> T,
) -> Result<Vec<T>> {
    let Some(array) = gguf.array(key, kind)? else { return Ok(Vec::new()) };
    if array.len != len {
        let found = array.len;
        return Err(Error::Invalid(text!("key '{key}' has {found} values for {len} tokens")));
    }
    let mut values = memory::reserved(len)?;
    for value in array.iter() {
        memory::push(&mut values, convert(value))?;
    }
    Ok(values)
}
