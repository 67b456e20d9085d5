//! What lowers the logits of tokens that were there before.

use super::SamplerOptions;
use crate::{Error, Result};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use attar_kernels::math;

const BREAKERS_MAX: usize = 8;

/// The latest tokens, and buffers for what is counted over them.
pub(super) struct History {
    /// Oldest first.
    tokens: VecDeque<u32>,
    len_max: usize,
    /// Tokens in order, for counting equal ones.
    sorted: Vec<u32>,
    /// `(token, length of the repetition it would continue)`.
    repeats: Vec<(u32, usize)>,
    /// The tokens from the last back, up to a breaker, and their Z function.
    reversed: Vec<u32>,
    z: Vec<usize>,
    breakers: Vec<u32>,
}

impl History {
    pub(super) fn new(options: &SamplerOptions) -> Result<Self> {
        let dry = if options.dry_multiplier > 0.0 { options.dry_last_n } else { 0 };
        let len_max = options.penalty_last_n.max(dry);
        let limit = |_| Error::Limit("no memory for the sampler's history".into());
        let mut history = Self {
            tokens: VecDeque::new(),
            len_max,
            sorted: Vec::new(),
            repeats: Vec::new(),
            reversed: Vec::new(),
            z: Vec::new(),
            breakers: Vec::new(),
        };
        history.tokens.try_reserve_exact(len_max).map_err(limit)?;
        history.sorted.try_reserve_exact(options.penalty_last_n).map_err(limit)?;
        history.repeats.try_reserve_exact(dry).map_err(limit)?;
        history.reversed.try_reserve_exact(dry).map_err(limit)?;
        history.z.try_reserve_exact(dry).map_err(limit)?;
        history.breakers.try_reserve_exact(BREAKERS_MAX).map_err(limit)?;
        Ok(history)
    }

    pub(super) fn set_breakers(&mut self, ids: &[u32]) {
        self.breakers.clear();
        self.breakers.extend(ids.iter().take(BREAKERS_MAX));
    }

    pub(super) fn push(&mut self, id: u32) {
        if self.len_max == 0 {
            return;
        }
        if self.tokens.len() == self.len_max {
            self.tokens.pop_front();
        }
        self.tokens.push_back(id);
    }

    pub(super) fn clear(&mut self) {
        self.tokens.clear();
    }

    /// Repetition, frequency and presence penalties.
    pub(super) fn penalize(&mut self, options: &SamplerOptions, logits: &mut [f32]) {
        let (frequency, presence) = (options.frequency_penalty, options.presence_penalty);
        if options.repeat_penalty == 1.0 && frequency == 0.0 && presence == 0.0 {
            return;
        }
        self.sorted.clear();
        self.sorted.extend(self.tokens.iter().rev().take(options.penalty_last_n));
        self.sorted.sort_unstable();
        for equal in self.sorted.chunk_by(|a, b| a == b) {
            let Some(logit) = logits.get_mut(equal[0] as usize) else { continue };
            match *logit > 0.0 {
                true => *logit /= options.repeat_penalty,
                false => *logit *= options.repeat_penalty,
            }
            *logit -= frequency * equal.len() as f32 + presence;
        }
    }

    /// DRY: a token that followed an earlier occurrence of the text's end is lowered by
    /// `multiplier * base^(length of that end - allowed length)`.
    pub(super) fn apply_dry(&mut self, options: &SamplerOptions, logits: &mut [f32]) {
        if options.dry_multiplier == 0.0 {
            return;
        }
        let latest = self.tokens.iter().rev().take(options.dry_last_n);
        self.reversed.clear();
        self.reversed.extend(latest.take_while(|id| !self.breakers.contains(id)));
        z_function(&self.reversed, &mut self.z);
        self.repeats.clear();
        // An end repeated `i` tokens back was followed by the token at `i - 1`.
        for i in 1..self.reversed.len() {
            if self.z[i] >= options.dry_allowed_len.max(1) {
                self.repeats.push((self.reversed[i - 1], self.z[i]));
            }
        }
        self.repeats.sort_unstable();
        for same in self.repeats.chunk_by(|a, b| a.0 == b.0) {
            let (id, len) = same[same.len() - 1]; // the longest is the last
            let Some(logit) = logits.get_mut(id as usize) else { continue };
            let excess = (len - options.dry_allowed_len) as f32;
            *logit -= (options.dry_multiplier * math::pow(options.dry_base, excess)).min(1e30);
        }
    }
}

/// `z[i]`: how many tokens from `i` on equal those from the start (Gusfield, 1997); linear time.
fn z_function(text: &[u32], z: &mut Vec<usize>) {
    z.clear();
    z.resize(text.len(), 0);
    let (mut left, mut right) = (0, 0);
    for i in 1..text.len() {
        let mut len = if i < right { z[i - left].min(right - i) } else { 0 };
        while i + len < text.len() && text[len] == text[i + len] {
            len += 1;
        }
        z[i] = len;
        if i + len > right {
            (left, right) = (i, i + len);
        }
    }
}
