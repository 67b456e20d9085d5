//! `attar quantize`: a smaller file by rounding.

use super::data::{self, Count, DataArgs};
use super::{importance, model, terminal};
use attar::compress::{Budget, Found, Importance, Quantized, Recipe, Rounding, least_bytes};
use attar::memory::Shared;
use attar::{Error, Format, Gguf, Result, kernels};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Write a model in other formats
#[derive(clap::Args)]
#[command(after_help = "Examples:
  attar quantize model.gguf q4_k -o small.gguf
  attar quantize model.gguf q4_0 --importance imatrix.gguf -o small.gguf
  attar quantize model.gguf --target-size 900k --data text.txt -o small.gguf
TYPE is one of f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k. Vectors and routers stay as
they are; the last matrix gets at least 6 bits; rows that a block does not divide fall back to a format
of shorter blocks, with a warning. With --importance, or with --data to find it, errors are kept small where
they count. With a target each matrix gets a format of its own, so that the whole file is as near to the
target as blocks allow and its predictions on --data are as near to the model's as can be. The file appears
when it is whole.")]
pub(crate) struct Args {
    /// A GGUF file
    model: PathBuf,
    /// The format
    #[arg(value_name = "TYPE", required_unless_present = "target")]
    format: Option<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    formats: FormatsArg,
    /// Where to write
    #[arg(long, short, value_name = "OUT")]
    output: PathBuf,
    /// What columns count, as `attar importance` or llama.cpp's imatrix tool writes it
    #[arg(long, value_name = "FILE")]
    importance: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    /// Threads [default: one a core]
    #[arg(long, short, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Print what became of each tensor, and its rounding error
    #[arg(long)]
    report: bool,
    /// Print the same as one JSON object
    #[arg(long)]
    json: bool,
}

/// What a matrix may become where each gets a format of its own.
#[derive(clap::Args)]
pub(crate) struct FormatsArg {
    /// Formats to choose among, such as q4_0,q8_0: those a device is fast with [default: all]
    #[arg(long, value_name = "TYPE,...", value_delimiter = ',', value_parser = format_value,
          conflicts_with = "format")]
    formats: Option<Vec<Format>>,
}

impl FormatsArg {
    /// The formats, or `None` for all.
    pub(crate) fn chosen(&self) -> Option<&[Format]> {
        self.formats.as_deref()
    }
}

fn format_value(name: &str) -> std::result::Result<Format, String> {
    format_named(name).map_err(|e| e.to_string())
}

/// What the whole file may take, instead of a format for all.
#[derive(clap::Args)]
#[group(id = "target", conflicts_with = "format", multiple = false)]
struct Target {
    /// Bytes of the file, such as 900k or 4M
    #[arg(long, value_name = "BYTES")]
    target_size: Option<Count>,
    /// Bits of the file a weight of the model
    #[arg(long, value_name = "BITS")]
    target_bpw: Option<f64>,
}

/// The format called `name`, or an error that lists all.
pub(crate) fn format_named(name: &str) -> Result<Format> {
    Format::from_name(name).ok_or_else(|| {
        let known: Vec<_> = kernels::FORMATS.iter().map(|info| info.name).collect();
        Error::Invalid(format!("type '{name}', expected one of {}", known.join(" ")).into())
    })
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let format = args.format.as_deref().map(format_named).transpose()?;
    let gguf = model::open(Some(&args.model))?;
    // What cannot be is said before any work.
    let plain = format.map(|format| uniform(&gguf, format)).transpose()?;
    let target = args.target_bytes(&gguf)?;
    let stop = terminal::interrupted()?;
    let importance = args.importance(&gguf, &stop)?;
    let threads = model::threads(args.threads);
    let rounding = Rounding { importance: importance.as_ref(), threads };
    let (recipe, found) = match (plain, target) {
        (Some(recipe), _) => (recipe, None),
        (None, target) => {
            let found = args.fit(&gguf, target.unwrap_or(0), rounding, &stop)?;
            (found.recipe.clone(), Some(found))
        }
    };
    let bar = terminal::progress(gguf.tensors().len() as u64, "tensors");
    let mut done: Vec<Quantized> = Vec::new();
    recipe.write(&gguf, rounding, &args.output, &mut |tensor| {
        bar.inc(1);
        done.push(tensor.clone());
    })?;
    bar.finish_and_clear();
    warn(&done);
    if args.json {
        return terminal::print_json(&as_json(&done, recipe.file_bytes(&gguf), found.as_ref()));
    }
    if args.report {
        table(&done)?;
    }
    if let Some(found) = &found {
        terminal::print_line(&format!(
            "KL divergence {:.5} +- {:.5} nats, predicted {:.5}",
            found.kl.mean, found.kl.error, found.predicted
        ))?;
    }
    let count = done.iter().filter(|t| t.from != t.to).count();
    terminal::print_line(&format!(
        "{}: {count} of {} tensors converted, {} bytes became {}",
        args.output.display(),
        done.len(),
        gguf.file_bytes(),
        recipe.file_bytes(&gguf)
    ))
}

