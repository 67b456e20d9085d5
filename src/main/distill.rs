//! `attar distill`: a small model learns what a big one predicts.

use super::data::{self, Count, DataArgs, Source};
use super::learn::LearnArgs;
use super::{model, terminal};
use attar::compress::{Learn, Measure, Measured, Sequences, TokenMap};
use attar::memory::Shared;
use attar::train::{Direction, Loss, write_forgotten};
use attar::{Error, Gguf, Result};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Teach a small model to predict as a big one does
#[derive(clap::Args)]
#[command(after_help = "Examples:
  attar distill pruned.gguf --teacher big.gguf --data self --tokens 1M -o small.gguf
  attar distill pruned.gguf --teacher big.gguf --data text.txt --self-tokens 500k \\
      --teacher-share 0.9 --type q4_0 -o small.gguf
The student may have a part of the teacher's vocabulary; it is then taught the teacher's probabilities
among its own tokens. `--data self` is what the teacher makes up. OUT appears when it is whole; OUT.checkpoint
holds what --resume needs until then.")]
pub(crate) struct Args {
    /// The student, a GGUF file in any format
    student: PathBuf,
    /// The teacher, a GGUF file
    #[arg(long, value_name = "GGUF")]
    teacher: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// Tokens of the teacher's own to learn from beside a text
    #[arg(long, value_name = "N")]
    self_tokens: Option<Count>,
    /// What is made small
    #[arg(long, value_enum, default_value_t = LossName::Forward)]
    loss: LossName,
    /// Part of the teacher in the loss; the rest is the text's own next token
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    teacher_share: f32,
    /// What both models' logits are divided by
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f32,
    /// Tokens of the teacher's that count one by one, the others as one; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top: usize,
    /// Begin with fresh weights in place of the student's: to see what they are worth
    #[arg(long)]
    scratch: bool,
    #[command(flatten)]
    learn: LearnArgs,
}

/// Losses by name.
#[derive(Clone, Copy, clap::ValueEnum)]
enum LossName {
    /// KL(teacher || student).
    Forward,
    /// KL(student || teacher).
    Reverse,
    /// Cross-entropy of the text; the teacher is used for measuring only.
    Text,
}

impl Args {
    fn loss(&self) -> Result<Loss> {
        let (direction, teacher_share) = match self.loss {
            LossName::Forward => (Direction::Forward, self.teacher_share),
            LossName::Reverse => (Direction::Reverse, self.teacher_share),
            LossName::Text => (Direction::Forward, 0.0),
        };
        if self.top > 0 && matches!(self.loss, LossName::Reverse) {
            return Err(Error::Invalid("--top is for the forward loss".into()));
        }
        Ok(Loss { direction, teacher_share, temperature: self.temperature, top: self.top })
    }

    /// In the student's tokens: what to learn from, and what to measure on.
    fn sequences(
        &self,
        teacher: &Gguf,
        map: &TokenMap,
        threads: usize,
        stop: &Shared<AtomicBool>,
    ) -> Result<(Sequences, Sequences)> {
        let all = self.data.sequences(teacher, threads, stop)?;
        let (mut own, held_out) = self.learn.split(map.translate(&all));
        if let Some(count) = self.self_tokens {
            // Not the sequences of `--data self` again.
            let seed = self.data.seed.wrapping_add(1);
            let (data, seq_len) = (Some(Source::Model), self.data.seq_len);
            let data = DataArgs { data, tokens: Some(count), seq_len, seed };
            own.append(&map.translate(&data.sequences(teacher, threads, stop)?));
        }
        Ok((own, held_out))
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let loss = args.loss()?;
    let (mut student, teacher) = (Gguf::open(&args.student)?, Gguf::open(&args.teacher)?);
    if args.scratch {
        student = args.learn.fresh(|path| write_forgotten(&student, args.data.seed, path))?;
    }
    let stop = terminal::interrupted()?;
    let threads = model::threads(args.learn.threads);
    let map = TokenMap::new(&student, &teacher)?;
    let (sequences, held_out) = args.sequences(&teacher, &map, threads, &stop)?;
    if sequences.is_empty() || held_out.is_empty() {
        return Err(Error::Invalid("too little data to learn from and to measure on".into()));
    }
    let measure = |gguf: &Gguf| {
        data::watched(held_out.tokens(), "tokens measured", &stop, |progress| {
            Measure::on_threads(threads).run(gguf, Some(&teacher), &held_out, progress)
        })
    };
    let before = measure(&student)?;
    let options = args.learn.options(&sequences, loss, args.data.seed)?;
    let recipe = args.learn.recipe(&student, &held_out, &stop)?;
    let learn = Learn {
        student: &student,
        teacher: Some(&teacher),
        sequences: &sequences,
        recipe: recipe.as_ref(),
        options,
    };
    let last_loss = args.learn.run(&learn, &stop)?;
    let written = Gguf::open(&args.learn.output)?;
    let after = measure(&written)?;
    if args.learn.json {
        return terminal::print_json(&json!({
            "tokens": options.tokens,
            "loss": last_loss,
            "held_out_tokens": after.tokens,
            "before": figures(&student, &before),
            "after": figures(&written, &after),
        }));
    }
    let (tokens, measured) = (options.tokens, after.tokens);
    terminal::print_line(&format!(
        "learned from {tokens} tokens; on {measured} others, beside the teacher:"
    ))?;
    for (name, gguf, figures) in [("before", &student, &before), ("after", &written, &after)] {
        if let Some(divergence) = &figures.divergence {
            terminal::print_line(&format!(
                "{name:6}  {:>9} bytes  perplexity {:8.4} (teacher {:.4})  KL {:.4}  same first token {:.1} %",
                gguf.file_bytes(),
                figures.nll.mean.exp(),
                divergence.reference_nll.mean.exp(),
                divergence.kl.mean,
                100.0 * divergence.same_top,
            ))?;
        }
    }
    Ok(())
}

fn figures(gguf: &Gguf, measured: &Measured) -> serde_json::Value {
    let divergence = measured.divergence.as_ref();
    json!({
        "file_bytes": gguf.file_bytes(),
        "perplexity": measured.nll.mean.exp(),
        "teacher_perplexity": divergence.map(|d| d.reference_nll.mean.exp()),
        "kl": divergence.map(|d| d.kl.mean),
        "same_top": divergence.map(|d| d.same_top),
    })
}
