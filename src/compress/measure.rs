//! How well a model predicts sequences, and how far its predictions are from a reference's. Figures
//! that llama.cpp's perplexity tool gives too are defined as there.

use super::parallel;
use super::sequences::{Progress, Sequences};
use super::vocabulary::TokenMap;
use crate::gguf::Gguf;
use crate::session::{Options, Readout, Session, log_total};
use crate::{Error, Result, Tokenizer};
use attar_kernels::{Format, math};

/// How to measure.
#[derive(Clone, Copy)]
pub struct Measure<'a> {
    /// Threads, each with sessions of its own.
    pub workers: usize,
    /// Opens a session with room for so many tokens.
    pub open: Open<'a>,
    /// Tokens of each sequence that are only context: the one after them is the first predicted.
    pub skip: usize,
}

/// Opens a session over a model with room for so many tokens.
pub type Open<'a> = &'a (dyn Fn(&Gguf, usize) -> Result<Session> + Sync);

/// A mean, and the standard error of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its standard error, which takes the values for independent.
    pub error: f64,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Tokens predicted.
    pub tokens: usize,
    /// Negative log probability of a token, in nats.
    pub nll: Estimate,
    /// Information a byte of the tokens' text takes; `None` where the vocabulary has no text.
    pub bits_per_byte: Option<f64>,
    /// How far the reference is, if there is one.
    pub divergence: Option<Divergence>,
}

/// How far a model's predictions are from a reference's. Where the model has only some of the
/// reference's tokens, the reference's probabilities are those given that it is one of them.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// Negative log probability the reference gives a token, in nats.
    pub reference_nll: Estimate,
    /// Kullback-Leibler divergence of the model from the reference at a position, in nats.
    pub kl: Estimate,
    /// Half of the positions have less.
    pub kl_median: f64,
    /// 99 % of the positions have less.
    pub kl_99: f64,
    /// The most.
    pub kl_max: f64,
    /// Share of positions where both find the same token the likeliest, 0 to 1.
    pub same_top: f64,
}

impl Measure<'_> {
    /// On the CPU, with exact keys and values.
    pub fn on_threads(workers: usize) -> Self {
        Self { workers, open: &on_one_thread, skip: 0 }
    }

    /// Runs the model over all sequences, in its own tokens, and the reference in step with it.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the model has a token that the reference lacks, or no token is
    /// predicted; [`Error::Cancelled`] once `progress` says so; those of opening and running sessions.
    pub fn run(
        &self,
        model: &Gguf,
        reference: Option<&Gguf>,
        sequences: &Sequences,
        progress: Progress<'_>,
    ) -> Result<Measured> {
        let map = reference.map(|reference| TokenMap::new(model, reference)).transpose()?;
        let len = sequences.longest();
        let make = || {
            let other = match (reference, &map) {
                (Some(gguf), Some(map)) => Some(Other::new((self.open)(gguf, len)?, map)),
                _ => None,
            };
            Pair::new((self.open)(model, len)?, other)
        };
        let parts = parallel::map(self.workers, sequences.len(), make, |pair, i| {
            let sequence = sequences.get(i);
            let part = pair.run(sequence, self.skip, progress);
            let go_on = progress(sequence.len());
            if go_on { part } else { Err(Error::Cancelled) }
        })?;
        let tokenizer = Tokenizer::load(model).ok().filter(|tokenizer| !tokenizer.is_empty());
        let bytes = match &tokenizer {
            Some(tokenizer) => Some(text_len(tokenizer, sequences, self.skip)?),
            None => None,
        };
        summary(&parts, bytes, reference.is_some())
    }
}

fn on_one_thread(gguf: &Gguf, context_len: usize) -> Result<Session> {
    let batch_len = context_len.clamp(1, ROWS_MAX);
    let options =
        Options { context_len, batch_len, threads: 1, cache: Format::F32, ..Options::default() };
    Session::open(gguf, &options)
}