impl Args {
    fn importance(&self, gguf: &Gguf, stop: &Shared<AtomicBool>) -> Result<Option<Importance>> {
        match (&self.importance, &self.data.data) {
            (Some(path), _) => Importance::open(path).map(Some),
            (None, None) => Ok(None),
            (None, Some(_)) => {
                importance::gather(gguf, &self.data, model::threads(self.threads), stop).map(Some)
            }
        }
    }

    /// The bytes of a target, if there is one, which the file must be able to keep to.
    fn target_bytes(&self, gguf: &Gguf) -> Result<Option<usize>> {
        let weights: usize = gguf.tensors().iter().map(|tensor| tensor.len()).sum();
        let bytes = match (self.target.target_size, self.target.target_bpw) {
            (None, None) => return Ok(None),
            (Some(Count(bytes)), _) => bytes,
            (None, Some(bits)) => (bits / 8.0 * weights as f64) as usize, // 0 for what is no number
        };
        let least = least_bytes(gguf, self.formats.chosen())?;
        if bytes < least {
            let bits = least as f64 * 8.0 / weights as f64;
            return Err(Error::Invalid(
                format!(
                    "a target of {bytes} bytes is too small: the coarsest formats that fit take {least}, \
                     {bits:.3} bits a weight"
                )
                .into(),
            ));
        }
        Ok(Some(bytes))
    }

    /// The recipe for a target.
    fn fit(
        &self,
        gguf: &Gguf,
        bytes: usize,
        rounding: Rounding<'_>,
        stop: &Shared<AtomicBool>,
    ) -> Result<Found> {
        let sequences = self.data.sequences(gguf, rounding.threads, stop)?;
        let (formats, scratch) = (self.formats.chosen(), &self.output);
        let budget = Budget { bytes, formats, sequences: &sequences, rounding, scratch };
        data::watched(budget.work(gguf)?, "tokens tried", stop, |progress| {
            budget.fit(gguf, progress)
        })
    }
}

/// All in one format, if any matrix can have it.
fn uniform(gguf: &Gguf, format: Format) -> Result<Recipe> {
    let recipe = Recipe::uniform(gguf, format)?;
    let instead = recipe.instead_of(format).next();
    match instead.filter(|_| !recipe.has(format)) {
        None => Ok(recipe),
        Some(instead) => {
            let (name, block, instead) =
                (format.info().name, format.info().block_len, instead.name);
            Err(Error::Invalid(
                format!(
                    "no matrix can be {name}: no row is a multiple of its block of {block}; the nearest \
                     that fits is {instead}"
                )
                .into(),
            ))
        }
    }
}

fn as_json(done: &[Quantized], file_bytes: usize, found: Option<&Found>) -> serde_json::Value {
    let tensors = done.iter().map(|t| {
        json!({
            "name": t.name,
            "from": t.from.name,
            "to": t.to.name,
            "bytes": t.bytes.1,
            "fallback": t.instead_of.is_some(),
            "error": t.error.map(|error| error.plain),
            "weighted_error": t.error.and_then(|error| error.weighted),
        })
    });
    let mut report = json!({
        "file_bytes": file_bytes,
        "tensor_bytes_before": done.iter().map(|tensor| tensor.bytes.0).sum::<usize>(),
        "tensor_bytes": done.iter().map(|tensor| tensor.bytes.1).sum::<usize>(),
        "tensors": tensors.collect::<Vec<_>>(),
    });
    if let Some(found) = found {
        let tried =
            found.tried.iter().map(|(predicted, kl)| json!({"predicted": predicted, "kl": kl}));
        report["kl"] = json!({
            "mean": found.kl.mean,
            "standard_error": found.kl.error,
            "predicted": found.predicted,
            "tried": tried.collect::<Vec<_>>(),
        });
    }
    report
}

/// A line a tensor; errors are root mean squares relative to the weights'.
fn table(done: &[Quantized]) -> Result<()> {
    let name = done.iter().map(|tensor| tensor.name.len()).max().unwrap_or(0);
    terminal::print_line(&format!(
        "{:name$}  {:>6}  {:>6}  {:>12}  {:>9}  {:>9}",
        "tensor", "from", "to", "bytes", "error", "weighted"
    ))?;
    for tensor in done {
        let percent = |error: Option<f64>| {
            error.map_or("-".into(), |error| format!("{:.3} %", 100.0 * error))
        };
        terminal::print_line(&format!(
            "{:name$}  {:>6}  {:>6}  {:>12}  {:>9}  {:>9}",
            tensor.name,
            tensor.from.name,
            tensor.to.name,
            tensor.bytes.1,
            percent(tensor.error.map(|error| error.plain)),
            percent(tensor.error.and_then(|error| error.weighted))
        ))?;
    }
    Ok(())
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
