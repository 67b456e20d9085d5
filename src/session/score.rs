//! The probability of a text: the chain rule over its tokens.

use super::Session;
use crate::memory;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use alloc::vec::Vec;
use attar_kernels::math::{exp, ln64};

/// Natural-log probability of a text under a model.
#[derive(Debug)]
pub struct Score {
    /// Sum of the tokens' log probabilities: `ln P(text)`.
    pub logprob: f64,
    /// `-log2 P(text)` divided by the text's length in bytes.
    pub bits_per_byte: f64,
    /// Each token with the log probability the model gave it.
    pub tokens: Vec<(u32, f64)>,
}

impl Session {
    /// Scores a text from an empty context.
    ///
    /// Its first token is conditioned on the vocabulary's beginning-of-sequence token; where there
    /// is none, it counts as given.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty text, and as [`Session::feed`].
    pub fn score_text(&mut self, tokenizer: &Tokenizer, text: &[u8]) -> Result<Score> {
        let ids = tokenizer.encode(text, false, false)?;
        if ids.is_empty() {
            return Err(Error::Invalid("an empty text has no probability".into()));
        }
        let mut tokens = memory::collect(ids.iter().map(|id| (*id, 0.0)))?;
        let mut fed = memory::reserved(ids.len())?;
        memory::append(&mut fed, tokenizer.bos().as_slice())?;
        memory::append(&mut fed, &ids[..ids.len() - 1])?;
        let given = ids.len() - fed.len();
        self.clear();
        if !fed.is_empty() {
            self.feed_each(&fed, &mut |i, logits| {
                let (id, probability) = &mut tokens[given + i];
                *probability = log_probability(logits, *id);
            })?;
        }
        let logprob: f64 = tokens.iter().map(|(_, p)| p).sum();
        let bits_per_byte = -logprob / core::f64::consts::LN_2 / text.len() as f64;
        Ok(Score { logprob, bits_per_byte, tokens })
    }
}

/// Natural logarithm of the softmax of `logits` at `id`.
pub fn log_probability(logits: &[f32], id: u32) -> f64 {
    f64::from(logits[id as usize]) - log_total(logits)
}

/// Logarithm of the sum of the exponentials of `logits`: what is subtracted from a logit to make it a
/// log probability. Exponentials are f32, as small cores have no f64; their errors average out.
pub fn log_total(logits: &[f32]) -> f64 {
    let max = logits.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
    let sum: f64 = logits.iter().map(|v| f64::from(exp(v - max))).sum();
    f64::from(max) + ln64(sum)
}
