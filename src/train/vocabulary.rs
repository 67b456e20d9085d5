//! Vocabularies made for a text: byte-pair pieces (Sennrich et al., arXiv 1508.07909), joined in the order
//! in which pairs are frequent. What is frequent alike is joined in the order of its bytes, so the same text
//! gives the same vocabulary everywhere.
//!
//! A piece is within a word: a space or line break begins one, and letters, digits and marks are apart, a
//! digit by itself. So no token is a whole JSON object, however often the text has it.

use crate::gguf::write::ArrayBuf;
use crate::gguf::{Value, ValueType};
use crate::memory::text;
use crate::tokenizer::{BYTE_LEVEL, MERGED_BY_SCORE, byte_character, split_words};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

/// The two spellings of a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// Pieces of characters, joined by their scores, with tokens for bytes to fall back on
    /// (SentencePiece's way).
    Characters,
    /// Pieces of bytes, joined by a list (GPT-2's way).
    Bytes,
}

/// Which bytes have a token of their own, for text that the pieces do not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// All 256: any text comes back as it was.
    All,
    /// Those that the text needs and, of ASCII, all that can be printed. Another byte becomes the
    /// unknown token, and is lost.
    Needed,
}

/// What vocabulary to make.
#[derive(Clone, Copy, Debug)]
pub struct VocabularyOptions {
    /// Spelling.
    pub spelling: Spelling,
    /// Tokens.
    pub len: usize,
    /// Bytes.
    pub fallback: Fallback,
}

/// A vocabulary as a file will have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    spelling: Spelling,
    tokens: Vec<String>,
    scores: Vec<f32>,
    kinds: Vec<i32>,
    merges: Vec<String>,
}

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

/// A character in so many has a token of its own; rarer ones are spelled in bytes.
const RARE: usize = 20_000;

/// How vocabularies of characters write a space.
const SPACE: char = '\u{2581}';

impl Vocabulary {
    /// Makes a vocabulary for `text`, of which lines `<|endoftext|>` are no part.
    ///
    /// # Errors
    /// [`Error::Invalid`] if single characters or bytes alone need more tokens than there shall be, or the
    /// text has no more pairs to join.
    pub fn train(text: &str, options: &VocabularyOptions) -> Result<Self> {
        let documents = text.split("<|endoftext|>").map(|text| text.trim_matches('\n'));
        let documents = documents.filter(|text| !text.is_empty());
        let mut vocabulary = Self::empty(options.spelling);
        let words = match options.spelling {
            Spelling::Characters => character_words(documents),
            Spelling::Bytes => byte_words(documents)?,
        };
        let alphabet = vocabulary.add_alphabet(&words, options.fallback);
        if vocabulary.tokens.len() > options.len {
            let (least, len) = (vocabulary.tokens.len(), options.len);
            return Err(Error::Invalid(text!(
                "a vocabulary of {len} tokens: this text needs {least} for characters and bytes alone"
            )));
        }
        let room = options.len - vocabulary.tokens.len();
        let pairs = Pairs::new(&words, &alphabet).join(room);
        if pairs.len() < room {
            let most = options.len - room + pairs.len();
            return Err(Error::Invalid(text!(
                "a vocabulary of {} tokens: this text has pairs for {most} only",
                options.len
            )));
        }
        for (rank, [left, right]) in pairs.into_iter().enumerate() {
            vocabulary.push(format!("{left}{right}"), -(rank as f32), NORMAL);
            vocabulary.merges.push(format!("{left} {right}"));
        }
        // A character alone is never the better choice.
        let least = -(vocabulary.tokens.len() as f32);
        let singles = vocabulary.tokens.iter().zip(&mut vocabulary.scores).zip(&vocabulary.kinds);
        for ((token, score), kind) in singles {
            if *kind == NORMAL && token.chars().nth(1).is_none() {
                *score = least;
            }
        }
        Ok(vocabulary)
    }

    fn empty(spelling: Spelling) -> Self {
        let (tokens, scores) = (Vec::new(), Vec::new());
        let mut vocabulary =
            Self { spelling, tokens, scores, kinds: Vec::new(), merges: Vec::new() };
        match spelling {
            Spelling::Characters => {
                vocabulary.push("<unk>".into(), 0.0, UNKNOWN);
                vocabulary.push("<s>".into(), 0.0, CONTROL);
                vocabulary.push("</s>".into(), 0.0, CONTROL);
            }
            Spelling::Bytes => vocabulary.push("<|endoftext|>".into(), 0.0, CONTROL),
        }
        vocabulary
    }

    fn push(&mut self, token: String, score: f32, kind: i32) {
        self.tokens.push(token);
        self.scores.push(score);
        self.kinds.push(kind);
    }

