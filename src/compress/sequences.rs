//! Token sequences to learn from or to measure on: from a text, or made up by a model.

use super::parallel;
use super::random::Random;
use crate::gguf::Gguf;
use crate::memory::text;
use crate::session::{Options, Session};
use crate::{Error, Result, Sampler, SamplerOptions, Tokenizer};
use attar_kernels::Format;

/// Told of tokens done since it was last called, from any thread; says whether to go on.
pub type Progress<'a> = &'a (dyn Fn(usize) -> bool + Sync);

/// The line between the documents of a text.
pub const DOCUMENT_END: &[u8] = b"<|endoftext|>";

/// Sequences of at least two tokens, each to be read from an empty context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    tokens: Vec<u32>,
    /// Where each sequence ends.
    ends: Vec<usize>,
}

impl Sequences {
    /// The documents of a text, cut into windows of `len` tokens, at least 2; what is left over is a
    /// shorter window. Each begins with the token that starts a sequence, where the vocabulary adds one.
    ///
    /// A line `<|endoftext|>` ends a document: the token that ends a sequence stands for it, where the
    /// vocabulary has one. A text without that line is one document without an end.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a text of less than two tokens or a `len` below 2, and those of
    /// [`Tokenizer::encode`].
    pub fn from_text(tokenizer: &Tokenizer, text: &[u8], len: usize) -> Result<Self> {
        check_len(len)?;
        let mut all = Self { tokens: Vec::new(), ends: Vec::new() };
        for (document, ends) in documents(text) {
            if document.trim_ascii().is_empty() {
                continue;
            }
            let mut ids = tokenizer.encode(document, true, false)?;
            let end = tokenizer.eos().filter(|eos| ends && ids.last() != Some(eos));
            ids.extend(end);
            let bos = tokenizer.bos().filter(|bos| ids.first() == Some(bos));
            let (start, rest) = ids.split_at(bos.iter().len());
            for window in rest.chunks(len - start.len()) {
                all.push(start, window);
            }
        }
        all.checked()
    }

    /// A text as one stream of tokens, cut into whole windows of `len` tokens, at least 2; each begins
    /// with the token that starts a sequence, in place of its own first, where the vocabulary adds
    /// one. So llama.cpp's perplexity tool cuts it.
    ///
    /// # Errors
    /// As [`Sequences::from_text`]; the text must fill a window.
    pub fn from_stream(tokenizer: &Tokenizer, text: &[u8], len: usize) -> Result<Self> {
        check_len(len)?;
        let ids = tokenizer.encode(text, true, false)?;
        let bos = tokenizer.bos().filter(|bos| ids.first() == Some(bos));
        let mut all = Self { tokens: Vec::new(), ends: Vec::new() };
        for window in ids.chunks_exact(len) {
            match &bos {
                Some(bos) => all.push(std::slice::from_ref(bos), &window[1..]),
                None => all.push(&[], window),
            }
        }
        all.checked()
    }

    /// Sequences of `len` tokens that the model draws by its own probabilities after the token that
    /// starts a sequence; as many as `tokens` tokens take. An end in between does not stop one. A
    /// sequence depends on the seed and on its place among them, not on the threads, each of which
    /// has a session.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a `len` below 2 or a vocabulary in which no token starts a sequence,
    /// [`Error::Cancelled`] once `progress` says so, and those of [`Session::open`].
    pub fn sampled(
        gguf: &Gguf,
        tokens: usize,
        len: usize,
        seed: u64,
        threads: usize,
        progress: Progress<'_>,
    ) -> Result<Self> {
        check_len(len)?;
        let bos = Tokenizer::load(gguf)?.bos().ok_or_else(|| {
            Error::Invalid("cannot sample: no token of the vocabulary starts a sequence".into())
        })?;
        let first_seed = Random(seed).next();
        let open = || Teller::open(gguf, len);
        let sequences = parallel::map(threads, tokens.div_ceil(len), open, |teller, i| {
            teller.sequence(bos, first_seed.wrapping_add(i as u64), len, progress)
        })?;
        let mut all = Self { tokens: Vec::new(), ends: Vec::new() };
        sequences.iter().for_each(|sequence| all.push(&[], sequence));
        all.checked()
    }

