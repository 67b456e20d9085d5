//! A model that learns: steps over batches of texts, and what a run needs to go on after a stop.

use super::loss::Loss;
use super::optimizer::{Adam, AdamOptions};
use super::tape::{Parameter, Tape, TapeOptions};
use crate::arch::{self, LoadOptions};
use crate::backend::Row;
use crate::gguf::Gguf;
use crate::memory::text;
use crate::model::Decoder;
use crate::{Error, Result};
use attar_kernels::{Format, Isa};

/// How to make a [`Trainer`].
#[derive(Clone, Copy, Debug)]
pub struct TrainerOptions {
    /// Tokens of the longest text.
    pub sequence_len: usize,
    /// Texts a step.
    pub batch_len: usize,
    /// Threads, 0 for one a core.
    pub threads: usize,
    /// How weights change.
    pub adam: AdamOptions,
    /// What is made small.
    pub loss: Loss,
    /// Steps of the whole run.
    pub steps: u64,
}

/// Numbers that the residual streams of one batch may have, unless a single text has more: it bounds memory.
const STREAMS_MAX: usize = 1 << 19;

/// Logits worked on at a time, and rows of them at least, without which products of a large vocabulary are slow.
const LOGITS_AT_ONCE: usize = 1 << 19;
const LOGIT_ROWS_MIN: usize = 16;

/// What a step did.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepReport {
    /// Mean loss a token.
    pub loss: f64,
    /// Length of the gradient before it was limited.
    pub gradient_norm: f64,
    /// Tokens that were predicted.
    pub tokens: usize,
}

/// A model whose predictions are to be learned. It runs in f32 whatever its file's formats.
pub struct Teacher {
    tape: Tape,
    decoder: Decoder,
    /// The teacher's token for each of the student's; none where they are the same.
    tokens: Option<Vec<u32>>,
}

impl Teacher {
    /// Opens a teacher for a trainer of these options.
    ///
    /// # Errors
    /// As [`crate::Session::open`]; [`Error::Token`] for a token the teacher has not.
    pub fn open(gguf: &Gguf, options: &TrainerOptions, tokens: Option<Vec<u32>>) -> Result<Self> {
        let threads = options.threads;
        let mut tape = Tape::new(TapeOptions { threads, learns: |_| false, records: false })?;
        let decoder = load(gguf, &mut tape, options)?;
        let vocab_len = decoder.shape.vocab_len;
        let mut all = tokens.iter().flatten();
        match all.find(|id| **id as usize >= vocab_len) {
            Some(id) => Err(Error::Token { id: *id, vocab_len }),
            None => Ok(Self { tape, decoder, tokens }),
        }
    }

    /// Tokens it predicts among.
    fn vocab_len(&self) -> usize {
        self.tokens.as_ref().map_or(self.decoder.shape.vocab_len, Vec::len)
    }

    fn forward(&mut self, ids: &[u32], rows: &[Row]) -> Result<()> {
        let Self { tape, decoder, tokens } = self;
        let own: Vec<u32> = match tokens {
            Some(tokens) => ids.iter().map(|id| tokens[*id as usize]).collect(),
            None => ids.to_vec(),
        };
        decoder.forward(tape, &own, rows, &|| true)
    }

    /// Logits of the student's tokens, of some rows.
    fn logits(&mut self, first: usize, count: usize, out: &mut Vec<f32>) -> Result<()> {
        let Self { tape, decoder, tokens } = self;
        out.clear();
        // The teacher's vocabulary may be longer, and its rows fewer at a time.
        let most = decoder.shape.logit_rows;
        for start in (first..first + count).step_by(most) {
            let logits = decoder.logits(tape, start, most.min(first + count - start))?;
            for row in logits.chunks_exact(decoder.shape.vocab_len) {
                match tokens {
                    Some(tokens) => out.extend(tokens.iter().map(|id| row[*id as usize])),
                    None => out.extend_from_slice(row),
                }
            }
        }
        Ok(())
    }
}

/// A model on a tape, with room for as many texts at once as their logits allow.
fn load(gguf: &Gguf, tape: &mut Tape, options: &TrainerOptions) -> Result<Decoder> {
    let context_len = options.sequence_len - 1;
    let table = gguf.need_tensor("token_embd.weight")?;
    let (width, vocab_len) = (table.row_len(), table.len() / table.row_len());
    let sequences = (STREAMS_MAX / width / context_len).clamp(1, options.batch_len);
    let batch_len = sequences * context_len;
    let logit_rows = (LOGITS_AT_ONCE / vocab_len).max(LOGIT_ROWS_MIN);
    let cache = Format::F32;
    let sizes = LoadOptions { context_len, batch_len, cache, sequences, logit_rows };
    arch::load(gguf, tape, &sizes)
}

/// A model that learns.
pub struct Trainer {
    tape: Tape,
    decoder: Decoder,
    pub(super) adam: Adam,
    options: TrainerOptions,
    isa: &'static Isa,
    pub(super) step: u64,
    /// The teacher's logits of the rows at work; empty without a teacher.
    taught: Vec<f32>,
}