    /// Adds bytes and single characters; returns the characters that have a token.
    fn add_alphabet(&mut self, words: &Words, fallback: Fallback) -> BTreeSet<char> {
        let mut counts: BTreeMap<char, usize> = BTreeMap::new();
        for (word, count) in words {
            word.chars().for_each(|c| *counts.entry(c).or_default() += count);
        }
        let total: usize = counts.values().sum();
        let is_common = |c: &char| counts.get(c).is_some_and(|count| count * RARE >= total);
        let (mut alphabet, bytes): (BTreeSet<char>, Vec<u8>) = match self.spelling {
            Spelling::Bytes => {
                let needed = |byte: &u8| {
                    let printed = (b' '..=b'~').contains(byte) || *byte == b'\n';
                    fallback == Fallback::All
                        || printed
                        || counts.contains_key(&byte_character(*byte))
                };
                ((0..=255).filter(needed).map(byte_character).collect(), Vec::new())
            }
            Spelling::Characters => {
                let (common, rare): (BTreeSet<char>, BTreeSet<char>) =
                    counts.keys().partition(|c| is_common(c));
                let rare: BTreeSet<u8> = rare.iter().collect::<String>().bytes().collect();
                match fallback {
                    Fallback::All => (common, (0..=255).collect()),
                    Fallback::Needed => (common, rare.into_iter().collect()),
                }
            }
        };
        if self.spelling == Spelling::Characters {
            alphabet.extend('!'..='~');
            alphabet.extend(['\n', SPACE]);
        }
        bytes.iter().for_each(|byte| self.push(format!("<0x{byte:02X}>"), 0.0, BYTE));
        alphabet.iter().for_each(|c| self.push(c.to_string(), 0.0, NORMAL));
        alphabet
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Calls `write` with the keys under which a file has the vocabulary, and their values.
    pub fn with_metadata<T>(&self, write: impl FnOnce(&[(&str, Value<'_>)]) -> T) -> T {
        let tokens = ArrayBuf::strings(&self.tokens);
        let scores = self.scores.iter().map(|score| Value::F32(*score));
        let scores = ArrayBuf::new(ValueType::F32, scores);
        let kinds = ArrayBuf::new(ValueType::I32, self.kinds.iter().map(|kind| Value::I32(*kind)));
        let merges = ArrayBuf::strings(&self.merges);
        let mut pairs = vec![
            ("tokenizer.ggml.tokens", tokens.value()),
            ("tokenizer.ggml.token_type", kinds.value()),
        ];
        match self.spelling {
            Spelling::Characters => pairs.extend([
                ("tokenizer.ggml.model", Value::String(MERGED_BY_SCORE.as_bytes())),
                ("tokenizer.ggml.pre", Value::String(b"default")),
                ("tokenizer.ggml.scores", scores.value()),
                ("tokenizer.ggml.unknown_token_id", Value::U32(0)),
                ("tokenizer.ggml.bos_token_id", Value::U32(1)),
                ("tokenizer.ggml.eos_token_id", Value::U32(2)),
                ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
                ("tokenizer.ggml.add_eos_token", Value::Bool(false)),
                ("tokenizer.ggml.add_space_prefix", Value::Bool(true)),
            ]),
            Spelling::Bytes => pairs.extend([
                ("tokenizer.ggml.model", Value::String(BYTE_LEVEL.as_bytes())),
                ("tokenizer.ggml.pre", Value::String(b"gpt-2")),
                ("tokenizer.ggml.merges", merges.value()),
                ("tokenizer.ggml.unknown_token_id", Value::U32(0)),
                ("tokenizer.ggml.bos_token_id", Value::U32(0)),
                ("tokenizer.ggml.eos_token_id", Value::U32(0)),
                ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
            ]),
        }
        write(&pairs)
    }
}

/// Words with how often they occur, in the order of their text.
type Words = BTreeMap<String, usize>;

/// What of a text belongs together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Mark,
    Start,
}

/// Words as vocabularies of characters see them: a document begins with a space.
fn character_words<'a>(documents: impl Iterator<Item = &'a str>) -> Words {
    let mut words = Words::new();
    for document in documents {
        let mut word = String::new();
        let mut last = Class::Start;
        for c in std::iter::once(' ').chain(document.chars()) {
            let class = match c {
                ' ' | '\n' => Class::Start,
                c if c.is_ascii_digit() => Class::Digit,
                c if c.is_alphanumeric() => Class::Letter,
                _ => Class::Mark,
            };
            let goes_on = match class {
                Class::Start => false,
                Class::Digit => last == Class::Start,
                Class::Letter | Class::Mark => last == Class::Start || last == class,
            };
            if !goes_on && !word.is_empty() {
                *words.entry(std::mem::take(&mut word)).or_default() += 1;
            }
            word.push(if c == ' ' { SPACE } else { c });
            last = class;
        }
        *words.entry(word).or_default() += 1;
    }
    words
}

/// Words as vocabularies of bytes see them, a character a byte.
fn byte_words<'a>(documents: impl Iterator<Item = &'a str>) -> Result<Words> {
    let mut words = Words::new();
    for document in documents {
        split_words(document.as_bytes(), &mut |word| {
            let word = word.iter().map(|byte| byte_character(*byte)).collect();
            *words.entry(word).or_default() += 1;
            Ok(())
        })?;
    }
    Ok(words)
}

/// The pairs of neighbours in all words.
struct Pairs {
    /// Pieces by number.
    pieces: Vec<String>,
    numbers: HashMap<String, u32>,
    /// Each word's pieces, and how often it occurs.
    words: Vec<(Vec<u32>, usize)>,
    counts: HashMap<[u32; 2], usize>,
    /// Words that may have the pair.
    places: HashMap<[u32; 2], BTreeSet<usize>>,
    /// The most frequent first; of equal ones that of the lesser text.
    queue: BinaryHeap<(usize, std::cmp::Reverse<[String; 2]>)>,
}

impl Pairs {
    /// Words cut into characters; what has no token of its own cuts them in two.
    fn new(words: &Words, alphabet: &BTreeSet<char>) -> Self {
        let pieces: Vec<_> = alphabet.iter().map(char::to_string).collect();
        let numbers: HashMap<_, _> = pieces.iter().cloned().zip(0..).collect();
        let mut cut = Vec::new();
        for (word, count) in words {
            for part in word.split(|c| !alphabet.contains(&c)) {
                let part: Vec<u32> = part.chars().map(|c| numbers[&c.to_string()]).collect();
                if part.len() > 1 {
                    cut.push((part, *count));
                }
            }
        }
        let mut pairs = Self {
            pieces,
            numbers,
            words: cut,
            counts: HashMap::new(),
            places: HashMap::new(),
            queue: BinaryHeap::new(),
        };
        for word in 0..pairs.words.len() {
            pairs.count(word, true);
        }
        let all: Vec<_> = pairs.counts.keys().copied().collect();
        all.into_iter().for_each(|pair| pairs.offer(pair));
        pairs
    }

