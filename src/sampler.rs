//! The choice of a token from logits.
//!
//! The order is fixed: penalties, DRY, top-k, typical, top-p, min-p, temperature, draw. All memory is
//! claimed by [`Sampler::new`]; the same seed gives the same tokens on every machine.

mod penalties;
mod random;

use crate::memory::List;
use crate::{Error, Result};
use attar_kernels::math;
use penalties::History;
use random::Random;

/// How to choose. The default draws from the likeliest few tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerOptions {
    /// Divides the logits, 0 to 100; 0 takes the likeliest token always.
    pub temperature: f32,
    /// Choose among this many of the likeliest; 0 for all.
    pub top_k: usize,
    /// Choose among the likeliest whose probabilities reach this sum, 0 to 1; 1 for all
    /// (arXiv 1904.09751).
    pub top_p: f32,
    /// Drop tokens less likely than this share of the likeliest, 0 to 1; 0 for none
    /// (arXiv 2407.01082).
    pub min_p: f32,
    /// Choose among the tokens of most typical surprise whose probabilities reach this sum, 0 to 1; 1
    /// for all (arXiv 2202.00666).
    pub typical_p: f32,
    /// Divides the positive and multiplies the negative logits of recent tokens, above 0; 1 for off
    /// (arXiv 1909.05858).
    pub repeat_penalty: f32,
    /// Subtracted from the logit of a recent token once for each time it occurred; 0 for off.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of a recent token; 0 for off.
    pub presence_penalty: f32,
    /// How many tokens are recent, for the three above.
    pub penalty_last_n: usize,
    /// Strength of DRY, which lowers tokens that would continue a repetition; 0 for off (pull request
    /// 5677 of text-generation-webui).
    pub dry_multiplier: f32,
    /// What each further token of a repetition multiplies DRY by, at least 1.
    pub dry_base: f32,
    /// Repetitions up to this length cost nothing.
    pub dry_allowed_len: usize,
    /// How far back DRY looks.
    pub dry_last_n: usize,
    /// Same seed, same tokens.
    pub seed: u64,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            penalty_last_n: 64,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_len: 2,
            dry_last_n: 1024,
            seed: 0,
        }
    }
}

/// A token that may be chosen.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
    /// Its probability among the candidates, or, for a while, what they are sorted by.
    p: f32,
}

/// Chooses tokens and remembers them.
pub struct Sampler {
    options: SamplerOptions,
    random: Random,
    history: History,
    candidates: List<Candidate>,
}

/// Neither the history nor its buffers grow beyond this.
const HISTORY_MAX: usize = 1 << 16;

impl SamplerOptions {
    /// Whether earlier tokens change the logits of later ones.
    fn looks_back(&self) -> bool {
        let Self { repeat_penalty, frequency_penalty, presence_penalty, dry_multiplier, .. } =
            *self;
        let penalties = [frequency_penalty, presence_penalty, dry_multiplier];
        repeat_penalty != 1.0 || penalties.iter().any(|penalty| *penalty != 0.0)
    }

    fn check(&self) -> Result<()> {
        let wants = [
            ("temperature", self.temperature, 0.0, 100.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("typical_p", self.typical_p, 0.0, 1.0),
            ("repeat_penalty", self.repeat_penalty, 0.01, 100.0),
            ("frequency_penalty", self.frequency_penalty, -100.0, 100.0),
            ("presence_penalty", self.presence_penalty, -100.0, 100.0),
            ("dry_multiplier", self.dry_multiplier, 0.0, 100.0),
            ("dry_base", self.dry_base, 1.0, 100.0),
            ("penalty_last_n", self.penalty_last_n as f32, 0.0, HISTORY_MAX as f32),
            ("dry_last_n", self.dry_last_n as f32, 0.0, HISTORY_MAX as f32),
        ];
        for (name, value, least, most) in wants {
            if !(least..=most).contains(&value) {
                return Err(Error::Option { name, value, least, most });
            }
        }
        Ok(())
    }
}

impl Sampler {
    /// A sampler for logits of `vocab_len` tokens.
    ///
    /// # Errors
    /// [`Error::Option`] naming the one that is out of its range, [`Error::Memory`].
    pub fn new(options: &SamplerOptions, vocab_len: usize) -> Result<Self> {
        options.check()?;
        let blank = Candidate { id: 0, logit: 0.0, p: 0.0 };
        let candidates = List::claim(vocab_len, blank)?;
        let history = History::new(options)?;
        Ok(Self { options: *options, random: Random::new(options.seed), history, candidates })
    }

