//! `attar sample`: what a model makes up, to learn from again and again.

use super::data::{Count, watched};
use super::{model, terminal};
use attar::compress::Sequences;
use attar::{Error, Gguf, Result};
use std::path::{Path, PathBuf};

/// Write down what a model makes up
#[derive(clap::Args)]
#[command(after_help = "Example:
  attar sample big.gguf --tokens 1M -o big.ids
  attar distill pruned.gguf --teacher big.gguf --data big.ids -o small.gguf
Each line of OUT is a sequence, drawn by the model's own probabilities after the token that starts one, as the
numbers of its tokens.")]
pub(crate) struct Args {
    /// A GGUF file
    model: PathBuf,
    /// Where to write; the name ends in .ids, by which others know what it is
    #[arg(long, short, value_name = "OUT")]
    output: PathBuf,
    /// Tokens, such as 64k or 1M
    #[arg(long, value_name = "N", default_value = "1M")]
    tokens: Count,
    /// Tokens a sequence
    #[arg(long, value_name = "N", default_value_t = 256)]
    seq_len: usize,
    /// Same seed, same sequences
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Threads [default: one a core]
    #[arg(long, short, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.output.extension().is_none_or(|end| end != "ids") {
        let name = args.output.display();
        return Err(Error::Invalid(format!("{name}: expected a name that ends in .ids").into()));
    }
    let gguf = Gguf::open(&args.model)?;
    let (stop, threads) = (terminal::interrupted()?, model::threads(args.threads));
    let sequences = watched(args.tokens.0, "tokens sampled", &stop, |progress| {
        let (tokens, len) = (args.tokens.0, args.seq_len);
        Sequences::sampled(&gguf, tokens, len, args.seed, threads, progress)
    })?;
    write(&args.output, &sequences.to_ids())?;
    let (name, count, tokens) = (args.output.display(), sequences.len(), sequences.tokens());
    terminal::print_line(&format!("{name}: {count} sequences, {tokens} tokens"))
}

/// Under another name until it is whole.
fn write(path: &Path, text: &str) -> Result<()> {
    let part = path.with_extension("ids.part");
    std::fs::write(&part, text)
        .and_then(|()| std::fs::rename(&part, path))
        .map_err(|e| Error::io(&format!("write {}", path.display()), e))
}
