//! `attar fit`: the best model that keeps to a budget.

use super::data::{Count, DataArgs, Source};
use super::learn::LearnArgs;
use super::{model, terminal};
use attar::compress::prune::Share;
use attar::compress::{Candidate, Fit, Fitted, Limits, Observer, Trial, unfinished};
use attar::memory::Shared;
use attar::train::Loss;
use attar::{Error, Gguf, Result};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Make the best model that keeps to a budget
#[derive(clap::Args)]
#[command(after_help = "Example:
  attar fit big.gguf --max-bytes 1MB --min-tokens-per-s 20 --tokens 1M -o small.gguf
Tokens that --data does not use, layers, heads and neurons are cut, the rest is rounded, each matrix to a format of
its own, and learns from the model it was cut from, seeing itself rounded. What each way costs is measured,
the likeliest three are tried, and the best of them learns from most of --train-tokens. Without --data it is
what the model makes up. The exit status is 1 where nothing keeps to the limits; the nearest is named then.")]
pub(crate) struct Args {
    /// A GGUF file
    model: PathBuf,
    /// Bytes of the file at most, such as 180k or 1M
    #[arg(long, value_name = "BYTES")]
    max_bytes: Count,
    /// Bytes a session may claim beside the file, with --context tokens of context
    #[arg(long, value_name = "BYTES")]
    max_ram: Option<Count>,
    /// Tokens a second at least, one after another
    #[arg(long, value_name = "N")]
    min_tokens_per_s: Option<f64>,
    /// Bytes of weights a second that the device reads, in place of this machine's speed
    #[arg(long, value_name = "N")]
    bytes_per_s: Option<Count>,
    /// Tokens of context a session has room for
    #[arg(long, value_name = "N", default_value_t = 256)]
    context: usize,
    /// Keep the tokens of all bytes, so that any text can be spelt
    #[arg(long)]
    all_bytes: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    learn: LearnArgs,
}

/// Shows stages as bars.
struct Bars {
    bar: Mutex<ProgressBar>,
    stop: Shared<AtomicBool>,
}

impl Observer for Bars {
    fn stage(&self, what: &str, tokens: usize) {
        log::info!("{what}, {tokens} tokens");
        let bar = terminal::progress(tokens as u64, "tokens").with_message(what.to_owned());
        if let Ok(mut shown) = self.bar.lock() {
            shown.finish_and_clear();
            *shown = bar;
        }
    }