    /// Ids that end a repetition for DRY, such as those of line ends; at most eight are kept.
    pub fn set_dry_breakers(&mut self, ids: &[u32]) {
        self.history.set_breakers(ids);
    }

    /// Chooses by other options from now on; the place in the seed's sequence stays, and `seed` is
    /// not looked at.
    ///
    /// # Errors
    /// [`Error::Option`] naming the one that is out of its range, [`Error::Limit`] if more tokens
    /// are to be recent than [`Sampler::new`] claimed memory for. The options are the old ones then.
    pub fn configure(&mut self, options: &SamplerOptions) -> Result<()> {
        options.check()?;
        if !self.history.has_room_for(options) {
            return Err(Error::Limit("more recent tokens than the sampler has room for".into()));
        }
        self.options = *options;
        Ok(())
    }

    /// The place in the seed's sequence.
    pub fn random_state(&self) -> [u64; 4] {
        self.random.0
    }

    /// Goes to a place in a seed's sequence; all zero is none and becomes that of seed 0.
    pub fn set_random_state(&mut self, state: [u64; 4]) {
        self.random = if state == [0; 4] { Random::new(0) } else { Random(state) };
    }

    /// Starts the sequence of another seed.
    pub fn reseed(&mut self, seed: u64) {
        self.random = Random::new(seed);
    }

    /// Remembers these tokens instead of all it remembered, for the penalties.
    pub fn replay(&mut self, ids: &[u32]) {
        self.history.clear();
        ids.iter().for_each(|id| self.history.push(*id));
    }

    /// Remembers a token, of the prompt or generated, for the penalties.
    pub fn accept(&mut self, id: u32) {
        self.history.push(id);
    }

    /// Forgets all tokens and starts the seed's sequence again.
    pub fn reset(&mut self) {
        self.history.clear();
        self.random = Random::new(self.options.seed);
    }

    /// Chooses a token. `logits` has a number a token of the vocabulary; the penalties are applied to
    /// it in place. NaN counts as minus infinity; where nothing is possible, 0 is chosen. Of equals
    /// the lower id goes first.
    pub fn sample(&mut self, logits: &mut [f32]) -> u32 {
        for logit in logits.iter_mut().filter(|logit| logit.is_nan()) {
            *logit = f32::NEG_INFINITY;
        }
        self.history.penalize(&self.options, logits);
        self.history.apply_dry(&self.options, logits);
        if self.options.temperature == 0.0 {
            return likeliest(logits);
        }
        self.collect(logits);
        self.choose()
    }

    /// Chooses among the candidates.
    fn choose(&mut self) -> u32 {
        self.keep_typical();
        self.keep_top_p();
        self.keep_min_p();
        self.draw()
    }

    /// How many of the largest logits are all it looks at; `None` where it needs every one.
    pub fn candidates(&self) -> Option<usize> {
        match self.options {
            options if options.looks_back() => None,
            SamplerOptions { temperature: 0.0, .. } => Some(1),
            SamplerOptions { top_k, .. } => Some(top_k).filter(|k| *k > 0),
        }
    }

    /// Chooses as [`Sampler::sample`] would, from the [`Sampler::candidates`] largest logits with their
    /// tokens: largest first, of equals the lower token.
    pub fn sample_among(&mut self, largest: &[(f32, u32)]) -> u32 {
        let possible = largest.iter().filter(|(logit, _)| *logit > f32::NEG_INFINITY);
        self.candidates.clear();
        for (logit, id) in possible {
            self.candidates.push(Candidate { id: *id, logit: *logit, p: 0.0 });
        }
        if self.options.temperature == 0.0 {
            return self.candidates.first().map_or(0, |c| c.id);
        }
        self.choose()
    }

