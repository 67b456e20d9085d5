//! `attar importance`: what a model's matrices are multiplied by.

use super::data::{self, DataArgs, Source};
use super::{model, terminal};
use attar::compress::Importance;
use attar::memory::Shared;
use attar::{Gguf, Result};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Find out how much the columns of each matrix count
#[derive(clap::Args)]
#[command(after_help = "Examples:
  attar importance model.gguf --data text.txt -o imatrix.gguf
  attar quantize model.gguf q4_0 --importance imatrix.gguf -o small.gguf
The file has the sums of squares of what each column is multiplied by, as llama.cpp's imatrix tool writes
them: either program reads the other's.")]
pub(crate) struct Args {
    /// A GGUF file
    model: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// Where to write
    #[arg(long, short, value_name = "OUT")]
    output: PathBuf,
    /// Threads [default: one a core]
    #[arg(long, short, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let gguf = model::open(Some(&args.model))?;
    let stop = terminal::interrupted()?;
    let importance = gather(&gguf, &args.data, model::threads(args.threads), &stop)?;
    importance.write(&args.output)?;
    let (tensors, (sequences, len)) = (importance.len(), importance.chunks);
    if args.json {
        return terminal::print_json(&serde_json::json!({
            "tensors": tensors,
            "sequences": sequences,
            "sequence_len": len,
        }));
    }
    terminal::print_line(&format!(
        "{}: {tensors} tensors over {sequences} sequences of at most {len} tokens",
        args.output.display()
    ))
}

/// The importance of a model's columns on the data asked for.
pub(crate) fn gather(
    gguf: &Gguf,
    args: &DataArgs,
    threads: usize,
    stop: &Shared<AtomicBool>,
) -> Result<Importance> {
    let sequences = args.sequences(gguf, threads, stop)?;
    let name = match &args.data {
        Some(Source::File(path)) => path.display().to_string(),
        _ => format!("self, seed {}", args.seed),
    };
    data::watched(sequences.tokens(), "tokens", stop, |progress| {
        Importance::gather(gguf, &sequences, &name, threads, progress)
    })
}
