//! `attar score`: how probable a text is.

use super::model::{self, Cache, SessionArgs};
use super::terminal;
use attar::{Result, Tokenizer};
use std::path::PathBuf;

/// Give the probability of texts
#[derive(clap::Args)]
#[command(after_help = "Example:
  attar score model.gguf 'I am happy.' 'I are happy.'
Probabilities are natural logarithms. The first token is conditioned on the beginning-of-sequence token
where the vocabulary has one; without one it counts as given.")]
pub(crate) struct Args {
    /// A GGUF file
    model: PathBuf,
    /// Texts
    #[arg(required = true)]
    text: Vec<String>,
    /// Print one JSON array, with the tokens
    #[arg(long)]
    json: bool,
    /// Encoding of the key-value cache
    #[arg(long, value_enum, default_value_t = Cache::F32)]
    cache: Cache,
    #[command(flatten)]
    session: SessionArgs,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let gguf = model::open(Some(&args.model))?;
    let tokenizer = Tokenizer::load(&gguf)?;
    let mut session = args.session.open(&gguf, args.cache)?;
    terminal::cancel_on_interrupt(session.cancel_flag())?;
    let mut reports = Vec::new();
    if !args.json {
        terminal::print_line("     logprob  bits/byte  text")?;
    }
    for text in &args.text {
        let score = session.score_text(&tokenizer, text.as_bytes())?;
        if args.json {
            let tokens = score.tokens.iter().map(|(id, logprob)| {
                let piece = tokenizer.piece(*id)?;
                let piece = String::from_utf8_lossy(&piece);
                Ok(serde_json::json!({"id": id, "piece": piece, "logprob": logprob}))
            });
            reports.push(serde_json::json!({
                "text": text,
                "logprob": score.logprob,
                "bits_per_byte": score.bits_per_byte,
                "tokens": tokens.collect::<Result<Vec<_>>>()?,
            }));
        } else {
            let (logprob, bits) = (score.logprob, score.bits_per_byte);
            terminal::print_line(&format!("{logprob:>12.4}  {bits:>9.4}  {text}"))?;
            for (id, logprob) in &score.tokens {
                let piece = tokenizer.piece(*id)?;
                let piece = String::from_utf8_lossy(&piece);
                terminal::print_line(&format!("{logprob:>12.4}             '{piece}' ({id})"))?;
            }
        }
    }
    if args.json {
        terminal::print_json(&reports.into())?;
    }
    Ok(())
}
