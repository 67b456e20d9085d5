//! `attar logits`: what the model makes of given tokens, number by number.

use super::device::DeviceArgs;
use super::model::{self, Cache, SessionArgs};
use super::terminal;
use attar::{Error, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Write the logits after each of given token ids
#[derive(clap::Args)]
#[command(after_help = "Example:
  attar logits model.gguf --ids-file ids.txt --out logits.f32
The ids are fed from position 0. The output has one row a token and one little-endian f32 a token of
the vocabulary.")]
pub(crate) struct Args {
    /// A GGUF file
    model: PathBuf,
    /// Token ids, one a line
    #[arg(long, value_name = "FILE")]
    ids_file: PathBuf,
    /// Where to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Tokens to process together [default: all]
    #[arg(long, value_name = "N")]
    chunk: Option<usize>,
    /// Encoding of the key-value cache
    #[arg(long, value_enum, default_value_t = Cache::F32)]
    cache: Cache,
    /// Threads [default: one a core]
    #[arg(long, short, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Tokens processed together at most: more would only take memory.
const CHUNK_MAX: usize = 4096;

pub(crate) fn run(args: &Args) -> Result<()> {
    let ids = read_ids(&args.ids_file)?;
    let gguf = model::open(Some(&args.model))?;
    let batch = args.chunk.unwrap_or(ids.len()).clamp(1, CHUNK_MAX);
    let (ctx, threads, device) = (ids.len().max(1), args.threads, args.device);
    let sizes = SessionArgs { ctx, threads, batch, device };
    let mut session = sizes.open(&gguf, args.cache)?;
    terminal::cancel_on_interrupt(session.cancel_flag())?;
    let name = args.out.file_name().and_then(|name| name.to_str()).unwrap_or("logits");
    let temporary = args.out.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let failed = |e| Error::io(&format!("write {}", args.out.display()), e);
    let mut out = BufWriter::new(File::create(&temporary).map_err(failed)?);
    let mut written = Ok(());
    let fed = session.feed_each(&ids, &mut |_, logits| {
        for value in logits {
            if written.is_ok() {
                written = out.write_all(&value.to_le_bytes());
            }
        }
    });
    let whole = fed.and_then(|()| written.and_then(|()| out.flush()).map_err(failed));
    match whole {
        Ok(()) => std::fs::rename(&temporary, &args.out).map_err(failed),
        Err(e) => {
            // What is half-written must not stay; that it cannot be removed adds nothing.
            let _ = std::fs::remove_file(&temporary);
            Err(e)
        }
    }
}

fn read_ids(path: &Path) -> Result<Vec<u32>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(&format!("read {name}"), e))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(i, line)| {
            line.trim().parse().map_err(|_| {
                Error::Invalid(
                    format!("{name}: line {}: '{line}', expected a token id", i + 1).into(),
                )
            })
        })
        .collect()
}