    fn tokens(&self, count: usize) -> bool {
        if let Ok(bar) = self.bar.lock() {
            bar.inc(count as u64);
        }
        !self.stop.load(Ordering::Relaxed)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.learn.format.is_some() || args.learn.target_size.is_some() {
        let what = "--type and --target-size are not for fit: --max-bytes chooses formats";
        return Err(Error::Invalid(what.into()));
    }
    let gguf = Gguf::open(&args.model)?;
    let stop = terminal::interrupted()?;
    let threads = model::threads(args.learn.threads);
    // Without a text, what the model makes up.
    let source = args.data.data.clone().unwrap_or(Source::Model);
    let data = DataArgs { data: Some(source), ..args.data };
    let (learn, held_out) = args.learn.split(data.sequences(&gguf, threads, &stop)?);
    if learn.is_empty() || held_out.is_empty() {
        return Err(Error::Invalid("too little data to learn from and to measure on".into()));
    }
    let limits = Limits {
        bytes: args.max_bytes.0,
        session_bytes: args.max_ram.map(|count| count.0),
        tokens_per_second: args.min_tokens_per_s,
        bytes_per_second: args.bytes_per_s.map(|count| count.0 as f64),
        context_len: args.context,
    };
    let options = args.learn.options(&learn, Loss::TEACHER, args.data.seed)?;
    let out = &args.learn.output;
    let fit = Fit {
        model: &gguf,
        learn: &learn,
        held_out: &held_out,
        limits,
        formats: args.learn.formats.chosen(),
        all_bytes: args.all_bytes,
        options,
        resume: args.learn.resume,
        out,
    };
    let bars = Bars { bar: Mutex::new(ProgressBar::hidden()), stop };
    let fitted = fit.run(&bars);
    bars.stage("done", 0);
    let left = unfinished(out);
    if fitted.is_err() && left.exists() {
        log::warn!("stopped; the same command with --resume goes on from {}", left.display());
    }
    let fitted = fitted?;
    match args.learn.json {
        true => terminal::print_json(&to_json(&fitted, &gguf))?,
        false => terminal::print(table(&fitted, &gguf).as_bytes())?,
    }
    if fitted.fits {
        return Ok(());
    }
    let (near, name) = (&fitted.result, out.display());
    Err(Error::Invalid(
        format!(
            "nothing keeps to the limits, so {name} was not written; the nearest has {} bytes, {} of session, \
             {:.1} tokens/s",
            near.file_bytes, near.session_bytes, near.tokens_per_second
        )
        .into(),
    ))
}

/// What was cut, in few words.
fn cuts(candidate: &Candidate) -> String {
    let request = &candidate.request;
    let share = |share: Share| match share {
        Share::Count(count) => count.to_string(),
        Share::Part(part) => format!("{:.1} %", part * 100.0),
    };
    let mut words = Vec::new();
    if let Some(tokens) = &request.tokens {
        words.push(format!("{} tokens", tokens.len()));
    }
    if !request.dropped.is_empty() {
        words.push(format!("without layers {:?}", request.dropped));
    }
    words.extend(request.hidden.map(|hidden| format!("{} of neurons", share(hidden))));
    words.extend(request.groups.map(|groups| format!("{} head groups", share(groups))));
    match words.is_empty() {
        true => "nothing cut".into(),
        false => words.join(", "),
    }
}

fn table(fitted: &Fitted, model: &Gguf) -> String {
    let mut lines = vec![format!(
        "{:>9} {:>9} {:>9} {:>9} {:>8} {:>6}  what",
        "bytes", "session", "tokens/s", "perplexity", "KL", "top 1"
    )];
    let teacher = fitted.result.measured.divergence.as_ref();
    let perplexity = teacher.map_or(f64::NAN, |divergence| divergence.reference_nll.mean.exp());
    lines.push(format!(
        "{:>9} {:>9} {:>9} {perplexity:>9.4} {:>8} {:>6}  the model",
        model.file_bytes(),
        "",
        "",
        "0",
        "100 %"
    ));
    let row = |trial: &Trial, what: &str| {
        let same = trial.measured.divergence.as_ref().map_or(0.0, |d| d.same_top);
        format!(
            "{:>9} {:>9} {:>9.1} {:>9.4} {:>8.4} {:>4.1} %  {what}: {}, {:.2} bits a weight, {} tokens",
            trial.file_bytes,
            trial.session_bytes,
            trial.tokens_per_second,
            trial.measured.nll.mean.exp(),
            trial.kl(),
            100.0 * same,
            cuts(&trial.candidate),
            trial.candidate.bits,
            trial.tokens,
        )
    };
    lines.extend(fitted.trials.iter().map(|trial| row(trial, "tried")));
    if fitted.fits {
        lines.push(row(&fitted.result, "written"));
    }
    lines.join("\n") + "\n"
}

fn to_json(fitted: &Fitted, model: &Gguf) -> Value {
    let trial = |trial: &Trial| {
        let divergence = trial.measured.divergence.as_ref();
        json!({
            "file_bytes": trial.file_bytes,
            "session_bytes": trial.session_bytes,
            "tokens_per_second": trial.tokens_per_second,
            "perplexity": trial.measured.nll.mean.exp(),
            "teacher_perplexity": divergence.map(|d| d.reference_nll.mean.exp()),
            "kl": divergence.map(|d| d.kl.mean),
            "same_top": divergence.map(|d| d.same_top),
            "predicted_kl": trial.candidate.predicted,
            "cut": cuts(&trial.candidate),
            "bits_per_weight": trial.candidate.bits,
            "tokens": trial.tokens,
        })
    };
    json!({
        "model_bytes": model.file_bytes(),
        "fits": fitted.fits,
        "ranked": fitted.ranked,
        "tried": fitted.trials.iter().map(trial).collect::<Vec<_>>(),
        "result": trial(&fitted.result),
    })
}
