//! A run of training from first step to written file: a student learns from a text, from a teacher, or from
//! both, and goes on after a stop as if there had been none.

use super::quantize::{Recipe, Rounding};
use super::random::Random;
use super::sequences::Sequences;
use super::vocabulary::TokenMap;
use crate::gguf::Gguf;
use crate::train::{AdamOptions, Loss, StepReport, Teacher, Trainer, TrainerOptions};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How to learn.
#[derive(Clone, Copy, Debug)]
pub struct LearnOptions {
    /// Tokens to learn from; sequences come again, in another order, once all have been seen.
    pub tokens: usize,
    /// Sequences a step.
    pub batch_len: usize,
    /// Threads, 0 for one a core.
    pub threads: usize,
    /// How weights change.
    pub adam: AdamOptions,
    /// What is made small.
    pub loss: Loss,
    /// Orders the sequences.
    pub seed: u64,
    /// How long a stop may set the run back.
    pub checkpoint_after: Duration,
}

/// Who learns what from whom.
#[derive(Clone, Copy)]
pub struct Learn<'a> {
    /// What learns; its tensors may be in any format.
    pub student: &'a Gguf,
    /// Whose predictions count, if any's.
    pub teacher: Option<&'a Gguf>,
    /// In the student's tokens.
    pub sequences: &'a Sequences,
    /// What to write of the student's tensors, and steps see the weights rounded to it; f32 without.
    pub recipe: Option<&'a Recipe>,
    /// How.
    pub options: LearnOptions,
}

/// What a run is at.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Steps taken, this one included.
    pub taken: u64,
    /// Steps of the whole run.
    pub of: u64,
    /// What this one did.
    pub report: StepReport,
}

