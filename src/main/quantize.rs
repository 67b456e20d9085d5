//! `attar quantize`: a smaller file by plain rounding.

use super::{model, terminal};
use attar::compress::{Quantized, quantize};
use attar::{Error, Format, Result, kernels};
use std::path::PathBuf;

/// Write a model in another format
#[derive(clap::Args)]
#[command(after_help = "Example:
  attar quantize model.gguf q4_k -o small.gguf
TYPE is one of f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k. Vectors and routers stay as
they are; the last matrix gets at least 6 bits; rows that a block does not divide fall back to a format
of shorter blocks, with a warning. The file appears when it is whole.")]
pub(crate) struct Args {
    /// A GGUF file
    model: PathBuf,
    /// The format
    #[arg(value_name = "TYPE")]
    format: String,
    /// Where to write
    #[arg(long, short, value_name = "OUT")]
    output: PathBuf,
    /// Threads [default: one a core]
    #[arg(long, short, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Print one JSON object that says what became of each tensor
    #[arg(long)]
    json: bool,
}

/// The format called `name`, or an error that lists all.
pub(crate) fn format_named(name: &str) -> Result<Format> {
    Format::from_name(name).ok_or_else(|| {
        let known: Vec<_> = kernels::FORMATS.iter().map(|info| info.name).collect();
        Error::Invalid(format!("type '{name}', expected one of {}", known.join(" ")).into())
    })
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let format = format_named(&args.format)?;
    let gguf = model::open(Some(&args.model))?;
    let threads = model::threads(args.threads);
    let bar = terminal::progress(gguf.tensors().len() as u64, "tensors");
    let mut done: Vec<Quantized> = Vec::new();
    quantize(&gguf, format, &args.output, threads, &mut |tensor| {
        bar.inc(1);
        done.push(tensor.clone());
    })?;
    bar.finish_and_clear();
    warn(&done);
    let before: usize = done.iter().map(|tensor| tensor.bytes.0).sum();
    let after: usize = done.iter().map(|tensor| tensor.bytes.1).sum();
    if args.json {
        let tensors = done.iter().map(|t| {
            serde_json::json!({
                "name": t.name,
                "from": t.from.name,
                "to": t.to.name,
                "bytes": t.bytes.1,
                "fallback": t.instead_of.is_some(),
            })
        });
        return terminal::print_json(&serde_json::json!({
            "tensor_bytes_before": before,
            "tensor_bytes": after,
            "tensors": tensors.collect::<Vec<_>>(),
        }));
    }
    let count = done.iter().filter(|t| t.from != t.to).count();
    let all = done.len();
    terminal::print_line(&format!(
        "{}: {count} of {all} tensors converted, {before} bytes of tensors became {after}",
        args.output.display()
    ))
}

/// One warning a fallback, not one a tensor.
fn warn(done: &[Quantized]) {
    let mut fallbacks: Vec<(&str, &str, usize)> = Vec::new();
    for tensor in done {
        let Some(wanted) = tensor.instead_of else { continue };
        let (wanted, found) = (wanted.info().name, tensor.to.name);
        match fallbacks.iter_mut().find(|row| (row.0, row.1) == (wanted, found)) {
            Some(row) => row.2 += 1,
            None => fallbacks.push((wanted, found, 1)),
        }
    }
    for (wanted, found, count) in fallbacks {
        log::warn!("{count} tensors have rows no multiple of {wanted}'s block: written as {found}");
    }
}
