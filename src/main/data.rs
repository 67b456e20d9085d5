//! Options about the tokens that commands learn from and measure on.

use super::terminal::{self, read_input};
use attar::compress::{Progress, Sequences};
use attar::memory::Shared;
use attar::{Error, Gguf, Result, Tokenizer};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

/// What to learn from or to measure on.
#[derive(clap::Args)]
pub(crate) struct DataArgs {
    /// A text, - for standard input, `self` for what the model makes up, or a file of `attar sample` whose
    /// name ends in .ids. A line `<|endoftext|>` ends a document
    #[arg(long, value_name = "FILE|self")]
    pub(crate) data: Option<Source>,
    /// Tokens to take, such as 64k or 1M [default: all of a text, 32k of self]
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<Count>,
    /// Tokens a sequence [default: 256, or what the model knows]
    #[arg(long, value_name = "N")]
    pub(crate) seq_len: Option<usize>,
    /// Same seed, same sequences
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
}

/// Where tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The model's own probabilities.
    Model,
    /// A text.
    File(PathBuf),
}

impl Source {
    /// Whether it is what a model made up, and so in that model's tokens.
    pub(crate) fn is_sampled(&self) -> bool {
        match self {
            Self::Model => true,
            Self::File(path) => path.extension().is_some_and(|end| end == "ids"),
        }
    }
}

impl FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "self" { Self::Model } else { Self::File(text.into()) })
    }
}

/// A number of tokens or bytes, which may end in k, M or G for thousands, millions or billions, or in such as
/// `kB` or, for powers of 1024, `KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) usize);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let factor = match &*unit.to_ascii_lowercase() {
            "" | "b" => Some(1.0),
            "k" | "kb" => Some(1e3),
            "m" | "mb" => Some(1e6),
            "g" | "gb" => Some(1e9),
            "kib" => Some(1024.0),
            "mib" => Some(1_048_576.0),
            "gib" => Some(1_073_741_824.0),
            _ => None,
        };
        let value = factor.and_then(|factor| Some(digits.parse::<f64>().ok()? * factor));
        match value {
            // Beyond 2^53 a float is no exact count, and no machine has as many tokens or bytes.
            Some(value) if (1.0..9e15).contains(&value) => Ok(Self(value.round() as usize)),
            _ => Err("expected a number from 1, such as 5000, 64k, 1.5M or 512KiB".into()),
        }
    }
}

/// Tokens to draw from a model where nobody says how many.
const TOKENS_DEFAULT: usize = 32_000;

const SEQ_LEN_DEFAULT: usize = 256;

impl DataArgs {
    /// The sequences, in tokens of `gguf`, which is also who makes them up.
    ///
    /// # Errors
    /// [`Error::Invalid`] without `--data`, and those of reading and sampling.
    pub(crate) fn sequences(
        &self,
        gguf: &Gguf,
        threads: usize,
        stop: &Shared<AtomicBool>,
    ) -> Result<Sequences> {
        let len = self.seq_len(gguf)?;
        match &self.data {
            None => Err(Error::Invalid("--data is missing: a text, or self".into())),
            Some(source @ Source::File(path)) if source.is_sampled() => {
                let bytes = read_input(path)?;
                let all = Sequences::parse_ids(&String::from_utf8_lossy(&bytes));
                let all = all.map_err(|e| e.in_file(&path.display().to_string()))?;
                Ok(all.split(self.tokens.map_or(usize::MAX, |count| count.0)).0)
            }
            Some(Source::File(path)) => {
                let text = read_input(path)?;
                let named = |e: Error| e.in_file(&path.display().to_string());
                let all = Sequences::from_text(&Tokenizer::load(gguf)?, &text, len);
                let all = all.map_err(named)?;
                Ok(all.split(self.tokens.map_or(usize::MAX, |count| count.0)).0)
            }
            Some(Source::Model) => {
                let count = self.tokens.map_or(TOKENS_DEFAULT, |count| count.0);
                watched(count, "tokens sampled", stop, |progress| {
                    Sequences::sampled(gguf, count, len, self.seed, threads, progress)
                })
            }
        }
    }

    /// Tokens a sequence: as asked, otherwise [`SEQ_LEN_DEFAULT`] or what the model knows.
    pub(crate) fn seq_len(&self, gguf: &Gguf) -> Result<usize> {
        let known = gguf.usize(&format!("{}.context_length", gguf.architecture()?))?;
        let len = SEQ_LEN_DEFAULT.min(known.unwrap_or(SEQ_LEN_DEFAULT));
        Ok(self.seq_len.unwrap_or(len))
    }
}

/// Work on `count` tokens with a bar, which ends once `stop` is set.
pub(crate) fn watched<T>(
    count: usize,
    what: &'static str,
    stop: &Shared<AtomicBool>,
    work: impl FnOnce(Progress<'_>) -> Result<T>,
) -> Result<T> {
    let bar = terminal::progress(count as u64, what);
    let done = work(&|tokens| {
        bar.inc(tokens as u64);
        !stop.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_suffixes() {
        let count = |text: &str| text.parse::<Count>().ok().map(|count| count.0);
        assert_eq!(count("5000"), Some(5000));
        assert_eq!(count("64k"), Some(64_000));
        assert_eq!(count("1.5M"), Some(1_500_000));
        assert_eq!(count("2G"), Some(2_000_000_000));
        for wrong in ["", "k", "0", "-1", "1kk", "1kM", "nan", "inf", "1e300", "9e15k", "5x"] {
            assert_eq!(count(wrong), None, "{wrong}");
        }
    }
}
