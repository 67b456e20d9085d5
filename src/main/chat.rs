//! `attar chat`: a conversation, line by line.

use super::generate::{Generator, SamplerArgs, Stop};
use super::model::{self, Cache, SessionArgs};
use super::terminal;
use attar::{Error, Result, Tokenizer};
use rustyline::error::ReadlineError;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// Talk line by line; the model goes on after each line
#[derive(clap::Args)]
#[command(after_help = "Examples:
  attar chat
  attar chat model.gguf --temp 0.7
Each line is added to the text so far, and the model goes on with it. Ctrl-C stops an answer;
/clear forgets the text, /exit or Ctrl-D ends.")]
pub(crate) struct Args {
    /// A GGUF file; the bundled model tells small stories
    model: Option<PathBuf>,
    /// Tokens of an answer at most
    #[arg(short = 'n', long = "tokens", value_name = "N", default_value_t = 128)]
    len: usize,
    /// Encoding of the key-value cache
    #[arg(long, value_enum, default_value_t = Cache::F16)]
    cache: Cache,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    sampler: SamplerArgs,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let gguf = model::open(args.model.as_ref())?;
    let tokenizer = Tokenizer::load(&gguf)?;
    let session = args.session.open(&gguf, args.cache)?;
    let (sampler, _) = args.sampler.sampler(session.vocab_len())?;
    let cancel = session.cancel_flag();
    terminal::cancel_on_interrupt(session.cancel_flag())?;
    let mut generator = Generator::new(session, tokenizer, sampler)?;
    let mut editor = rustyline::DefaultEditor::new().map_err(read_error)?;
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(()),
            Err(e) => return Err(read_error(e)),
        };
        match line.trim() {
            "" => continue,
            "/exit" => return Ok(()),
            "/clear" => {
                generator.session.clear();
                generator.sampler.reset();
                continue;
            }
            text => {
                // Without its history a session is only less convenient.
                let _ = editor.add_history_entry(text);
                answer(&mut generator, text, args.len)?;
                cancel.store(false, Ordering::Relaxed);
            }
        }
    }
}

fn answer(generator: &mut Generator, text: &str, len: usize) -> Result<()> {
    let first = generator.session.position() == 0;
    let ids = generator.tokenizer.encode(text.as_bytes(), first, false)?;
    let mut show = |part: &str| terminal::print(part.as_bytes());
    match generator.generate(&ids, len, &mut show) {
        Ok(report) => {
            terminal::print(b"\n")?;
            if report.stop == Stop::ContextFull {
                eprintln!("the context is full: /clear to go on");
            }
            Ok(())
        }
        Err(what @ Error::ContextFull { .. }) => {
            eprintln!("{what}: /clear to go on");
            Ok(())
        }
        Err(e) => Err(e),
    }
}

fn read_error(e: ReadlineError) -> Error {
    Error::Io(format!("cannot read the line: {e}").into())
}
