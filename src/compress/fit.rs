//! From a budget to a model: what to cut and how to round, found by trying, then repaired by learning.
//!
//! Damage curves of each way to cut, and of rounding, are measured one by one; what they predict for all
//! ways together that keep to the size ranks the candidates (as Minitron searches, arXiv 2407.14679). The best few
//! learn for a while and are measured, the best of those learns for the rest of the tokens.

mod survey;

pub use survey::Candidate;

use super::budget::Budget;
use super::learn::{Learn, LearnOptions};
use super::measure::{Measure, Measured};
use super::prune::{choose, write_pruned};
use super::quantize::Rounding;
use super::sequences::Sequences;
use super::vocabulary::TokenMap;
use crate::gguf::Gguf;
use crate::memory::text;
use crate::session::{Options, Session};
use crate::{Error, Result};
use attar_kernels::Format;
use std::path::{Path, PathBuf};
use std::time::Instant;
use survey::Survey;

/// What the result has to keep to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes: usize,
    /// Bytes a session claims beside the file.
    pub session_bytes: Option<usize>,
    /// Tokens a second at least, one after another.
    pub tokens_per_second: Option<f64>,
    /// Bytes of weights a second that the device reads: its speed is their quotient. Without, this machine is
    /// measured.
    pub bytes_per_second: Option<f64>,
    /// Tokens the context of that session has room for.
    pub context_len: usize,
}

/// What to fit, and how.
#[derive(Clone, Copy)]
pub struct Fit<'a> {
    /// The model, teacher of what remains of it.
    pub model: &'a Gguf,
    /// To learn from, in the model's tokens.
    pub learn: &'a Sequences,
    /// To measure on.
    pub held_out: &'a Sequences,
    /// What to keep to.
    pub limits: Limits,
    /// Formats to choose among; all where `None`.
    pub formats: Option<&'a [Format]>,
    /// Keep the tokens of all bytes, so that any text can be spelt.
    pub all_bytes: bool,
    /// How to learn; the tokens are those of all trials and the result together.
    pub options: LearnOptions,
    /// Go on with the lessons of a run of the same that was stopped, from [`unfinished`].
    pub resume: bool,
    /// Where to write.
    pub out: &'a Path,
}

/// Who is told how far the work is.
pub trait Observer {
    /// A stage begins, which works on so many tokens.
    fn stage(&self, what: &str, tokens: usize);
    /// So many are done; says whether to go on.
    fn tokens(&self, count: usize) -> bool;
}

/// A candidate that has learned, as measured.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What was cut.
    pub candidate: Candidate,
    /// Bytes of the file.
    pub file_bytes: usize,
    /// Bytes a session claims beside it.
    pub session_bytes: usize,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// Tokens it has learned from.
    pub tokens: usize,
    /// Beside the model, on what is held out.
    pub measured: Measured,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// Of all candidates that keep to the size, how many were ranked.
    pub ranked: usize,
    /// Those that learned for a while.
    pub trials: Vec<Trial>,
    /// The result. Where nothing keeps to the limits it is the nearest, and was not written.
    pub result: Trial,
    /// Whether it keeps to the limits.
    pub fits: bool,
}

/// Candidates that learn for a while.
const TRIALS: usize = 3;
/// Part of the tokens that each of them learns from.
const TRIAL_SHARE: f64 = 0.08;

impl Trial {
    /// The divergence from the model, in nats a token.
    pub fn kl(&self) -> f64 {
        self.measured.divergence.as_ref().map_or(f64::INFINITY, |divergence| divergence.kl.mean)
    }

    /// By how much the worst limit is missed, as a factor; 1 or less keeps to all.
    pub fn excess(&self, limits: &Limits) -> f64 {
        let over = |found: usize, most: usize| found as f64 / most as f64;
        let slow = limits.tokens_per_second.map_or(0.0, |least| least / self.tokens_per_second);
        let session = limits.session_bytes.map_or(0.0, |most| over(self.session_bytes, most));
        over(self.file_bytes, limits.bytes).max(slow).max(session)
    }
}

