//! Options about learning, and how a run is shown, for all commands that train.

use super::data::{self, Count};
use super::quantize::{FormatsArg, format_named};
use super::{model, terminal};
use attar::bytes::Bytes;
use attar::compress::{Budget, Learn, LearnOptions, Recipe, Rounding, Sequences, checkpoint_of};
use attar::memory::Shared;
use attar::train::{AdamOptions, Loss};
use attar::{Error, Gguf, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How to learn.
#[derive(clap::Args)]
pub(crate) struct LearnArgs {
    /// Where to write
    #[arg(long, short, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Format to write, such as q8_0; the model learns with its weights rounded to it [default: f32]
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "target_size")]
    pub(crate) format: Option<String>,
    /// Bytes of the file, such as 180k: a format for each matrix, the least harmful that keep to it
    #[arg(long, value_name = "BYTES")]
    pub(crate) target_size: Option<Count>,
    #[command(flatten)]
    pub(crate) formats: FormatsArg,
    /// Tokens to learn from, such as 5M; the data is used again if it has less [default: all data once]
    #[arg(long, value_name = "N")]
    pub(crate) train_tokens: Option<Count>,
    /// Sequences a step
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) batch: usize,
    /// Largest learning rate; it falls to a tenth along a cosine
    #[arg(long, value_name = "R", default_value_t = 2e-3)]
    pub(crate) rate: f64,
    /// Steps over which the rate rises
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) warmup: u64,
    /// Part of the matrices taken off at each step, times the rate
    #[arg(long, value_name = "D", default_value_t = 0.0)]
    pub(crate) weight_decay: f64,
    /// Tokens of the data's end to measure on instead [default: a twentieth, at most 20k]
    #[arg(long, value_name = "N")]
    pub(crate) held_out: Option<Count>,
    /// Go on where the same command was stopped, if it was
    #[arg(long)]
    pub(crate) resume: bool,
    /// How long a stop may set the run back
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) checkpoint_after: u64,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads [default: one a core]
    #[arg(long, short, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) threads: usize,
}

impl LearnArgs {
    /// What to learn from, and what to measure on.
    pub(crate) fn split(&self, data: Sequences) -> (Sequences, Sequences) {
        let share = (data.tokens() / 20).min(20_000);
        let held_out = self.held_out.map_or(share, |count| count.0);
        let tokens = data.tokens();
        data.split(tokens.saturating_sub(held_out))
    }

    /// The options, for data to learn from.
    ///
    /// # Errors
    /// [`Error::Invalid`] for numbers that make no sense.
    pub(crate) fn options(&self, data: &Sequences, loss: Loss, seed: u64) -> Result<LearnOptions> {
        let sound = |name: &str, value: f64, least: f64, most: f64| match value {
            v if (least..=most).contains(&v) => Ok(()),
            v => Err(Error::Invalid(
                format!("--{name} is {v}, expected a number from {least} to {most}").into(),
            )),
        };
        sound("rate", self.rate, 0.0, 1.0)?;
        sound("weight-decay", self.weight_decay, 0.0, 10.0)?;
        sound("batch", self.batch as f64, 1.0, 65_536.0)?;
        sound("teacher-share", f64::from(loss.teacher_share), 0.0, 1.0)?;
        sound("temperature", f64::from(loss.temperature), 0.01, 100.0)?;
        let adam = AdamOptions {
            rate: self.rate,
            warmup_steps: self.warmup,
            weight_decay: self.weight_decay,
            ..AdamOptions::default()
        };
        let predicted = data.tokens() - data.len();
        let tokens = self.train_tokens.map_or(predicted, |count| count.0);
        let (batch_len, threads) = (self.batch, self.threads);
        let checkpoint_after = Duration::from_secs(self.checkpoint_after);
        Ok(LearnOptions { tokens, batch_len, threads, adam, loss, seed, checkpoint_after })
    }

    /// The model that `write` writes, which is gone from the disk at once.
    pub(crate) fn fresh(&self, write: impl FnOnce(&Path) -> Result<()>) -> Result<Gguf> {
        let mut path = self.output.clone().into_os_string();
        path.push(".fresh");
        let path = PathBuf::from(path);
        write(&path)?;
        let bytes =
            std::fs::read(&path).map_err(|e| Error::io(&format!("read {}", path.display()), e))?;
        std::fs::remove_file(&path)
            .map_err(|e| Error::io(&format!("remove {}", path.display()), e))?;
        Gguf::parse(Bytes::from_vec(bytes)?)
    }

    /// What to write of the student's tensors; which format harms which is measured on `data`.
    ///
    /// # Errors
    /// Those of [`Recipe::uniform`] and [`Budget::fit`].
    pub(crate) fn recipe(
        &self,
        student: &Gguf,
        data: &Sequences,
        stop: &Shared<AtomicBool>,
    ) -> Result<Option<Recipe>> {
        if let Some(name) = &self.format {
            return Recipe::uniform(student, format_named(name)?).map(Some);
        }
        let Some(size) = self.target_size else {
            return match self.formats.chosen() {
                None => Ok(None),
                Some(_) => Err(Error::Invalid("--formats needs a --target-size".into())),
            };
        };
        let rounding = Rounding { importance: None, threads: model::threads(self.threads) };
        let (bytes, formats, scratch) = (size.0, self.formats.chosen(), &self.output);
        let budget = Budget { bytes, formats, sequences: data, rounding, scratch };
        let found = data::watched(budget.work(student)?, "tokens of trials", stop, |progress| {
            budget.fit(student, progress)
        })?;
        Ok(Some(found.recipe))
    }

    /// Runs it with a bar, until `stop` is set; returns the mean loss of the last steps.
    pub(crate) fn run(&self, learn: &Learn<'_>, stop: &Shared<AtomicBool>) -> Result<f64> {
        let bar = terminal::progress(learn.steps(), "steps");
        let mut loss = None;
        let done = learn.run(&self.output, self.resume, &mut |step| {
            let smooth = loss.map_or(step.report.loss, |l: f64| l * 0.95 + step.report.loss * 0.05);
            loss = Some(smooth);
            bar.set_position(step.taken);
            bar.set_message(format!("steps, loss {smooth:.4}"));
            log::debug!("step {} of {}: {:?}", step.taken, step.of, step.report);
            !stop.load(Ordering::Relaxed)
        });
        bar.finish_and_clear();
        if done == Err(Error::Cancelled) {
            let checkpoint = checkpoint_of(&self.output);
            log::warn!(
                "stopped; the same command with --resume goes on from {}",
                checkpoint.display()
            );
        }
        done.map(|()| loss.unwrap_or(f64::NAN))
    }
}
