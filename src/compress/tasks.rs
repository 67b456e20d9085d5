//! What a model knows, by tasks: minimal pairs, similar sentences, analogies of words.

use super::measure::Measure;
use super::parallel;
use super::sequences::Progress;
use crate::gguf::Gguf;
use crate::memory::text;
use crate::session::Readout;
use crate::{Error, Result, Tokenizer};

/// Two sentences of which one is wrong.
#[derive(Clone, Debug)]
pub struct MinimalPair {
    /// The sentence that is right.
    pub good: String,
    /// The one that is wrong.
    pub bad: String,
}

/// Whether the model gives the right sentence of each pair the greater probability.
///
/// # Errors
/// [`Error::Invalid`] for an empty sentence, [`Error::Cancelled`] once `progress`, told of pairs, says
/// so, and those of sessions.
pub fn minimal_pairs(
    model: &Gguf,
    pairs: &[MinimalPair],
    how: &Measure<'_>,
    progress: Progress<'_>,
) -> Result<Vec<bool>> {
    let tokenizer = Tokenizer::load(model)?;
    let len = room(&tokenizer, pairs.iter().flat_map(|pair| [&pair.good, &pair.bad]))?;
    let open = || (how.open)(model, len);
    parallel::map(how.workers, pairs.len(), open, |session, i| {
        let mut score = |text: &str| Ok(session.score_text(&tokenizer, text.as_bytes())?.logprob);
        let right = score(&pairs[i].good)? > score(&pairs[i].bad)?;
        if progress(1) { Ok(right) } else { Err(Error::Cancelled) }
    })
}

/// Tokens of the longest text, with those put around it.
fn room<'a>(tokenizer: &Tokenizer, texts: impl Iterator<Item = &'a String>) -> Result<usize> {
    let mut len = 2;
    for text in texts {
        len = len.max(tokenizer.encode(text.as_bytes(), true, false)?.len() + 1);
    }
    Ok(len)
}

/// Cosines of sentences' mean states, pair by pair: the last layer's output after the last norm, over
/// the tokens of the text.
///
/// # Errors
/// As [`minimal_pairs`].
pub fn similarities(
    model: &Gguf,
    sentences: &[[String; 2]],
    how: &Measure<'_>,
    progress: Progress<'_>,
) -> Result<Vec<f64>> {
    let tokenizer = Tokenizer::load(model)?;
    let len = room(&tokenizer, sentences.iter().flatten())?;
    let open = || (how.open)(model, len);
    parallel::map(how.workers, sentences.len(), open, |session, i| {
        let mut state = |text: &str| {
            let ids = tokenizer.encode(text.as_bytes(), true, false)?;
            if ids.is_empty() {
                return Err(Error::Invalid("an empty sentence has no state".into()));
            }
            // What starts a sequence is no part of the text.
            let first = usize::from(ids.len() > 1 && tokenizer.bos() == ids.first().copied());
            let mut sum = vec![0.0; session.width()];
            session.clear();
            session.read_each(Readout::States, &ids, &|| progress(0), &mut |i, row| {
                if i >= first {
                    sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
                }
            })?;
            Ok(sum)
        };
        let cosine = cosine(&state(&sentences[i][0])?, &state(&sentences[i][1])?);
        if progress(1) { Ok(cosine) } else { Err(Error::Cancelled) }
    })
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let norms = (product(a, a) * product(b, b)).sqrt();
    if norms > 0.0 { product(a, b) / norms } else { 0.0 }
}

/// Spearman's rank correlation of two rows of equal length, -1 to 1; equal values share their mean
/// rank. 0 where a row is constant.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let center = |values: &[f64]| {
        let middle = (values.len() as f64 - 1.0) / 2.0;
        ranks(values).into_iter().map(|rank| rank - middle).collect::<Vec<_>>()
    };
    cosine(&center(a), &center(b))
}

/// From 0; equal values have the mean of the ranks they take together.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for equals in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = first as f64 + (equals.len() as f64 - 1.0) / 2.0;
        equals.iter().for_each(|i| ranks[*i] = rank);
        first += equals.len();
    }
    ranks
}

/// How many analogies were solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Analogies {
    /// Questions of which each word is one token.
    pub known: usize,
    /// Those answered with the right word.
    pub right: usize,
}

