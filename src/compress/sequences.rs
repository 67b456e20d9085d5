//! Token sequences to learn from or to measure on: from a text, or made up by a model.

use super::parallel;
use super::random::Random;
use crate::arch::{self, LoadOptions};
use crate::backend::{Cpu, CpuOptions, Row};
use crate::gguf::Gguf;
use crate::memory::text;
use crate::model::Decoder;
use crate::{Error, Result, Sampler, SamplerOptions, Tokenizer};
use attar_kernels::Format;

/// Told of tokens done since it was last called, from any thread; says whether to go on.
pub type Progress<'a> = &'a (dyn Fn(usize) -> bool + Sync);

/// Sequences that a thread draws together, which reads each matrix once for all of them.
const AT_ONCE: usize = 8;

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
    /// draws a few at once and has a cache for them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a `len` below 2 or a vocabulary in which no token starts a sequence,
    /// [`Error::Cancelled`] once `progress` says so, and those of [`crate::Session::open`].
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
        let count = tokens.div_ceil(len);
        let at_once = count.div_ceil(threads.max(1)).clamp(1, AT_ONCE);
        let open = || Teller::open(gguf, len, at_once);
        let groups = parallel::map(threads, count.div_ceil(at_once), open, |teller, group| {
            let places = group * at_once..count.min((group + 1) * at_once);
            let seeds: Vec<u64> = places.map(|i| first_seed.wrapping_add(i as u64)).collect();
            teller.sequences(bos, &seeds, len, progress)
        })?;
        let mut all = Self { tokens: Vec::new(), ends: Vec::new() };
        groups.iter().flatten().for_each(|sequence| all.push(&[], sequence));
        all.checked()
    }

    /// Sequences as they are; those of less than two tokens are left out.
    pub fn of(sequences: &[&[u32]]) -> Self {
        let mut all = Self { tokens: Vec::new(), ends: Vec::new() };
        sequences.iter().for_each(|sequence| all.push(&[], sequence));
        all
    }

    /// Reads sequences as [`Sequences::to_ids`] writes them: one a line, the numbers of its tokens.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the line that is not made of numbers.
    pub fn parse_ids(text: &str) -> Result<Self> {
        let mut all = Self { tokens: Vec::new(), ends: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let ids: Result<Vec<u32>, _> = line.split_ascii_whitespace().map(str::parse).collect();
            let number = number + 1;
            let ids =
                ids.map_err(|e| Error::Invalid(text!("line {number}: {e}, expected token ids")))?;
            all.push(&[], &ids);
        }
        all.checked()
    }

    /// One sequence a line, the numbers of its tokens.
    pub fn to_ids(&self) -> String {
        let line =
            |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ") + "\n";
        self.iter().map(line).collect()
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

/// A model with room for a few texts, and the means to draw them.
struct Teller {
    backend: Cpu,
    decoder: Decoder,
    samplers: Vec<Sampler>,
    logits: Vec<f32>,
}

impl Teller {
    fn open(gguf: &Gguf, len: usize, sequences: usize) -> Result<Self> {
        let mut backend = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() })?;
        let (batch_len, logit_rows, cache) = (sequences, sequences, Format::F32);
        let sizes = LoadOptions { context_len: len, batch_len, cache, sequences, logit_rows };
        let decoder = arch::load(gguf, &mut backend, &sizes)?;
        // The model's own probabilities: nothing is cut off.
        let (temperature, top_k, top_p, min_p) = (1.0, 0, 1.0, 0.0);
        let options =
            SamplerOptions { temperature, top_k, top_p, min_p, ..SamplerOptions::default() };
        let vocab_len = decoder.shape.vocab_len;
        let samplers = (0..sequences).map(|_| Sampler::new(&options, vocab_len));
        let samplers = samplers.collect::<Result<Vec<_>>>()?;
        Ok(Self { backend, decoder, samplers, logits: vec![0.0; vocab_len] })
    }

    /// A sequence for each seed.
    fn sequences(
        &mut self,
        bos: u32,
        seeds: &[u64],
        len: usize,
        progress: Progress<'_>,
    ) -> Result<Vec<Vec<u32>>> {
        let Self { backend, decoder, samplers, logits } = self;
        let count = seeds.len();
        samplers.iter_mut().zip(seeds).for_each(|(sampler, seed)| sampler.reseed(*seed));
        let mut all = vec![vec![bos]; count];
        for position in 0..len as u32 - 1 {
            let ids: Vec<u32> = all.iter().map(|ids| ids[position as usize]).collect();
            let rows: Vec<Row> =
                (0..count as u32).map(|sequence| Row { sequence, position }).collect();
            decoder.forward(backend, &ids, &rows, &|| progress(0))?;
            let found = decoder.logits(backend, 0, count)?.chunks_exact(decoder.shape.vocab_len);
            for ((ids, sampler), found) in all.iter_mut().zip(&mut *samplers).zip(found) {
                logits.copy_from_slice(found);
                ids.push(sampler.sample(logits));
            }
            progress(count);
        }
        progress(count);
        Ok(all)
    }
}
