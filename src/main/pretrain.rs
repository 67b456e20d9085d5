//! `attar pretrain`: a model from nothing but a shape and a text.

use super::data::{self, DataArgs, Source};
use super::learn::LearnArgs;
use super::{model, terminal};
use attar::compress::{Learn, Measure, Shape};
use attar::train::{
    Fallback, Loss, Spelling, Vocabulary, VocabularyOptions, write_forgotten, write_fresh,
};
use attar::{Error, Gguf, Result};
use serde_json::json;
use std::path::PathBuf;

/// Train a model from nothing: a shape, or a model to be like, and a text
#[derive(clap::Args)]
#[command(after_help = "Example:
  attar corpus --texts 20000 -o corpus.txt
  echo '{\"architecture\": \"llama\", \"vocabulary\": 1024, \"width\": 128, \"layers\": 8, \"heads\": 8,
         \"kv_heads\": 4, \"feed_forward\": 320, \"context\": 256}' > shape.json
  attar pretrain --shape shape.json --data corpus.txt -o model.gguf
A shape may also say experts, experts_used, tied (true), rope_base (10000) and norm_epsilon (1e-5). The
vocabulary is made for the text. OUT appears when it is whole; OUT.checkpoint holds what --resume needs
until then.")]
pub(crate) struct Args {
    /// A JSON file with the model's widths and counts
    #[arg(long, value_name = "FILE", required_unless_present = "like")]
    shape: Option<PathBuf>,
    /// A model whose shape and vocabulary to take
    #[arg(long, value_name = "GGUF", conflicts_with = "shape")]
    like: Option<PathBuf>,
    /// What pieces of the vocabulary are made of
    #[arg(long, value_enum, default_value_t = SpellingName::Characters)]
    spelling: SpellingName,
    /// Give every byte a token, so that any text comes back as it was; without, those the text needs and
    /// printable ASCII
    #[arg(long)]
    all_bytes: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    learn: LearnArgs,
}

/// Spellings by name.
#[derive(Clone, Copy, clap::ValueEnum)]
enum SpellingName {
    /// Characters, with bytes to fall back on (SentencePiece's way).
    Characters,
    /// Bytes (GPT-2's way).
    Bytes,
}

impl Args {
    /// A model with fresh weights.
    fn fresh(&self) -> Result<Gguf> {
        let seed = self.data.seed;
        let (Some(path), None) = (&self.shape, &self.like) else {
            let like = Gguf::open(self.like.as_ref().unwrap_or(&self.learn.output))?;
            return self.learn.fresh(|path| write_forgotten(&like, seed, path));
        };
        let named = |e: Error| e.in_file(&path.display().to_string());
        let shape = Shape::from_json(&terminal::read_input(path)?).map_err(named)?;
        let Some(Source::File(text)) = &self.data.data else {
            return Err(Error::Invalid("--data is missing: a text to learn from".into()));
        };
        let bytes = terminal::read_input(text)?;
        let text = String::from_utf8_lossy(&bytes);
        let spelling = match self.spelling {
            SpellingName::Characters => Spelling::Characters,
            SpellingName::Bytes => Spelling::Bytes,
        };
        let fallback = if self.all_bytes { Fallback::All } else { Fallback::Needed };
        let options = VocabularyOptions { spelling, len: shape.vocab_len, fallback };
        let vocabulary = Vocabulary::train(&text, &options)?;
        self.learn.fresh(|path| write_fresh(&shape, &vocabulary, seed, path))
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.data.data.as_ref().is_some_and(Source::is_sampled) {
        let what = "--data: a model that knows nothing yet has made up nothing; give a text";
        return Err(Error::Invalid(what.into()));
    }
    let stop = terminal::interrupted()?;
    let threads = model::threads(args.learn.threads);
    let student = args.fresh()?;
    let (sequences, held_out) = args.learn.split(args.data.sequences(&student, threads, &stop)?);
    if sequences.is_empty() || held_out.is_empty() {
        return Err(Error::Invalid("too little text to learn from and to measure on".into()));
    }
    let options = args.learn.options(&sequences, Loss::TEXT, args.data.seed)?;
    let recipe = args.learn.recipe(&student, &held_out, &stop)?;
    let learn = Learn {
        student: &student,
        teacher: None,
        sequences: &sequences,
        recipe: recipe.as_ref(),
        options,
    };
    let loss = args.learn.run(&learn, &stop)?;
    let written = Gguf::open(&args.learn.output)?;
    let measured = data::watched(held_out.tokens(), "tokens measured", &stop, |progress| {
        Measure::on_threads(threads).run(&written, None, &held_out, progress)
    })?;
    let (bytes, perplexity) = (written.file_bytes(), measured.nll.mean.exp());
    if args.learn.json {
        return terminal::print_json(&json!({
            "tokens": options.tokens,
            "loss": loss,
            "file_bytes": bytes,
            "held_out_tokens": measured.tokens,
            "perplexity": perplexity,
            "bits_per_byte": measured.bits_per_byte,
        }));
    }
    let bits =
        measured.bits_per_byte.map_or(String::new(), |bits| format!(", {bits:.4} bits a byte"));
    terminal::print_line(&format!(
        "{}: {bytes} bytes, learned from {} tokens; perplexity {perplexity:.4}{bits} on {} others",
        args.learn.output.display(),
        options.tokens,
        measured.tokens,
    ))
}
