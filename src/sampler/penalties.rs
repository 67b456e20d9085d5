//! What lowers the logits of tokens that were there before.

use super::SamplerOptions;
use crate::Result;
use crate::memory::{self, Block, List};
use attar_kernels::math;

const BREAKERS_MAX: usize = 8;

/// The latest tokens, and buffers for what is counted over them.
pub(super) struct History {
    tokens: Ring,
    /// Tokens in order, for counting equal ones.
    sorted: List<u32>,
    /// Where in `reversed` the text's end occurs again.
    repeats: List<u32>,
    /// The tokens from the last back, up to a breaker, and their Z function.
    reversed: List<u32>,
    z: Block<usize>,
    breakers: List<u32>,
}

/// As many tokens as there is room for, the latest ones.
struct Ring {
    room: Block<u32>,
    /// Where the next token goes.
    next: usize,
    len: usize,
}

impl Ring {
    fn push(&mut self, id: u32) {
        if let Some(place) = self.room.get_mut(self.next) {
            *place = id;
            self.next = (self.next + 1) % self.room.len();
            self.len = self.room.len().min(self.len + 1);
        }
    }

    /// From the latest back.
    fn latest(&self) -> impl Iterator<Item = u32> {
        let (before, after) = self.room.split_at(self.next);
        before.iter().rev().chain(after.iter().rev()).take(self.len).copied()
    }
}

impl History {
    pub(super) fn new(options: &SamplerOptions) -> Result<Self> {
        let dry = if options.dry_multiplier > 0.0 { options.dry_last_n } else { 0 };
        let room = Block::claim(options.penalty_last_n.max(dry), 0)?;
        Ok(Self {
            tokens: Ring { room, next: 0, len: 0 },
            sorted: List::claim(options.penalty_last_n, 0)?,
            repeats: List::claim(dry, 0)?,
            reversed: List::claim(dry, 0)?,
            z: Block::claim(dry, 0)?,
            breakers: List::claim(BREAKERS_MAX, 0)?,
        })
    }

    /// Whether its buffers are long enough for these options.
    pub(super) fn has_room_for(&self, options: &SamplerOptions) -> bool {
        let dry = if options.dry_multiplier > 0.0 { options.dry_last_n } else { 0 };
        options.penalty_last_n <= self.sorted.room() && dry <= self.reversed.room()
    }

    pub(super) fn set_breakers(&mut self, ids: &[u32]) {
        self.breakers.set(ids.iter().copied());
    }

    pub(super) fn push(&mut self, id: u32) {
        self.tokens.push(id);
    }

    pub(super) fn clear(&mut self) {
        self.tokens.len = 0;
    }

    /// Repetition, frequency and presence penalties.
    pub(super) fn penalize(&mut self, options: &SamplerOptions, logits: &mut [f32]) {
        let (frequency, presence) = (options.frequency_penalty, options.presence_penalty);
        if options.repeat_penalty == 1.0 && frequency == 0.0 && presence == 0.0 {
            return;
        }
        self.sorted.set(self.tokens.latest().take(options.penalty_last_n));
        memory::sort_by_key(&mut self.sorted, |id| id);
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
        let latest = self.tokens.latest().take(options.dry_last_n);
        self.reversed.set(latest.take_while(|id| !self.breakers.contains(id)));
        z_function(&self.reversed, &mut self.z[..self.reversed.len()]);
        self.repeats.clear();
        for i in 1..self.reversed.len() {
            if self.z[i] >= options.dry_allowed_len.max(1) {
                self.repeats.push(i as u32);
            }
        }
        // An end repeated `i` tokens back was followed by the token at `i - 1`.
        let (reversed, z) = (&self.reversed, &self.z);
        let next = |i: u32| reversed[i as usize - 1];
        memory::sort_by_key(&mut self.repeats, |i| (next(i), z[i as usize]));
        for same in self.repeats.chunk_by(|a, b| next(*a) == next(*b)) {
            let longest = same[same.len() - 1];
            let Some(logit) = logits.get_mut(next(longest) as usize) else { continue };
            let excess = (z[longest as usize] - options.dry_allowed_len) as f32;
            *logit -= (options.dry_multiplier * math::pow(options.dry_base, excess)).min(1e30);
        }
    }
}

/// `z[i]`, `i` not 0: how many tokens from `i` on equal those from the start (Gusfield, 1997); linear
/// time.
fn z_function(text: &[u32], z: &mut [usize]) {
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
