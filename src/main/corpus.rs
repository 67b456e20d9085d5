//! `attar corpus`: texts to learn from and to be judged by.

use super::terminal;
use attar::compress::DOCUMENT_END;
use attar::compress::corpus::{Corpus, Kind, Options, Text, prompt};
use attar::{Error, Result};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// Write texts from the project's own grammar: stories, corrections, commands, pairs
#[derive(clap::Args)]
#[command(after_help = "Examples:
  attar corpus --texts 60000 --seed 1 -o corpus.txt        the default mix
  attar corpus stories=6 grammar=1 --texts 5 --seed 7      to standard output
  attar corpus home grammar --held-out --jsonl --texts 1000 -o answers.jsonl
  attar corpus pairs --held-out --jsonl --texts 2400 -o pairs.jsonl    200 of each of 12 phenomena
The same options give the same bytes everywhere.")]
pub(crate) struct Args {
    /// Kinds of texts, with their shares: stories, sentences, grammar, questions, requests, home,
    /// chinese, pairs [default: a mix of all but pairs]
    #[arg(value_name = "KIND[=SHARE]", value_parser = share)]
    kinds: Vec<(Kind, u32)>,
    /// How many texts
    #[arg(long, value_name = "N", default_value_t = 10)]
    texts: usize,
    /// Same seed, same texts
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Use only templates that are kept from training, to judge by
    #[arg(long)]
    held_out: bool,
    /// Write a JSON object a line: prompts and answers, no two alike
    #[arg(long)]
    jsonl: bool,
    /// Where to write [default: standard output]
    #[arg(long, short, value_name = "OUT")]
    output: Option<PathBuf>,
}

fn share(text: &str) -> std::result::Result<(Kind, u32), String> {
    let (name, share) = text.split_once('=').unwrap_or((text, "1"));
    let kind = Kind::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    let kind = kind.ok_or_else(|| {
        let known: Vec<_> = Kind::ALL.iter().map(|(name, _)| *name).collect();
        format!("'{name}' is no kind of text; expected one of {}", known.join(", "))
    })?;
    let share = share.parse().ok().filter(|share| *share <= 1_000_000);
    Ok((kind, share.ok_or("a share is a whole number up to 1000000")?))
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mix = if args.kinds.is_empty() { Options::MIX.to_vec() } else { args.kinds.clone() };
    if !args.jsonl && mix.iter().any(|(kind, _)| *kind == Kind::Pairs) {
        return Err(Error::Invalid("pairs are written with --jsonl only".into()));
    }
    let (seed, held_out) = (args.seed, args.held_out);
    let corpus = Corpus::new(Options { mix, seed, held_out })?;
    let Some(path) = &args.output else { return write(args, &corpus, &mut std::io::stdout()) };
    let failed = |e| Error::io(&format!("write {}", path.display()), e);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let file = File::create(&temporary).map_err(failed)?;
    let written = write(args, &corpus, &mut BufWriter::new(file));
    let renamed = written.and_then(|()| std::fs::rename(&temporary, path).map_err(failed));
    if renamed.is_err() {
        // Nothing more can be done about a file that cannot be removed.
        let _ = std::fs::remove_file(&temporary);
    }
    renamed
}

/// Draws of one text, each like one before, until a kind is taken to have no more.
const TRIES: u64 = 1000;

fn write(args: &Args, corpus: &Corpus, out: &mut dyn Write) -> Result<()> {
    let failed = |e| Error::io("write texts", e);
    let bar = terminal::progress(args.texts as u64, "texts");
    let mut known = HashSet::new();
    for number in 0..args.texts as u64 {
        let line = match args.jsonl {
            true => new_record(corpus, number, &mut known)?,
            false => {
                let text = corpus.text(number)?.document().unwrap_or_default();
                Some(format!("{text}\n{}", String::from_utf8_lossy(DOCUMENT_END)))
            }
        };
        let Some(line) = line else {
            log::warn!("no more than {number} different texts were found");
            break;
        };
        writeln!(out, "{line}").map_err(failed)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    out.flush().map_err(failed)
}

/// A record that is not yet known.
fn new_record(corpus: &Corpus, number: u64, known: &mut HashSet<String>) -> Result<Option<String>> {
    for attempt in 0..TRIES {
        let line = record(&corpus.text(number + attempt * Corpus::STRIDE)?).to_string();
        if known.insert(line.clone()) {
            return Ok(Some(line));
        }
    }
    Ok(None)
}

/// A pair has the keys of BLiMP's files (Warstadt et al., arXiv 1912.00582).
fn record(text: &Text) -> Value {
    match text {
        Text::Plain(text) => json!({ "text": text }),
        Text::Answer { kind, question, answer, source } => {
            let mut record = json!({
                "kind": kind.name(), "prompt": prompt(question), "answer": answer,
            });
            if let Some(source) = source {
                record["source"] = json!(source);
            }
            record
        }
        Text::Pair { phenomenon, good, bad } => {
            json!({ "UID": phenomenon, "sentence_good": good, "sentence_bad": bad })
        }
    }
}