impl Learn<'_> {
    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        let Self { sequences, options, .. } = self;
        let predicted = sequences.tokens() - sequences.len();
        let a_step = predicted as f64 / sequences.len() as f64 * options.batch_len as f64;
        (options.tokens as f64 / a_step).ceil().max(1.0) as u64
    }

    /// Learns, and writes the student to `out`. Meanwhile `out` with `.checkpoint` at its end holds
    /// what is needed to go on, which `resume` does; it is gone at the end. `each` is told of every step and
    /// says whether to go on.
    ///
    /// # Errors
    /// [`Error::Cancelled`] once `each` says so, the checkpoint written; [`Error::Invalid`] for a checkpoint of
    /// another run, vocabularies that do not fit, or sequences with nothing to predict; those of opening and
    /// running models and of writing.
    pub fn run(&self, out: &Path, resume: bool, each: &mut dyn FnMut(&Step) -> bool) -> Result<()> {
        let Self { student, sequences, options, .. } = *self;
        let (len, steps) = (sequences.longest(), self.steps());
        let LearnOptions { batch_len, threads, adam, loss, .. } = options;
        let sizes = TrainerOptions { sequence_len: len, batch_len, threads, adam, loss, steps };
        let mut trainer = Trainer::new(student, sizes)?;
        if let Some(recipe) = self.recipe {
            trainer.round_to(&|name| recipe.rounds(student, name));
        }
        let mut teacher = match self.teacher.filter(|_| loss.teacher_share > 0.0) {
            Some(gguf) => {
                let map = TokenMap::new(student, gguf)?;
                let tokens = (0..trainer.vocab_len() as u32).map(|id| map.reference(id)).collect();
                Some(Teacher::open(gguf, &sizes, Some(tokens))?)
            }
            None => None,
        };
        let (run, checkpoint) = (self.name(), checkpoint_of(out));
        if resume && checkpoint.exists() {
            trainer.resume(&run, &checkpoint)?;
        }
        let mut written = Instant::now();
        for taken in trainer.steps_taken()..steps {
            let texts: Vec<&[u32]> = self.batch(taken);
            let report = trainer.step(&texts, teacher.as_mut())?;
            let go_on = each(&Step { taken: taken + 1, of: steps, report });
            if !go_on || written.elapsed() > options.checkpoint_after {
                trainer.checkpoint(&run, &checkpoint)?;
                written = Instant::now();
            }
            if !go_on {
                return Err(Error::Cancelled);
            }
        }
        self.write(&trainer, out)?;
        remove(&checkpoint)
    }

    fn write(&self, trainer: &Trainer, out: &Path) -> Result<()> {
        let Some(recipe) = self.recipe else { return trainer.save(self.student, out) };
        let exact = beside(out, ".f32");
        trainer.save(self.student, &exact)?;
        let rounding = Rounding { importance: None, threads: self.options.threads.max(1) };
        let written =
            Gguf::open(&exact).and_then(|gguf| recipe.write(&gguf, rounding, out, &mut |_| {}));
        remove(&exact).and(written)
    }

    /// The sequences of step `step`: all of them in an order of each round's own, then again.
    fn batch(&self, step: u64) -> Vec<&[u32]> {
        let (count, batch_len) = (self.sequences.len(), self.options.batch_len);
        let first = step * batch_len as u64;
        let mut round = None;
        let places = (first..first + batch_len as u64).map(|n| {
            let (of, place) = (n / count as u64, (n % count as u64) as usize);
            if round.as_ref().is_none_or(|(current, _)| *current != of) {
                round = Some((of, order(count, self.options.seed, of)));
            }
            round.as_ref().map_or(0, |(_, order)| order[place])
        });
        places.map(|i| self.sequences.get(i as usize)).collect()
    }

    /// All that the result depends on, in few words: a checkpoint of another run is refused.
    pub(super) fn name(&self) -> String {
        let tensors = |gguf: &Gguf| {
            gguf.tensors().iter().fold(HASH_START, |hash, tensor| hashed(hash, &tensor.bytes))
        };
        let (student, teacher) = (tensors(self.student), self.teacher.map_or(0, tensors));
        let tokens = self.sequences.iter().flatten().flat_map(|id| id.to_le_bytes());
        let data = tokens.fold(HASH_START, |hash, byte| hashed(hash, &[byte]));
        let LearnOptions { tokens, batch_len, adam, loss, seed, .. } = self.options;
        let recipe = hashed(HASH_START, format!("{:?}", self.recipe).as_bytes());
        format!(
            "student {student:016x} teacher {teacher:016x} data {data:016x} tokens {tokens} \
             recipe {recipe:016x} batch {batch_len} seed {seed} {adam:?} {loss:?}"
        )
    }
}

/// Where a run that writes `out` keeps what it needs to go on.
pub fn checkpoint_of(out: &Path) -> PathBuf {
    beside(out, ".checkpoint")
}

fn beside(out: &Path, end: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(&format!("remove {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

/// `0..count` in an order that the seed and the round decide (Fisher and Yates).
fn order(count: usize, seed: u64, round: u64) -> Vec<u32> {
    let mut random = Random(Random(seed).next() ^ round);
    let mut order: Vec<u32> = (0..count as u32).collect();
    for i in (1..count).rev() {
        order.swap(i, (random.next() % (i as u64 + 1)) as usize);
    }
    order
}

const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a (draft-eastlake-fnv) over words where there are whole ones, so that models take no minutes.
fn hashed(mut hash: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    for value in words.chain(rest.iter().map(|byte| u64::from(*byte))) {
        hash = (hash ^ value).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_has_every_sequence_once() {
        let orders: Vec<_> = (0..3).map(|round| order(100, 7, round)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..100));
        }
        assert!(orders[0] != orders[1] && orders[1] != orders[2]);
        assert_eq!(order(100, 7, 1), orders[1]);
    }

    #[test]
    fn hashes_tell_texts_apart() {
        assert_eq!(hashed(HASH_START, b""), HASH_START);
        assert_ne!(hashed(HASH_START, b"12345678"), hashed(HASH_START, b"12345679"));
        assert_ne!(hashed(HASH_START, b"123456789"), hashed(HASH_START, b"12345678"));
    }
}