    /// The candidates, likeliest first, at most `top_k`.
    fn collect(&mut self, logits: &[f32]) {
        self.candidates.clear();
        let k = if self.options.top_k == 0 { usize::MAX } else { self.options.top_k };
        // A logit must beat the k-th best so far; few do. A NaN beats nothing.
        let mut least = f32::NEG_INFINITY;
        for (id, &logit) in logits.iter().enumerate() {
            if logit > least {
                self.candidates.push(Candidate { id: id as u32, logit, p: 0.0 });
                if self.candidates.len() == k.saturating_mul(2) {
                    self.keep_likeliest(k);
                    least = self.candidates[k - 1].logit;
                }
            }
        }
        if k < self.candidates.len() {
            self.keep_likeliest(k);
        }
        self.candidates.sort_unstable_by(likelier);
    }

    /// Leaves `k` candidates, of which there must be as many, the least likely of them last.
    fn keep_likeliest(&mut self, k: usize) {
        self.candidates.select_nth_unstable_by(k - 1, likelier);
        self.candidates.truncate(k);
    }

    /// Probabilities of the candidates.
    fn normalize(&mut self, temperature: f32) {
        let Some(max) = self.candidates.first().map(|c| c.logit) else { return };
        let mut sum = 0.0;
        for c in self.candidates.iter_mut() {
            // An infinite logit leaves no room for others.
            let distance = if c.logit == max { 0.0 } else { (c.logit - max) / temperature };
            c.p = math::exp(distance);
            sum += c.p;
        }
        self.candidates.iter_mut().for_each(|c| c.p /= sum);
    }

    fn keep_typical(&mut self) {
        if self.options.typical_p >= 1.0 {
            return;
        }
        self.normalize(1.0);
        let surprise = |c: &Candidate| if c.p > 0.0 { -math::ln(c.p) } else { f32::MAX };
        let entropy: f32 =
            self.candidates.iter().filter(|c| c.p > 0.0).map(|c| c.p * surprise(c)).sum();
        let distance = |c: &Candidate| (surprise(c) - entropy).abs();
        self.candidates.sort_unstable_by(|a, b| {
            distance(a).total_cmp(&distance(b)).then_with(|| likelier(a, b))
        });
        self.keep_sum(self.options.typical_p);
        self.candidates.sort_unstable_by(likelier);
    }

    fn keep_top_p(&mut self) {
        if self.options.top_p < 1.0 {
            self.normalize(1.0);
            self.keep_sum(self.options.top_p);
        }
    }

    /// Keeps the first candidates whose probabilities reach `sum`, at least one.
    fn keep_sum(&mut self, sum: f32) {
        let mut reached = 0.0;
        let place = self.candidates.iter().position(|c| {
            reached += c.p;
            reached >= sum
        });
        self.candidates.truncate(place.map_or(usize::MAX, |place| place + 1));
    }

    fn keep_min_p(&mut self) {
        if self.options.min_p > 0.0 {
            self.normalize(1.0);
            let least = self.candidates.first().map_or(0.0, |c| c.p * self.options.min_p);
            let kept = self.candidates.iter().take_while(|c| c.p >= least).count();
            self.candidates.truncate(kept.max(1));
        }
    }

    fn draw(&mut self) -> u32 {
        self.normalize(self.options.temperature);
        let point = self.random.unit();
        let mut reached = 0.0;
        let chosen = self.candidates.iter().find(|c| {
            reached += f64::from(c.p);
            point < reached
        });
        // Rounding may leave the sum just below the point.
        chosen.or(self.candidates.last()).map_or(0, |c| c.id)
    }
}

/// Higher logits first, of equals the lower id: an order without ties.
fn likelier(a: &Candidate, b: &Candidate) -> core::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}
