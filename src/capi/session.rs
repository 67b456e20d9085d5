//! Sessions: a text under way.
//!
//! The tokens held are written down; their keys and values may lag one token behind, as a token just
//! chosen is fed only when the one after it is wanted. So taking tokens back and loading a state need
//! no logits: the last token is fed again, which gives the same bits.

use super::config::Config;
use super::failure::{Failure, Outcome, Status, failure, wrong};
use super::lent::{Clock, Working};
use super::model::Model;
use super::stops::STOP_LEN_MAX;
use crate::memory::{Block, List};
use crate::session::{Readout, log_probability, log_total};
use crate::tokenizer::TextStream;
use crate::{Format, Sampler, SamplerOptions};
use core::sync::atomic::{AtomicBool, Ordering};

/// Tokens that can be recent for the repeat penalty.
pub(super) const RECENT_MAX: usize = 256;

/// What the handle of a session has.
pub(super) struct Conversation {
    pub(super) session: Working,
    pub(super) sampler: Sampler,
    pub(super) stream: TextStream,
    pub(super) model: &'static Model,
    /// All tokens held.
    pub(super) tokens: List<u32>,
    /// What follows the last token, if `fresh`.
    logits: Block<f32>,
    pub(super) fresh: bool,
    /// The bytes of the token at work.
    pub(super) piece: List<u8>,
    /// Text that is not handed out yet.
    pub(super) waiting: List<u8>,
    pub(super) clock: Clock,
    pub(super) seed: u64,
    /// Encoding of keys and values.
    pub(super) cache: Format,
    pub(super) counts: Counts,
}

/// What was done so far.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) fed: u64,
    pub(super) generated: u64,
}

/// When a call under way is to end: asked before every layer.
pub(super) struct Watch<'a> {
    pub(super) cancel: &'a AtomicBool,
    pub(super) clock: Clock,
    /// By the clock.
    pub(super) deadline: Option<u64>,
}

impl Watch<'_> {
    pub(super) fn go_on(&self) -> bool {
        !self.cancel.load(Ordering::Relaxed) && !self.is_late()
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.clock.now().is_some_and(|now| now >= deadline))
    }

    /// Whether it was the caller who asked to stop; uses the cancellation up.
    pub(super) fn take_cancel(&self) -> bool {
        self.cancel.swap(false, Ordering::Relaxed)
    }
}

impl Conversation {
    pub(super) fn open(model: &'static Model, config: &Config) -> Outcome<Self> {
        let Config { options, clock, seed, .. } = *config;
        let session = Working::open(&model.file.gguf, config).map_err(Failure::in_file)?;
        let vocab_len = session.vocab_len();
        let chosen =
            SamplerOptions { penalty_last_n: RECENT_MAX, seed, ..SamplerOptions::default() };
        let sampler = Sampler::new(&chosen, vocab_len)?;
        let stream = TextStream::new(&model.tokenizer)?;
        let piece_len = model.tokenizer.piece_len_max();
        Ok(Self {
            tokens: List::claim(session.context_len(), 0)?,
            logits: Block::claim(vocab_len, 0.0)?,
            fresh: false,
            piece: List::claim(piece_len, 0)?,
            // A piece may complete a character and be all U+FFFD.
            waiting: List::claim(3 * (piece_len + 4) + STOP_LEN_MAX, 0)?,
            clock,
            seed,
            cache: options.cache,
            counts: Counts::default(),
            session,
            sampler,
            stream,
            model,
        })
    }

    /// Feeds the tokens whose keys and values are missing, and keeps what follows the last.
    pub(super) fn catch_up(&mut self, watch: &Watch<'_>) -> Outcome<()> {
        if self.fresh || self.tokens.is_empty() {
            return Ok(());
        }
        let fed = self.session.position().min(self.tokens.len() - 1);
        self.session.truncate(fed)?;
        let result = self.session.feed_while(&self.tokens[fed..], &|| watch.go_on());
        let result = result.map(|logits| {
            self.logits.copy_from_slice(logits);
            self.fresh = true;
        });
        self.counts.fed += (self.session.position() - fed) as u64;
        result.map_err(Failure::from)
    }

    /// Appends tokens; says how many, also if it is cancelled.
    pub(super) fn prefill(&mut self, ids: &[u32], watch: &Watch<'_>) -> (usize, Outcome<()>) {
        if let Err(failure) = self.check(ids) {
            return (0, Err(failure));
        }
        let held = self.tokens.len();
        ids.iter().for_each(|id| self.tokens.push(*id));
        self.fresh = false;
        let result = self.catch_up(watch);
        if result.is_err() {
            self.tokens.truncate(self.session.position().max(held));
        }
        (self.tokens.len() - held, result)
    }

