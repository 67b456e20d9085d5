//! `attar eval`: how good a model is, and how far from another.

mod answers;
mod tasks;

use super::data::{self, DataArgs, Source};
use super::device::DeviceArgs;
use super::model::{self, Cache, SessionArgs};
use super::terminal::{self, read_input};
use attar::compress::{Measure, Measured, Sequences, TokenMap};
use attar::memory::Shared;
use attar::{Error, Gguf, Result, Session, Tokenizer};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use tasks::TaskArgs;

/// Measure how good a model is, and how far from another
#[derive(clap::Args)]
#[command(after_help = "Examples:
  attar eval model.gguf --data text.txt
  attar eval small.gguf --reference big.gguf --data self --tokens 64k
  attar eval model.gguf --answers held-out.jsonl
  attar eval model.gguf --pairs blimp/*.jsonl --similarity stsb.csv --json
Each document is read from an empty context and every token of it is predicted; one longer than
--seq-len goes on in further sequences. With --stream the text is one stream and the second half of
each window is predicted, as llama.cpp's perplexity tool does, so that figures compare. `--data self`
is what the reference makes up, or the model itself. A model with a part of the reference's
vocabulary is compared on that part.")]
pub(crate) struct Args {
    /// A GGUF file
    model: PathBuf,
    /// Another GGUF file, whose predictions are the aim
    #[arg(long, value_name = "GGUF")]
    reference: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    /// Take the text for one stream and predict the second half of each window
    #[arg(long)]
    stream: bool,
    #[command(flatten)]
    tasks: TaskArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Encoding of the key-value cache
    #[arg(long, value_enum, default_value_t = Cache::F32)]
    cache: Cache,
    /// Threads [default: one a core]
    #[arg(long, short, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A line of the table: what, how much, and remarks.
type Line = (String, String, String);

/// The table, and the same for machines.
#[derive(Default)]
struct Report {
    lines: Vec<Line>,
    json: Map<String, Value>,
}

impl Report {
    fn line(&mut self, what: &str, value: String, remark: String) {
        self.lines.push((what.into(), value, remark));
    }

    fn print(self, as_json: bool) -> Result<()> {
        if as_json {
            return terminal::print_json(&self.json.into());
        }
        let widest = |column: fn(&Line) -> &str| {
            self.lines.iter().map(|line| column(line).chars().count()).max().unwrap_or(0)
        };
        let (what, value) = (widest(|line| &line.0), widest(|line| &line.1));
        for line in &self.lines {
            let text = format!("{:what$}  {:>value$}  {}", line.0, line.1, line.2);
            terminal::print_line(text.trim_end())?;
        }
        Ok(())
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.data.data.is_none() && args.tasks.is_empty() {
        let wanted = "--data, --pairs, --answers, --similarity or --analogies";
        return Err(Error::Invalid(format!("nothing to measure: give {wanted}").into()));
    }
    let gguf = model::open(Some(&args.model))?;
    let reference = args.reference.as_ref().map(|path| model::open(Some(path))).transpose()?;
    let stop = terminal::interrupted()?;
    let threads = model::threads(args.threads);
    // A graphics device is shared by nobody, and takes long rows better than many.
    let workers = if args.device.is_cpu() { threads } else { 1 };
    let open = |gguf: &Gguf, len: usize| args.open(gguf, len, threads / workers);
    let how = Measure { workers, open: &open, skip: 0 };
    let mut report = Report::default();
    report.line("file", format!("{}", gguf.file_bytes()), "bytes".into());
    report.json.insert("file_bytes".into(), gguf.file_bytes().into());
    if args.data.data.is_some() {
        let sequences = args.sequences(&gguf, reference.as_ref(), threads, &stop)?;
        let skip = if args.stream { args.data.seq_len(&gguf)? / 2 } else { 0 };
        let how = Measure { skip, ..how };
        let measured = data::watched(sequences.tokens(), "tokens", &stop, |progress| {
            how.run(&gguf, reference.as_ref(), &sequences, progress)
        })?;
        predictions(&measured, sequences.len(), &mut report);
    }
    args.tasks.run(&gguf, &how, threads, &stop, &mut report)?;
    report.print(args.json)
}

impl Args {
    fn open(&self, gguf: &Gguf, len: usize, threads: usize) -> Result<Session> {
        let sizes = SessionArgs { ctx: len, threads, batch: len.min(64), device: self.device };
        sizes.open(gguf, self.cache)
    }

    /// The data in the model's tokens.
    fn sequences(
        &self,
        gguf: &Gguf,
        reference: Option<&Gguf>,
        threads: usize,
        stop: &Shared<AtomicBool>,
    ) -> Result<Sequences> {
        match (&self.data.data, reference) {
            (Some(source), _) if self.stream && source.is_sampled() => {
                let what = "--stream cuts a text, and --data has sequences that a model made up";
                Err(Error::Invalid(what.into()))
            }
            (Some(Source::File(path)), _) if self.stream => {
                let (text, len) = (read_input(path)?, self.data.seq_len(gguf)?);
                let all = Sequences::from_stream(&Tokenizer::load(gguf)?, &text, len);
                let all = all.map_err(|e| e.in_file(&path.display().to_string()))?;
                Ok(all.split(self.data.tokens.map_or(usize::MAX, |count| count.0)).0)
            }
            (Some(source), Some(reference)) if source.is_sampled() => {
                let all = self.data.sequences(reference, threads, stop)?;
                Ok(TokenMap::new(gguf, reference)?.translate(&all))
            }
            _ => self.data.sequences(gguf, threads, stop),
        }
    }
}

fn predictions(measured: &Measured, sequences: usize, report: &mut Report) {
    let perplexity = measured.nll.exp();
    report.json.extend([
        ("tokens".into(), measured.tokens.into()),
        ("sequences".into(), sequences.into()),
        ("perplexity".into(), perplexity.mean.into()),
        ("standard_error".into(), perplexity.error.into()),
        ("bits_per_byte".into(), measured.bits_per_byte.into()),
    ]);
    let remark =
        format!("+- {:.4}, {} tokens of {sequences} sequences", perplexity.error, measured.tokens);
    report.line("perplexity", format!("{:.4}", perplexity.mean), remark);
    if let Some(bits) = measured.bits_per_byte {
        report.line("bits per byte", format!("{bits:.4}"), String::new());
    }
    let Some(d) = &measured.divergence else { return };
    let reference = d.reference_nll.exp();
    report.json.extend([
        ("reference_perplexity".into(), reference.mean.into()),
        ("same_top".into(), d.same_top.into()),
        (
            "kl".into(),
            json!({"mean": d.kl.mean, "standard_error": d.kl.error, "median": d.kl_median,
                "quantile_99": d.kl_99, "max": d.kl_max}),
        ),
    ]);
    report.line("reference perplexity", format!("{:.4}", reference.mean), String::new());
    let remark = format!(
        "+- {:.5} nats, median {:.5}, 99 % below {:.4}, at most {:.3}",
        d.kl.error, d.kl_median, d.kl_99, d.kl_max
    );
    report.line("KL divergence", format!("{:.5}", d.kl.mean), remark);
    report.line("same likeliest token", format!("{:.2} %", 100.0 * d.same_top), String::new());
}