impl Fit<'_> {
    /// Finds, teaches and writes the model. What is written on the way lies in the folder [`unfinished`]: after a
    /// stop what is needed to go on stays there, which `resume` does. Measures are taken again, lessons are not;
    /// the file has the bits it would have had without the stop, unless limits of speed are measured.
    ///
    /// # Errors
    /// [`Error::Invalid`] where even the smallest candidate has more bytes, saying how many, and to go on with
    /// another run; [`Error::Cancelled`] once the observer says so; those of reading, running and writing models.
    pub fn run(&self, observer: &(dyn Observer + Sync)) -> Result<Fitted> {
        let scratch = Scratch::claim(self.out, self.resume)?;
        let fitted = self.find(&scratch, observer);
        if fitted.is_ok() || !scratch.holds_lessons() {
            scratch.remove();
        }
        fitted
    }

    fn find(&self, scratch: &Scratch, observer: &(dyn Observer + Sync)) -> Result<Fitted> {
        let survey = Survey::of(self, scratch, observer)?;
        let candidates = survey.candidates(self.limits.bytes)?;
        let mut trials = Vec::new();
        let tokens = (self.options.tokens as f64 * TRIAL_SHARE) as usize;
        for candidate in &candidates {
            if trials.len() == TRIALS {
                break;
            }
            let out = scratch.trial(trials.len());
            match self.teach(candidate, &survey, tokens, &out, scratch, observer) {
                Ok(trial) => trials.push(trial),
                // A prediction of bytes that was too low: the next may do.
                Err(Error::Invalid(why)) => log::info!("a candidate does not fit: {why}"),
                Err(error) => return Err(error),
            }
        }
        let keeps = |trial: &Trial| trial.excess(&self.limits) <= 1.0;
        let fitting = trials.iter().enumerate().filter(|(_, trial)| keeps(trial));
        let best = fitting.min_by(|(_, a), (_, b)| a.kl().total_cmp(&b.kl()));
        let Some((place, best)) = best else {
            let nearer =
                |a: &&Trial, b: &&Trial| a.excess(&self.limits).total_cmp(&b.excess(&self.limits));
            let Some(nearest) = trials.iter().min_by(nearer).cloned() else {
                return Err(survey.too_small(self.limits.bytes));
            };
            return Ok(Fitted { ranked: candidates.len(), trials, result: nearest, fits: false });
        };
        let rest = self.options.tokens.saturating_sub(tokens * trials.len()).max(tokens);
        let mut path = scratch.path("result");
        let mut result = self.teach(&best.candidate, &survey, rest, &path, scratch, observer)?;
        // More lessons may have led away from the model, or this time have been too slow.
        if !keeps(&result) || best.kl() < result.kl() {
            (path, result) = (scratch.trial(place), best.clone());
        }
        std::fs::rename(&path, self.out)
            .map_err(|e| Error::io(&format!("write {}", self.out.display()), e))?;
        Ok(Fitted { ranked: candidates.len(), trials, result, fits: true })
    }

    /// Cuts, finds formats for what remains, and teaches it.
    fn teach(
        &self,
        candidate: &Candidate,
        survey: &Survey,
        tokens: usize,
        out: &Path,
        scratch: &Scratch,
        observer: &(dyn Observer + Sync),
    ) -> Result<Trial> {
        let path = scratch.path("cut");
        let cut = choose(&survey.shape, &survey.ranking, &candidate.request)?;
        write_pruned(self.model, &survey.shape, &cut, &path, &mut |_| {})?;
        let student = Gguf::open(&path)?;
        let map = TokenMap::new(&student, self.model)?;
        let (learn, held_out) = (map.translate(self.learn), map.translate(self.held_out));
        let probe = held_out.clone().split(survey::PROBE_TOKENS).0;
        let rounding = Rounding { importance: None, threads: survey.threads };
        let (bytes, formats) = (self.limits.bytes, self.formats);
        let budget = Budget { bytes, formats, sequences: &probe, rounding, scratch: &path };
        observer.stage("finding formats", budget.work(&student)?);
        let recipe = budget.fit(&student, &|tokens| observer.tokens(tokens))?.recipe;
        let options = LearnOptions { tokens, ..self.options };
        let (teacher, recipe) = (Some(self.model), Some(&recipe));
        let lesson = Learn { student: &student, teacher, sequences: &learn, recipe, options };
        let (done, name) = (out.with_extension(DONE), lesson.name());
        if !self.resume || !std::fs::read_to_string(&done).is_ok_and(|found| found == name) {
            observer.stage("learning", tokens);
            lesson.run(out, self.resume, &mut |step| observer.tokens(step.report.tokens))?;
            std::fs::write(&done, name)
                .map_err(|e| Error::io(&format!("write {}", done.display()), e))?;
        }
        self.measure(candidate, out, tokens, &held_out, survey.threads, observer)
    }

    fn measure(
        &self,
        candidate: &Candidate,
        path: &Path,
        tokens: usize,
        held_out: &Sequences,
        threads: usize,
        observer: &(dyn Observer + Sync),
    ) -> Result<Trial> {
        let gguf = Gguf::open(path)?;
        observer.stage("measuring", held_out.tokens());
        let measured =
            Measure::on_threads(threads)
                .run(&gguf, Some(self.model), held_out, &|tokens| observer.tokens(tokens))?;
        let options = Options { context_len: self.limits.context_len, ..Options::default() };
        Ok(Trial {
            candidate: candidate.clone(),
            file_bytes: gguf.file_bytes(),
            session_bytes: Session::plan_for(&gguf, &options)?.session_bytes,
            tokens_per_second: match self.limits.bytes_per_second {
                Some(rate) => rate / weight_bytes(&gguf) as f64,
                None => speed(&gguf, &options)?,
            },
            tokens,
            measured,
        })
    }
}