/// Rows of the table at a time.
const ROWS: usize = 256;

/// Solves "a is to b as c is to what" on the table of embeddings: the token nearest to `b - a + c` by
/// cosine, all of length 1 and none of the three (3CosAdd: Mikolov, Yih and Zweig, 2013).
///
/// # Errors
/// [`Error::Missing`] and [`Error::Unsupported`] for a file without a table that can be read,
/// [`Error::Cancelled`] once `progress`, told of rows of the table, says so.
pub fn analogies(
    model: &Gguf,
    questions: &[[String; 4]],
    threads: usize,
    progress: Progress<'_>,
) -> Result<Analogies> {
    let tokenizer = Tokenizer::load(model)?;
    let table = model.need_tensor("token_embd.weight")?;
    let (format, len) = (table.format()?.info(), table.row_len());
    let rows = table.len() / len;
    let row = |id: usize| {
        let bytes = format.row_bytes(len);
        let mut row = vec![0.0; len];
        format.dequantize(&table.bytes[id * bytes..][..bytes], &mut row);
        let norm = dot(&row, &row).sqrt();
        row.iter_mut().for_each(|x| *x /= norm.max(f32::MIN_POSITIVE));
        row
    };
    let known: Vec<[usize; 4]> = questions
        .iter()
        .filter_map(|words| {
            let ids = words.each_ref().map(|word| token_of(&tokenizer, word));
            let [Some(a), Some(b), Some(c), Some(d)] = ids else { return None };
            Some([a, b, c, d]).filter(|ids| ids.iter().all(|id| *id < rows))
        })
        .collect();
    let wanted: Vec<Vec<f32>> = known
        .iter()
        .map(|[a, b, c, _]| {
            let (a, b, c) = (row(*a), row(*b), row(*c));
            (0..len).map(|i| b[i] - a[i] + c[i]).collect()
        })
        .collect();
    let blocks = parallel::map(
        threads,
        rows.div_ceil(ROWS),
        || Ok(()),
        |(), block| {
            let range = block * ROWS..rows.min((block + 1) * ROWS);
            let candidates: Vec<_> = range.clone().map(|id| (id, row(id))).collect();
            let best = known.iter().zip(&wanted).map(|(question, wanted)| {
                let others = candidates.iter().filter(|(id, _)| !question[..3].contains(id));
                let scored = others.map(|(id, row)| (dot(row, wanted), *id));
                scored.fold((f32::NEG_INFINITY, 0), |best, x| if x.0 > best.0 { x } else { best })
            });
            let best: Vec<_> = best.collect();
            if progress(range.len()) { Ok(best) } else { Err(Error::Cancelled) }
        },
    )?;
    let right = known.iter().enumerate().filter(|(q, question)| {
        let all = blocks.iter().map(|best| best[*q]);
        let best = all.fold((f32::NEG_INFINITY, 0), |best, x| if x.0 > best.0 { x } else { best });
        best.1 == question[3]
    });
    Ok(Analogies { known: known.len(), right: right.count() })
}

/// The token that is the word, after a space or at the start of a text.
fn token_of(tokenizer: &Tokenizer, word: &str) -> Option<usize> {
    [text!(" {word}"), text!("{word}")].iter().find_map(|text| {
        let ids = tokenizer.encode(text.as_bytes(), false, false).ok()?;
        let whole = tokenizer.decode(&ids, false).ok()?;
        (ids.len() == 1 && whole.trim_ascii() == word.as_bytes()).then(|| ids[0] as usize)
    })
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_ranks() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
    }

    #[test]
    fn correlation_of_ranks() {
        let rising = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert!((spearman(&rising, &[1.0, 8.0, 27.0, 64.0, 125.0]) - 1.0).abs() < 1e-12);
        assert!((spearman(&rising, &[5.0, 4.0, 3.0, 2.0, 1.0]) + 1.0).abs() < 1e-12);
        // By the formula without ties, 1 - 6 sum(d^2) / (n (n^2 - 1)), d^2 = 1, 1, 4, 1, 1.
        assert!((spearman(&rising, &[2.0, 1.0, 5.0, 3.0, 4.0]) - 0.6).abs() < 1e-12);
        assert_eq!(spearman(&rising, &[7.0; 5]), 0.0);
    }
}