    /// Adds the pairs of a word to the counts, or takes them away; returns them.
    fn count(&mut self, word: usize, adds: bool) -> Vec<[u32; 2]> {
        let (pieces, times) = &self.words[word];
        let pairs: Vec<_> = pieces.windows(2).map(|pair| [pair[0], pair[1]]).collect();
        for pair in &pairs {
            let count = self.counts.entry(*pair).or_default();
            if adds {
                *count += times;
                self.places.entry(*pair).or_default().insert(word);
            } else {
                *count -= times;
            }
        }
        pairs
    }

    fn offer(&mut self, pair: [u32; 2]) {
        let count = self.counts.get(&pair).copied().unwrap_or(0);
        if count > 0 {
            let texts = pair.map(|piece| self.pieces[piece as usize].clone());
            self.queue.push((count, std::cmp::Reverse(texts)));
        }
    }

    /// Joins the most frequent pair, again and again, until there are `room` new pieces or no pairs.
    fn join(mut self, room: usize) -> Vec<[String; 2]> {
        let mut joined = Vec::new();
        while joined.len() < room {
            let Some((count, std::cmp::Reverse(texts))) = self.queue.pop() else { break };
            let pair = texts.clone().map(|text| self.numbers[&text]);
            // Counts have fallen since some pairs were offered.
            if self.counts.get(&pair) != Some(&count) {
                continue;
            }
            let text = texts.concat();
            let next = self.pieces.len() as u32;
            let number = *self.numbers.entry(text.clone()).or_insert(next);
            if number == next {
                self.pieces.push(text);
                joined.push(texts);
            }
            let mut changed = BTreeSet::new();
            for word in self.places.remove(&pair).unwrap_or_default() {
                changed.extend(self.count(word, false));
                replace(&mut self.words[word].0, pair, number);
                changed.extend(self.count(word, true));
            }
            changed.into_iter().for_each(|pair| self.offer(pair));
        }
        joined
    }
}

/// Puts one piece in the place of every pair, from the left.
fn replace(pieces: &mut Vec<u32>, pair: [u32; 2], number: u32) {
    let mut out = Vec::with_capacity(pieces.len());
    let mut i = 0;
    while i < pieces.len() {
        let found = pieces.get(i..i + 2).is_some_and(|two| two == pair);
        out.push(if found { number } else { pieces[i] });
        i += if found { 2 } else { 1 };
    }
    *pieces = out;
}