    pub(super) fn check(&self, ids: &[u32]) -> Outcome<()> {
        if ids.is_empty() {
            return Err(wrong("no tokens"));
        }
        let vocab_len = self.session.vocab_len();
        if ids.iter().any(|id| *id as usize >= vocab_len) {
            return Err(wrong("a token beyond the vocabulary"));
        }
        if ids.len() > self.session.context_len() - self.tokens.len() {
            return Err(failure(Status::ContextFull, "the context has no room for so many tokens"));
        }
        Ok(())
    }

    /// Keeps the first `count` tokens.
    pub(super) fn rewind(&mut self, count: usize) -> Outcome<()> {
        if count > self.tokens.len() {
            return Err(wrong("fewer tokens are held"));
        }
        if count < self.tokens.len() {
            self.tokens.truncate(count);
            self.fresh = false;
            let fed = self.session.position().min(count);
            self.session.truncate(fed)?;
        }
        if count == 0 {
            self.sampler.reseed(self.seed);
        }
        Ok(())
    }

    /// Floats [`Conversation::logits`] gives.
    pub(super) fn vocab_len(&self) -> usize {
        self.logits.len()
    }

    /// What follows the tokens held.
    pub(super) fn logits(&mut self, watch: &Watch<'_>) -> Outcome<&[f32]> {
        if self.tokens.is_empty() {
            return Err(failure(Status::State, "no token is held"));
        }
        self.catch_up(watch)?;
        Ok(&self.logits)
    }

    /// Chooses the next token and appends it; its log probability before penalties and temperature, if
    /// it is wanted.
    pub(super) fn step(&mut self, watch: &Watch<'_>, logprob: bool) -> Outcome<(u32, f32)> {
        if self.tokens.is_empty() {
            return Err(failure(Status::State, "no token is held"));
        }
        if self.tokens.len() == self.session.context_len() {
            return Err(failure(Status::ContextFull, "the context is full"));
        }
        self.catch_up(watch)?;
        let recent = &self.tokens[self.tokens.len().saturating_sub(RECENT_MAX)..];
        self.sampler.replay(recent);
        // Penalties change the logits of recent tokens, and of no others.
        let mut before = [0.0; RECENT_MAX];
        for (logit, id) in before.iter_mut().zip(recent) {
            *logit = self.logits[*id as usize];
        }
        let total = if logprob { log_total(&self.logits) } else { f64::NAN };
        let id = self.sampler.sample(&mut self.logits);
        self.fresh = false;
        let penalized = recent.iter().position(|token| *token == id);
        let logit = penalized.map_or(self.logits[id as usize], |place| before[place]);
        let logprob = (f64::from(logit) - total) as f32;
        self.tokens.push(id);
        self.counts.generated += 1;
        Ok((id, logprob))
    }

    /// Evaluates tokens after those held, which are fed already, and forgets them again.
    fn aside(
        &mut self,
        what: Readout,
        ids: &[u32],
        watch: &Watch<'_>,
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Outcome<()> {
        let held = self.session.position();
        let result = self.session.read_each(what, ids, &|| watch.go_on(), each);
        self.counts.fed += (self.session.position() - held) as u64;
        self.session.truncate(held)?;
        result.map_err(Failure::from)
    }

    /// Log probabilities of tokens after those held, the first `given` of them counting as held;
    /// returns their sum.
    pub(super) fn score(
        &mut self,
        ids: &[u32],
        given: usize,
        mut logprobs: Option<&mut [f32]>,
        watch: &Watch<'_>,
    ) -> Outcome<f64> {
        self.check(ids)?;
        if given > ids.len() {
            return Err(wrong("n_given is more than n"));
        }
        if self.tokens.is_empty() && given == 0 {
            return Err(wrong("an empty session cannot tell how likely a first token is"));
        }
        self.catch_up(watch)?;
        let mut sum = 0.0;
        let mut add = |i: usize, logits: &[f32]| {
            let Some(place) = i.checked_sub(given) else { return };
            let logprob = log_probability(logits, ids[i]);
            sum += logprob;
            if let Some(room) = logprobs.as_deref_mut() {
                room[place] = logprob as f32;
            }
        };
        if given == 0 {
            add(0, &self.logits);
        }
        if ids.len() > 1 {
            let fed = &ids[..ids.len() - 1];
            self.aside(Readout::Logits, fed, watch, &mut |i, logits| add(i + 1, logits))?;
        }
        Ok(sum)
    }

    /// The last layer's output for tokens after those held: their mean, or that of the last.
    pub(super) fn embed(
        &mut self,
        ids: &[u32],
        mean: bool,
        out: &mut [f32],
        watch: &Watch<'_>,
    ) -> Outcome<()> {
        self.check(ids)?;
        self.catch_up(watch)?;
        out.fill(0.0);
        self.aside(Readout::States, ids, watch, &mut |i, state| {
            if mean {
                out.iter_mut().zip(state).for_each(|(sum, value)| *sum += value);
            } else if i == ids.len() - 1 {
                out.copy_from_slice(state);
            }
        })?;
        if mean {
            out.iter_mut().for_each(|sum| *sum /= ids.len() as f32);
        }
        Ok(())
    }
}
