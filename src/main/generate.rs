//! Generating text: the loop that `run`, `chat` and `bench` share, and its options.

use attar::tokenizer::TextStream;
use attar::{Error, Result, Sampler, SamplerOptions, Session, Tokenizer};
use std::time::{Duration, Instant};

/// How tokens are chosen. The order: penalties, DRY, top-k, typical, top-p, min-p, temperature.
#[derive(clap::Args)]
#[command(next_help_heading = "Choice of tokens")]
pub(crate) struct SamplerArgs {
    /// Randomness; 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = SamplerOptions::default().temperature)]
    temp: f32,
    /// Choose among the K likeliest; 0 for all
    #[arg(long, value_name = "K", default_value_t = SamplerOptions::default().top_k)]
    top_k: usize,
    /// Choose among the likeliest that together have probability P; 1 for all
    #[arg(long, value_name = "P", default_value_t = SamplerOptions::default().top_p)]
    top_p: f32,
    /// Drop tokens less likely than P times the likeliest; 0 for none
    #[arg(long, value_name = "P", default_value_t = SamplerOptions::default().min_p)]
    min_p: f32,
    /// Choose among the most typical that together have probability P; 1 for all
    #[arg(long, value_name = "P", default_value_t = SamplerOptions::default().typical_p)]
    typical: f32,
    /// Divide the logits of recent tokens; 1 for off
    #[arg(long, value_name = "X", default_value_t = SamplerOptions::default().repeat_penalty)]
    repeat_penalty: f32,
    /// Lower the logits of recent tokens by X for each time they occurred
    #[arg(long, value_name = "X", default_value_t = SamplerOptions::default().frequency_penalty)]
    frequency_penalty: f32,
    /// Lower the logits of recent tokens by X
    #[arg(long, value_name = "X", default_value_t = SamplerOptions::default().presence_penalty)]
    presence_penalty: f32,
    /// How many tokens are recent
    #[arg(long, value_name = "N", default_value_t = SamplerOptions::default().penalty_last_n)]
    repeat_last_n: usize,
    /// Strength of DRY, which lowers tokens that would go on with a repetition; 0 for off
    #[arg(long, value_name = "X", default_value_t = SamplerOptions::default().dry_multiplier)]
    dry_multiplier: f32,
    /// How fast DRY grows with the length of the repetition
    #[arg(long, value_name = "X", default_value_t = SamplerOptions::default().dry_base)]
    dry_base: f32,
    /// Repetitions up to this many tokens are allowed by DRY
    #[arg(long, value_name = "N", default_value_t = SamplerOptions::default().dry_allowed_len)]
    dry_allowed_len: usize,
    /// Same seed, same text [default: from the clock]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

impl SamplerArgs {
    /// A sampler, and the seed it has.
    pub(crate) fn sampler(&self, vocab_len: usize) -> Result<(Sampler, u64)> {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = self.seed.unwrap_or_else(|| clock.map_or(0, |now| now.as_millis() as u64));
        let options = SamplerOptions {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical,
            repeat_penalty: self.repeat_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            penalty_last_n: self.repeat_last_n,
            dry_multiplier: self.dry_multiplier,
            dry_base: self.dry_base,
            dry_allowed_len: self.dry_allowed_len,
            seed,
            ..SamplerOptions::default()
        };
        Ok((Sampler::new(&options, vocab_len)?, seed))
    }
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The model said so.
    EndOfText,
    /// As many tokens as were asked for.
    Length,
    /// No room in the context.
    ContextFull,
    /// The cancel flag was set.
    Interrupted,
}

impl Stop {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EndOfText => "end of text",
            Self::Length => "length",
            Self::ContextFull => "context full",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What a generation took.
pub(crate) struct Report {
    pub(crate) prompt_tokens: usize,
    pub(crate) generated_tokens: usize,
    pub(crate) prompt_time: Duration,
    pub(crate) generation_time: Duration,
    pub(crate) stop: Stop,
}

impl Report {
    pub(crate) fn prompt_rate(&self) -> f64 {
        self.prompt_tokens as f64 / self.prompt_time.as_secs_f64().max(1e-9)
    }

    /// The first token counts with the prompt.
    pub(crate) fn generation_rate(&self) -> f64 {
        self.generated_tokens.saturating_sub(1) as f64
            / self.generation_time.as_secs_f64().max(1e-9)
    }
}

/// Everything needed to go on with a text.
pub(crate) struct Generator {
    pub(crate) session: Session,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) sampler: Sampler,
    stream: TextStream,
    logits: Vec<f32>,
}

impl Generator {
    pub(crate) fn new(session: Session, tokenizer: Tokenizer, sampler: Sampler) -> Result<Self> {
        let logits = vec![0.0; session.vocab_len()];
        let stream = TextStream::new(&tokenizer)?;
        Ok(Self { session, tokenizer, sampler, stream, logits })
    }

    /// Feeds `ids`, then generates up to `len` tokens, handing each complete bit of text to `each`.
    /// Allocates nothing.
    pub(crate) fn generate(
        &mut self,
        ids: &[u32],
        len: usize,
        each: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Report> {
        let start = Instant::now();
        ids.iter().for_each(|id| self.sampler.accept(*id));
        let mut report = Report {
            prompt_tokens: ids.len(),
            generated_tokens: 0,
            prompt_time: Duration::ZERO,
            generation_time: Duration::ZERO,
            stop: Stop::Length,
        };
        let mut chosen = self.choose(ids);
        report.prompt_time = start.elapsed();
        let start = Instant::now();
        while report.generated_tokens < len {
            if chosen == Err(Error::Cancelled) {
                report.stop = Stop::Interrupted;
                break;
            }
            let id = chosen?;
            self.sampler.accept(id);
            if self.tokenizer.is_end_of_text(id) {
                report.stop = Stop::EndOfText;
                break;
            }
            report.generated_tokens += 1;
            each(self.stream.push(&self.tokenizer, id)?)?;
            if report.generated_tokens == len {
                break;
            }
            if self.session.position() == self.session.context_len() {
                report.stop = Stop::ContextFull;
                break;
            }
            chosen = self.choose(&[id]);
        }
        each(self.stream.finish())?;
        report.generation_time = start.elapsed();
        Ok(report)
    }

    /// Feeds one token and chooses the next.
    pub(crate) fn step(&mut self, id: u32) -> Result<u32> {
        let id = self.choose(&[id])?;
        self.sampler.accept(id);
        self.stream.push(&self.tokenizer, id)?;
        Ok(id)
    }

    fn choose(&mut self, ids: &[u32]) -> Result<u32> {
        self.session.choose(ids, &mut self.sampler, &mut self.logits)
    }
}
