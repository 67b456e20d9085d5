//! `attar perplexity`: how well a model predicts a text.

use super::model::{self, Cache, SessionArgs};
use super::terminal::{self, read_input};
use attar::session::log_probability;
use attar::{Error, Result, Tokenizer};
use std::path::PathBuf;

/// Measure how well a model predicts a text
#[derive(clap::Args)]
#[command(after_help = "Example:
  attar perplexity model.gguf text.txt --ctx 512
The text is cut into contexts of --ctx tokens; the second half of each is scored, as llama.cpp's
perplexity tool does, so that figures compare.")]
pub(crate) struct Args {
    /// A GGUF file
    model: PathBuf,
    /// A text; - reads standard input
    file: PathBuf,
    /// Score only the first N contexts
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Encoding of the key-value cache
    #[arg(long, value_enum, default_value_t = Cache::F32)]
    cache: Cache,
    #[command(flatten)]
    session: SessionArgs,
}

const CONTEXT_LEN_DEFAULT: usize = 512;

pub(crate) fn run(args: &Args) -> Result<()> {
    let gguf = model::open(Some(&args.model))?;
    let tokenizer = Tokenizer::load(&gguf)?;
    let mut session = args.session.open(&gguf, args.cache)?;
    terminal::cancel_on_interrupt(session.cancel_flag())?;
    let text = read_input(&args.file)?;
    let mut ids = tokenizer.encode(&text, true, false)?;
    let len = match args.session.ctx {
        0 => session.context_len().min(CONTEXT_LEN_DEFAULT),
        _ => session.context_len(),
    };
    if len < 4 || ids.len() < len {
        return Err(Error::Invalid(
            format!(
                "{}: {} tokens, expected at least one context of {len}, itself at least 4",
                args.file.display(),
                ids.len()
            )
            .into(),
        ));
    }
    // Every context starts as a sequence does, where the model is used to that.
    let bos = tokenizer.bos().filter(|bos| ids.first() == Some(bos));
    let count = (ids.len() / len).min(args.chunks.unwrap_or(usize::MAX));
    let bar = terminal::progress(count as u64, "contexts");
    let (mut sum, mut squares, mut scored) = (0.0, 0.0, 0usize);
    for chunk in ids.chunks_exact_mut(len).take(count) {
        if let Some(bos) = bos {
            chunk[0] = bos;
        }
        session.clear();
        session.feed_each(&chunk[..len - 1], &mut |i, logits| {
            if i >= len / 2 {
                let loss = -log_probability(logits, chunk[i + 1]);
                (sum, squares, scored) = (sum + loss, squares + loss * loss, scored + 1);
            }
        })?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mean = sum / scored.max(1) as f64;
    let variance = (squares / scored.max(1) as f64 - mean * mean).max(0.0);
    let perplexity = mean.exp();
    let error = perplexity * (variance / scored.max(1) as f64).sqrt();
    if args.json {
        return terminal::print_json(&serde_json::json!({
            "perplexity": perplexity,
            "standard_error": error,
            "tokens": scored,
            "contexts": count,
            "context_len": len,
        }));
    }
    terminal::print_line(&format!(
        "perplexity {perplexity:.4} +- {error:.4} ({scored} tokens of {count} contexts of {len})"
    ))
}