/// Positions at a time, and the bytes that the reference's logits of them may take.
const ROWS_MAX: usize = 64;
const ROW_BYTES_MAX: usize = 16 << 20;

/// The model, and the reference one step ahead of it.
struct Pair<'a> {
    session: Session,
    other: Option<Other<'a>>,
    rows: usize,
}

struct Other<'a> {
    session: Session,
    map: &'a TokenMap,
    ids: Vec<u32>,
    /// Logits of some positions, one a token of the model's.
    logits: Vec<f32>,
}

/// One predicted token.
#[derive(Clone, Copy, Default)]
struct Position {
    nll: f64,
    reference_nll: f64,
    kl: f64,
    same_top: bool,
}

impl<'a> Other<'a> {
    fn new(session: Session, map: &'a TokenMap) -> Self {
        Self { session, map, ids: Vec::new(), logits: Vec::new() }
    }

    fn feed(&mut self, ids: &[u32], go_on: &dyn Fn() -> bool) -> Result<()> {
        let Self { session, map, logits, .. } = self;
        self.ids.clear();
        self.ids.extend(ids.iter().map(|id| map.reference(*id)));
        logits.clear();
        session.read_each(Readout::Logits, &self.ids, go_on, &mut |_, row| {
            map.restrict(row, logits);
        })
    }
}

impl<'a> Pair<'a> {
    fn new(session: Session, other: Option<Other<'a>>) -> Result<Self> {
        let vocab_len = session.vocab_len();
        if let Some(other) = &other {
            other.map.check(vocab_len, other.session.vocab_len())?;
        }
        let rows = (ROW_BYTES_MAX / (4 * vocab_len)).clamp(1, ROWS_MAX);
        Ok(Self { session, other, rows })
    }

    fn run(
        &mut self,
        sequence: &[u32],
        skip: usize,
        progress: Progress<'_>,
    ) -> Result<Vec<Position>> {
        let go_on = || progress(0);
        let fed = &sequence[..sequence.len() - 1];
        let vocab_len = self.session.vocab_len();
        let mut positions = Vec::with_capacity(fed.len().saturating_sub(skip));
        self.session.clear();
        self.other.iter_mut().for_each(|other| other.session.clear());
        for (chunk, ids) in fed.chunks(self.rows).enumerate() {
            let first = chunk * self.rows;
            if let Some(other) = &mut self.other {
                other.feed(ids, &go_on)?;
            }
            let reference = self.other.as_ref().map(|other| &other.logits[..]);
            self.session.read_each(Readout::Logits, ids, &go_on, &mut |i, row| {
                if first + i >= skip {
                    let reference = reference.map(|rows| &rows[i * vocab_len..][..vocab_len]);
                    positions.push(compare(row, reference, sequence[first + i + 1]));
                }
            })?;
        }
        Ok(positions)
    }
}

fn compare(logits: &[f32], reference: Option<&[f32]>, target: u32) -> Position {
    let total = log_total(logits);
    let target = target as usize;
    let nll = total - f64::from(logits[target]);
    let Some(reference) = reference else { return Position { nll, ..Position::default() } };
    let reference_total = log_total(reference);
    let mut kl = 0.0;
    for (q, p) in logits.iter().zip(reference) {
        let log_p = f64::from(*p) - reference_total;
        let p = f64::from(math::exp(log_p as f32));
        if p > 0.0 {
            kl += p * (log_p - (f64::from(*q) - total));
        }
    }
    let reference_nll = reference_total - f64::from(reference[target]);
    Position { nll, reference_nll, kl, same_top: likeliest(logits) == likeliest(reference) }
}

fn likeliest(logits: &[f32]) -> usize {
    let better = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (0..logits.len()).fold(0, better)
}

/// Bytes of the predicted tokens' text.
fn text_len(tokenizer: &Tokenizer, sequences: &Sequences, skip: usize) -> Result<usize> {
    let mut bytes = 0;
    for ids in sequences.iter() {
        let given = &ids[..(skip + 1).min(ids.len())];
        bytes += tokenizer.decode(ids, false)?.len() - tokenizer.decode(given, false)?.len();
    }
    Ok(bytes)
}