    /// Sequences of given tokens; those of less than two are left out.
    pub fn from_ids<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut all = Self { tokens: Vec::new(), ends: Vec::new() };
        sequences.into_iter().for_each(|ids| all.push(&[], ids));
        all
    }

    /// The same in other tokens; a sequence ends before the first that `id` has none for, and is left out
    /// if less than two are left.
    pub(super) fn translate(&self, id: impl Fn(u32) -> Option<u32>) -> Self {
        let mut all = Self { tokens: Vec::new(), ends: Vec::new() };
        for sequence in self.iter() {
            let known: Vec<u32> = sequence.iter().map_while(|token| id(*token)).collect();
            all.push(&[], &known);
        }
        all
    }

    fn push(&mut self, start: &[u32], rest: &[u32]) {
        if start.len() + rest.len() < 2 {
            return; // nothing to predict
        }
        self.tokens.extend(start);
        self.tokens.extend(rest);
        self.ends.push(self.tokens.len());
    }

    fn checked(self) -> Result<Self> {
        match self.ends.is_empty() {
            true => Err(Error::Invalid("data: too short for one sequence of tokens".into())),
            false => Ok(self),
        }
    }

    /// The sequences in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// The `i`-th sequence, `i` below [`Sequences::len`].
    pub fn get(&self, i: usize) -> &[u32] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.tokens[start..self.ends[i]]
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no sequences, as a part of a split may have none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens of the longest sequence.
    pub fn longest(&self) -> usize {
        self.iter().map(<[u32]>::len).max().unwrap_or(0)
    }

    /// Puts the other's sequences behind these.
    pub fn append(&mut self, other: &Self) {
        other.iter().for_each(|sequence| self.push(&[], sequence));
    }

    /// The first sequences, until they have `tokens` tokens or there are no more, and the others: to
    /// learn from ones and measure on the others.
    pub fn split(mut self, tokens: usize) -> (Self, Self) {
        let count = self.ends.partition_point(|end| *end < tokens) + usize::from(tokens > 0);
        let count = count.min(self.len());
        let place = if count == 0 { 0 } else { self.ends[count - 1] };
        let rest = self.tokens.split_off(place);
        let ends = self.ends.split_off(count).iter().map(|end| end - place).collect();
        (self, Self { tokens: rest, ends })
    }
}

fn check_len(len: usize) -> Result<()> {
    match len {
        0..2 => Err(Error::Invalid(text!("sequences of {len} tokens, expected at least 2"))),
        _ => Ok(()),
    }
}

/// The documents of a text, each with whether the text says that it ends.
fn documents(text: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        let mut at = 0;
        for line in lines {
            if line.trim_ascii() == DOCUMENT_END {
                rest = Some(&text[at + line.len()..]);
                return Some((text[..at].trim_ascii_end(), true));
            }
            at += line.len();
        }
        rest = None;
        Some((text, false))
    })
}

/// A session and the means to draw from it.
struct Teller {
    session: Session,
    sampler: Sampler,
    logits: Vec<f32>,
}

impl Teller {
    fn open(gguf: &Gguf, len: usize) -> Result<Self> {
        let cache = Format::F32;
        let options =
            Options { context_len: len, batch_len: 1, threads: 1, cache, ..Options::default() };
        let session = Session::open(gguf, &options)?;
        // The model's own probabilities: nothing is cut off.
        let (temperature, top_k, top_p, min_p) = (1.0, 0, 1.0, 0.0);
        let options =
            SamplerOptions { temperature, top_k, top_p, min_p, ..SamplerOptions::default() };
        let sampler = Sampler::new(&options, session.vocab_len())?;
        Ok(Self { logits: vec![0.0; session.vocab_len()], session, sampler })
    }

    fn sequence(
        &mut self,
        bos: u32,
        seed: u64,
        len: usize,
        progress: Progress<'_>,
    ) -> Result<Vec<u32>> {
        self.session.clear();
        self.sampler.reseed(seed);
        let mut ids = vec![bos];
        while ids.len() < len {
            let go_on = || progress(0);
            self.logits.copy_from_slice(self.session.feed_while(&ids[ids.len() - 1..], &go_on)?);
            ids.push(self.sampler.sample(&mut self.logits));
        }
        progress(len);
        Ok(ids)
    }
}
