//! `attar run`: go on with a text.

use super::generate::{Generator, Report, SamplerArgs, Stop};
use super::model::{self, Cache, SessionArgs};
use super::terminal::{self, read_input};
use attar::{Error, Result, Tokenizer};
use std::path::PathBuf;
use std::time::Instant;

/// Continue a text
#[derive(clap::Args)]
#[command(after_help = "Examples:
  attar run -p 'Once upon a time'
  attar run model.gguf -p 'The capital of France is' -n 20 --temp 0
  attar run model.gguf -f story.txt --seed 7 > longer-story.txt
The text goes to standard output, timings to standard error.")]
pub(crate) struct Args {
    /// A GGUF file; the bundled model tells small stories
    model: Option<PathBuf>,
    /// The text to go on with; - reads standard input
    #[arg(long, short, value_name = "TEXT", conflicts_with = "file")]
    prompt: Option<String>,
    /// A file with the text to go on with
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Tokens to generate at most
    #[arg(short = 'n', long = "tokens", value_name = "N", default_value_t = 256)]
    len: usize,
    /// Let spellings of control tokens in the prompt be those tokens
    #[arg(long)]
    parse_special: bool,
    /// Print one JSON object in the end instead of the text as it comes
    #[arg(long)]
    json: bool,
    /// Encoding of the key-value cache
    #[arg(long, value_enum, default_value_t = Cache::F16)]
    cache: Cache,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    sampler: SamplerArgs,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let gguf = model::open(args.model.as_ref())?;
    let tokenizer = Tokenizer::load(&gguf)?;
    let session = args.session.open(&gguf, args.cache)?;
    let load = start.elapsed();
    let prompt = match (&args.prompt, &args.file) {
        (Some(prompt), _) if prompt == "-" => read_input("-".as_ref())?,
        (Some(prompt), _) => prompt.clone().into_bytes(),
        (None, Some(file)) => read_input(file)?,
        (None, None) => Vec::new(),
    };
    let ids = tokenizer.encode(&prompt, true, args.parse_special)?;
    if ids.is_empty() {
        let what = "the prompt is empty and the vocabulary has no token to start with";
        return Err(Error::Invalid(what.into()));
    }
    let room = session.context_len();
    if ids.len() > room {
        let what = format!("a prompt of {} tokens for a context of {room}", ids.len());
        return Err(Error::Limit(what.into()));
    }
    let (sampler, seed) = args.sampler.sampler(session.vocab_len())?;
    terminal::cancel_on_interrupt(session.cancel_flag())?;
    let mut generator = Generator::new(session, tokenizer, sampler)?;
    let mut text = String::new();
    let mut show = |part: &str| {
        // A vocabulary with visible spaces starts a text with one.
        let part = if prompt.is_empty() && text.is_empty() { part.trim_start() } else { part };
        text.push_str(part);
        if args.json { Ok(()) } else { terminal::print(part.as_bytes()) }
    };
    if !args.json {
        terminal::print(&prompt)?;
    }
    let report = generator.generate(&ids, args.len, &mut show)?;
    let load = load.as_secs_f64();
    match args.json {
        true => terminal::print_json(&serde_json::json!({
            "prompt": String::from_utf8_lossy(&prompt),
            "text": text,
            "stop": report.stop.name(),
            "seed": seed,
            "prompt_tokens": report.prompt_tokens,
            "generated_tokens": report.generated_tokens,
            "load_seconds": load,
            "prompt_tokens_per_second": report.prompt_rate(),
            "generation_tokens_per_second": report.generation_rate(),
        }))?,
        false => {
            terminal::print(b"\n")?;
            summarise(&report, load, seed);
        }
    }
    if report.stop == Stop::Interrupted { Err(Error::Cancelled) } else { Ok(()) }
}

fn summarise(report: &Report, load: f64, seed: u64) {
    eprintln!(
        "\nloaded in {:.1} ms; prompt {} tokens, {:.1}/s; generated {} tokens, {:.1}/s; stopped by \
         {}; seed {seed}",
        load * 1e3,
        report.prompt_tokens,
        report.prompt_rate(),
        report.generated_tokens,
        report.generation_rate(),
        report.stop.name(),
    );
}