impl Trainer {
    /// Loads the model of a file in f32.
    ///
    /// # Errors
    /// As [`crate::Session::open`]; [`Error::Invalid`] for texts of fewer than two tokens.
    pub fn new(gguf: &Gguf, options: TrainerOptions) -> Result<Self> {
        if options.sequence_len < 2 || options.batch_len == 0 {
            let (len, count) = (options.sequence_len, options.batch_len);
            return Err(Error::Invalid(text!(
                "{count} texts of {len} tokens a step, expected at least 1 of 2"
            )));
        }
        let threads = options.threads;
        let mut tape = Tape::new(TapeOptions { threads, ..TapeOptions::default() })?;
        let decoder = load(gguf, &mut tape, &options)?;
        let adam = Adam::new(tape.parameters());
        let isa = attar_kernels::best();
        Ok(Self { tape, decoder, adam, options, isa, step: 0, taught: Vec::new() })
    }

    /// The weights.
    pub fn parameters(&self) -> &[Parameter] {
        self.tape.parameters()
    }

    pub(super) fn learned_mut(&mut self) -> (&mut [Parameter], &mut Adam) {
        (self.tape.parameters_mut().0, &mut self.adam)
    }

    /// Rounds the weights again that products shall use rounded.
    pub(super) fn round(&mut self) {
        let (parameters, threads) = self.tape.parameters_mut();
        parameters.iter_mut().for_each(|parameter| parameter.round(threads));
    }

    /// Steps taken.
    pub fn steps_taken(&self) -> u64 {
        self.step
    }

    /// Tokens of the vocabulary.
    pub fn vocab_len(&self) -> usize {
        self.decoder.shape.vocab_len
    }

    /// Has the forward pass use weights as they will be once they are written in the format that `of` says
    /// for a tensor's name (quantisation-aware training, arXiv 1712.05877).
    pub fn round_to(&mut self, of: &dyn Fn(&str) -> Option<Format>) {
        for parameter in self.tape.parameters_mut().0 {
            if let Some(format) = of(&parameter.pieces()[0].name).filter(|_| parameter.learns()) {
                parameter.round_to(format);
            }
        }
        self.round();
    }

    /// Takes one step over `texts`, each as long as the options say at most.
    ///
    /// # Errors
    /// Those of the teacher; [`Error::Token`] for an id beyond the vocabulary.
    pub fn step(
        &mut self,
        texts: &[&[u32]],
        mut teacher: Option<&mut Teacher>,
    ) -> Result<StepReport> {
        let tokens: usize = texts.iter().map(|ids| ids.len().saturating_sub(1)).sum();
        let at_once = self.decoder.shape.batch_len / (self.options.sequence_len - 1);
        let mut loss = 0.0;
        for texts in texts.chunks(at_once) {
            loss += self.gradients(texts, teacher.as_deref_mut(), 1.0 / tokens as f32)?;
        }
        let (parameters, threads) = self.tape.parameters_mut();
        let TrainerOptions { adam, steps, .. } = &self.options;
        let gradient_norm = self.adam.step(parameters, threads, adam, self.step, *steps);
        self.round();
        self.step += 1;
        Ok(StepReport { loss: loss / tokens as f64, gradient_norm, tokens })
    }

    /// Adds the gradient of `factor` times the loss summed over the texts' tokens to the weights'; returns
    /// that sum. The texts are as many as fit at once.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn gradients(
        &mut self,
        texts: &[&[u32]],
        mut teacher: Option<&mut Teacher>,
        factor: f32,
    ) -> Result<f64> {
        let Self { tape, decoder, options, isa, taught, .. } = self;
        taught.clear();
        let vocab_len = decoder.shape.vocab_len;
        let (mut rows, mut ids, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for (sequence, text) in texts.iter().enumerate() {
            let [inputs @ .., _] = text else { continue };
            let place = |position| Row { sequence: sequence as u32, position: position as u32 };
            rows.extend((0..inputs.len()).map(place));
            ids.extend_from_slice(inputs);
            targets.extend(text[1..].iter().map(|id| *id as usize));
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab_len) {
            return Err(Error::Token { id: *id, vocab_len });
        }
        if let Some(teacher) = teacher.as_deref_mut() {
            if teacher.vocab_len() != vocab_len {
                let found = teacher.vocab_len();
                return Err(Error::Invalid(text!(
                    "a teacher of {found} tokens for a student of {vocab_len}"
                )));
            }
            teacher.forward(&ids, &rows)?;
        }
        tape.forget();
        decoder.forward(tape, &ids, &rows, &|| true)?;
        let mut loss = 0.0;
        let mut gradient = Vec::new();
        for first in (0..rows.len()).step_by(decoder.shape.logit_rows) {
            let count = decoder.shape.logit_rows.min(rows.len() - first);
            let mark = tape.mark();
            gradient.clear();
            gradient.extend_from_slice(decoder.logits(tape, first, count)?);
            if let Some(teacher) = teacher.as_deref_mut() {
                teacher.logits(first, count, taught)?;
            }
            let mut taught = taught.chunks_exact_mut(vocab_len);
            let mut work: Vec<_> = gradient
                .chunks_exact_mut(vocab_len)
                .zip(&targets[first..])
                .map(|(row, target)| (row, taught.next(), *target, 0.0))
                .collect();
            tape.parameters_mut().1.each(&mut work, |_, (row, teacher, target, loss)| {
                *loss = options.loss.back(isa, row, teacher.as_deref_mut(), *target, factor);
            });
            loss += work.iter().map(|(.., loss)| loss).sum::<f64>();
            tape.seed(decoder.logits.first(count), &gradient);
            tape.back_to(mark);
        }
        tape.back_to(super::tape::Mark::START);
        Ok(loss)
    }
}