fn summary(parts: &[Vec<Position>], bytes: Option<usize>, compared: bool) -> Result<Measured> {
    let all = || parts.iter().flatten();
    let tokens = all().count();
    if tokens == 0 {
        return Err(Error::Invalid("no token to predict: the sequences are too short".into()));
    }
    let nll = Estimate::of(all().map(|position| position.nll));
    let bits = nll.mean * tokens as f64 / std::f64::consts::LN_2;
    let bits_per_byte = bytes.filter(|bytes| *bytes > 0).map(|bytes| bits / bytes as f64);
    let divergence = compared.then(|| {
        let mut kl: Vec<f64> = all().map(|position| position.kl).collect();
        kl.sort_unstable_by(f64::total_cmp);
        Divergence {
            reference_nll: Estimate::of(all().map(|position| position.reference_nll)),
            kl: Estimate::of(all().map(|position| position.kl)),
            kl_median: quantile(&kl, 0.5),
            kl_99: quantile(&kl, 0.99),
            kl_max: quantile(&kl, 1.0),
            same_top: all().filter(|position| position.same_top).count() as f64 / tokens as f64,
        }
    });
    Ok(Measured { tokens, nll, bits_per_byte, divergence })
}

impl Estimate {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
        for value in values {
            (sum, squares, count) = (sum + value, squares + value * value, count + 1.0);
        }
        let mean: f64 = sum / f64::max(count, 1.0);
        let variance = (squares / f64::max(count, 1.0) - mean * mean).max(0.0);
        Self { mean, error: (variance / f64::max(count - 1.0, 1.0)).sqrt() }
    }

    /// The exponential of the mean, as a perplexity is one.
    #[must_use]
    pub fn exp(self) -> Self {
        let mean = self.mean.exp();
        Self { mean, error: mean * self.error }
    }
}

/// Between the two nearest of sorted values, of which there is at least one.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, part) = (place as usize, place.fract());
    let high = (low + 1).min(sorted.len() - 1);
    (1.0 - part) * sorted[low] + part * sorted[high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_of_known_rows() {
        // p = (1/2, 1/4, 1/4) against q = (1/4, 1/2, 1/4), shifted by constants.
        let ln = |shares: [f32; 3], shift: f32| shares.map(|share| share.ln() + shift);
        let p = ln([0.5, 0.25, 0.25], 3.0);
        let q = ln([0.25, 0.5, 0.25], -7.0);
        let at = compare(&q, Some(&p), 1);
        let ln2 = std::f64::consts::LN_2;
        assert!((at.kl - 0.25 * ln2).abs() < 1e-6, "{}", at.kl);
        assert!((at.nll - ln2).abs() < 1e-6 && (at.reference_nll - 2.0 * ln2).abs() < 1e-6);
        assert!(!at.same_top && compare(&p, Some(&p), 0).same_top);
        assert!(compare(&p, Some(&p), 0).kl.abs() < 1e-9);
    }

    #[test]
    fn quantiles_lie_between_values() {
        let values = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(quantile(&values, 0.5), 3.0);
        assert_eq!(quantile(&values, 1.0), 8.0);
        assert_eq!(quantile(&values[..1], 0.99), 1.0);
        assert!((quantile(&values, 0.99) - (0.03 * 4.0 + 0.97 * 8.0)).abs() < 1e-12);
    }

    #[test]
    fn errors_shrink_with_the_count() {
        let few = Estimate::of([1.0, 3.0].into_iter());
        assert_eq!((few.mean, few.error), (2.0, 1.0));
        let many = Estimate::of((0..100).map(|i| f64::from(i % 2)));
        assert!((many.error - 0.5 / 99f64.sqrt()).abs() < 1e-12);
    }
}