fn weight_bytes(gguf: &Gguf) -> usize {
    gguf.tensors().iter().map(|tensor| tensor.bytes.len()).sum()
}

/// Tokens a second, one after another, on this machine: the best of a few runs.
fn speed(gguf: &Gguf, options: &Options) -> Result<f64> {
    let mut session = Session::open(gguf, options)?;
    let count = session.context_len().min(64);
    let mut best = 0.0f64;
    for _ in 0..3 {
        session.clear();
        let start = Instant::now();
        for i in 0..count {
            session.feed(&[(i * 7919 % session.vocab_len()) as u32])?;
        }
        best = best.max(count as f64 / start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Where a run that writes `out` keeps its trials, and what it needs to go on.
pub fn unfinished(out: &Path) -> PathBuf {
    let name = out.file_name().and_then(|name| name.to_str()).unwrap_or("model");
    out.with_file_name(format!(".{name}.fit"))
}

/// The end of a file's name that tells which lesson made the model of the same name.
const DONE: &str = "lesson";

/// A folder beside the result for what does not stay.
struct Scratch(PathBuf);

impl Scratch {
    /// Makes the folder; what a run left there that was stopped is lost unless it is gone on with.
    fn claim(out: &Path, resume: bool) -> Result<Self> {
        let scratch = Self(unfinished(out));
        if !resume {
            scratch.remove();
        }
        std::fs::create_dir_all(&scratch.0)
            .map_err(|e| Error::io(&format!("make {}", scratch.0.display()), e))?;
        Ok(scratch)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.gguf"))
    }

    fn trial(&self, place: usize) -> PathBuf {
        self.path(&format!("trial-{place}"))
    }

    /// Whether a lesson was learned, or begun.
    fn holds_lessons(&self) -> bool {
        let files = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let ends = |path: PathBuf| path.extension().is_some_and(|e| e == DONE || e == "checkpoint");
        files.map(|file| file.path()).any(ends)
    }

    fn remove(&self) {
        // Nothing more can be done about a folder that cannot be removed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Survey {
    /// How an impossible size is refused.
    fn too_small(&self, bytes: usize) -> Error {
        let least = self.least_bytes();
        Error::Invalid(text!(
            "{bytes} bytes are too few for what remains of this model at most cut and coarsest: about \
             {least}; cut and teach it in two steps"
        ))
    }
}
