//! `attar tokenize`: text to ids and back.

use super::model;
use super::terminal::{self, read_input};
use attar::{Error, Result, Tokenizer};
use std::path::PathBuf;

/// Turn text into token ids, or ids into text
#[derive(clap::Args)]
#[command(after_help = "Examples:
  attar tokenize model.gguf --text 'Hello world'
  attar tokenize model.gguf --json < file.txt
  attar tokenize model.gguf --decode '15043 3186'
Without --text, standard input is read byte for byte. Neither are special tokens added nor spellings
of them in the text read as such, unless asked.")]
pub(crate) struct Args {
    /// A GGUF file
    model: PathBuf,
    /// The text, instead of standard input
    #[arg(long)]
    text: Option<String>,
    /// Print one JSON array of ids
    #[arg(long)]
    json: bool,
    /// Add the tokens the model expects first and last
    #[arg(long)]
    add_special: bool,
    /// Let spellings of control tokens in the text be those tokens; with --decode, show them
    #[arg(long)]
    parse_special: bool,
    /// Ids, separated by spaces or commas, to turn into text
    #[arg(long, value_name = "IDS", conflicts_with = "text")]
    decode: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let tokenizer = Tokenizer::load(&model::open(Some(&args.model))?)?;
    if let Some(ids) = &args.decode {
        let ids = parse_ids(ids, &tokenizer)?;
        return terminal::print(&tokenizer.decode(&ids, args.parse_special)?);
    }
    let text = match &args.text {
        Some(text) => text.clone().into_bytes(),
        None => read_input("-".as_ref())?,
    };
    let ids = tokenizer.encode(&text, args.add_special, args.parse_special)?;
    if args.json {
        return terminal::print_json(&serde_json::json!(ids));
    }
    let mut lines = String::new();
    for id in ids {
        let mut piece = Vec::new();
        tokenizer.append_piece(id, true, &mut piece)?;
        lines.push_str(&format!("{id:>7} '{}'\n", String::from_utf8_lossy(&piece)));
    }
    terminal::print(lines.as_bytes())
}

fn parse_ids(text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let words = text.split(|c: char| c == ',' || c.is_whitespace() || c == '[' || c == ']');
    let words = words.filter(|word| !word.is_empty());
    words
        .map(|word| {
            let id = word.parse().ok().filter(|id| (*id as usize) < tokenizer.len());
            let len = tokenizer.len();
            id.ok_or_else(|| {
                Error::Invalid(format!("token '{word}', expected an id below {len}").into())
            })
        })
        .collect()
}
