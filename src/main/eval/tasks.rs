//! The tasks of `attar eval`, and the files they come in.

use super::{Report, answers};
use crate::main::data::watched;
use crate::main::terminal::read_input;
use attar::compress::{Measure, MinimalPair, analogies, minimal_pairs, similarities, spearman};
use attar::memory::Shared;
use attar::{Error, Gguf, Result};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Files of tasks.
#[derive(clap::Args)]
pub(crate) struct TaskArgs {
    /// Minimal pairs: JSON lines with sentence_good, sentence_bad and UID, as BLiMP has them
    #[arg(long, value_name = "JSONL", num_args = 1..)]
    pairs: Vec<PathBuf>,
    /// Prompts with their right answers: JSON lines as `attar corpus --jsonl` writes them
    #[arg(long, value_name = "JSONL", num_args = 1..)]
    answers: Vec<PathBuf>,
    /// Similar sentences: CSV of two sentences and a score, as in STS-B
    #[arg(long, value_name = "CSV")]
    similarity: Option<PathBuf>,
    /// Analogies of words, four a line, as in questions-words.txt
    #[arg(long, value_name = "TXT")]
    analogies: Option<PathBuf>,
}

impl TaskArgs {
    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
            && self.answers.is_empty()
            && self.similarity.is_none()
            && self.analogies.is_none()
    }

    pub(super) fn run(
        &self,
        gguf: &Gguf,
        how: &Measure<'_>,
        threads: usize,
        stop: &Shared<AtomicBool>,
        report: &mut Report,
    ) -> Result<()> {
        if !self.pairs.is_empty() {
            let (names, pairs) = read_pairs(&self.pairs)?;
            let right = watched(pairs.len(), "pairs", stop, |progress| {
                minimal_pairs(gguf, &pairs, how, progress)
            })?;
            report_pairs(&names, &right, report);
        }
        if !self.answers.is_empty() {
            answers::run(&self.answers, gguf, how, stop, report)?;
        }
        if let Some(path) = &self.similarity {
            let (sentences, scores) = read_similarity(path)?;
            let cosines = watched(sentences.len(), "sentences", stop, |progress| {
                similarities(gguf, &sentences, how, progress)
            })?;
            let value = spearman(&cosines, &scores);
            report
                .json
                .insert("similarity".into(), json!({"spearman": value, "pairs": scores.len()}));
            let remark = format!("Spearman's correlation, {} pairs of sentences", scores.len());
            report.line("similarity", format!("{value:.4}"), remark);
        }
        if let Some(path) = &self.analogies {
            let questions = read_analogies(path)?;
            let table = gguf.need_tensor("token_embd.weight")?;
            let found = watched(table.len() / table.row_len(), "rows", stop, |progress| {
                analogies(gguf, &questions, threads, progress)
            })?;
            let count = questions.len();
            let unknown = (count - found.known) as f64 / count as f64;
            // Without a known question there is no share of them.
            let share = (found.known > 0).then(|| found.right as f64 / found.known as f64);
            report.json.insert(
                "analogies".into(),
                json!({"accuracy": share, "known": found.known, "right": found.right,
                    "out_of_vocabulary": unknown}),
            );
            let remark = format!(
                "of {} questions; {:.1} % of {count} out of vocabulary",
                found.known,
                100.0 * unknown
            );
            report.line("analogies", percent(share), remark);
        }
        Ok(())
    }
}

pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.2} %", 100.0 * share))
}

/// Accuracy of all pairs, then of each set, in the order they came.
fn report_pairs(names: &[String], right: &[bool], report: &mut Report) {
    let mut sets: Vec<(&str, usize, usize)> = Vec::new();
    for (name, right) in names.iter().zip(right) {
        let place = sets.iter().position(|set| set.0 == name).unwrap_or_else(|| {
            sets.push((name, 0, 0));
            sets.len() - 1
        });
        sets[place].1 += usize::from(*right);
        sets[place].2 += 1;
    }
    let share = |right: usize, count: usize| right as f64 / count as f64;
    let all = right.iter().filter(|right| **right).count();
    let accuracy = share(all, right.len());
    report.line("minimal pairs", percent(Some(accuracy)), format!("of {}", right.len()));
    let mut parts = Map::new();
    for (name, right, count) in &sets {
        report.line(
            &format!("  {name}"),
            percent(Some(share(*right, *count))),
            format!("of {count}"),
        );
        parts.insert((*name).into(), json!({"accuracy": share(*right, *count), "pairs": count}));
    }
    report.json.insert(
        "minimal_pairs".into(),
        json!({"accuracy": accuracy, "pairs": right.len(), "sets": parts}),
    );
}

pub(super) fn read_text(path: &Path) -> Result<String> {
    let text = String::from_utf8(read_input(path)?);
    text.map_err(|_| Error::Invalid(format!("{}: not UTF-8", path.display()).into()))
}

fn wrong(path: &Path, line: usize, expected: &str) -> Error {
    Error::Invalid(format!("{}: line {line}: expected {expected}", path.display()).into())
}

pub(super) fn some<T>(path: &Path, what: &str, values: Vec<T>) -> Result<Vec<T>> {
    match values.is_empty() {
        true => Err(Error::Invalid(format!("{}: no {what}", path.display()).into())),
        false => Ok(values),
    }
}

/// Pairs, each with the name of its set.
fn read_pairs(paths: &[PathBuf]) -> Result<(Vec<String>, Vec<MinimalPair>)> {
    let (mut names, mut pairs) = (Vec::new(), Vec::new());
    for path in paths {
        let before = pairs.len();
        let stem = path.file_stem().map_or("pairs".into(), |name| name.to_string_lossy());
        for (i, line) in read_text(path)?.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            let text = |key: &str| value[key].as_str().map(str::to_owned);
            let (Some(good), Some(bad)) = (text("sentence_good"), text("sentence_bad")) else {
                return Err(wrong(path, i + 1, "JSON with sentence_good and sentence_bad"));
            };
            names.push(text("UID").unwrap_or_else(|| stem.clone().into_owned()));
            pairs.push(MinimalPair { good, bad });
        }
        some(path, "pairs", pairs[before..].iter().collect())?;
    }
    Ok((names, pairs))
}

fn read_similarity(path: &Path) -> Result<(Vec<[String; 2]>, Vec<f64>)> {
    let (mut sentences, mut scores) = (Vec::new(), Vec::new());
    for (i, fields) in csv(&read_text(path)?).into_iter().enumerate() {
        let Ok([a, b, score]) = <[String; 3]>::try_from(fields) else {
            return Err(wrong(path, i + 1, "two sentences and a score"));
        };
        match score.trim().parse::<f64>() {
            Ok(score) if score.is_finite() => scores.push(score),
            _ if i == 0 => continue, // a line of names
            _ => return Err(wrong(path, i + 1, "a number as the third field")),
        }
        sentences.push([a, b]);
    }
    Ok((some(path, "pairs of sentences", sentences)?, scores))
}

fn read_analogies(path: &Path) -> Result<Vec<[String; 4]>> {
    let text = read_text(path)?;
    let lines = text.lines().enumerate();
    let questions = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with(':'));
    let questions = questions.map(|(i, line)| {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        words.try_into().map_err(|_| wrong(path, i + 1, "four words"))
    });
    some(path, "analogies", questions.collect::<Result<_>>()?)
}

/// Records of comma-separated fields (RFC 4180), empty lines left out.
fn csv(text: &str) -> Vec<Vec<String>> {
    let mut records = vec![vec![String::new()]];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(record) = records.last_mut() else { break };
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                push(record, '"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(String::new()),
            '\n' if !quoted => records.push(vec![String::new()]),
            '\r' if !quoted => {}
            _ => push(record, c),
        }
    }
    records.retain(|record| record.len() > 1 || !record[0].is_empty());
    records
}

fn push(record: &mut [String], c: char) {
    if let Some(field) = record.last_mut() {
        field.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::csv;

    #[test]
    fn fields_may_be_quoted() {
        let text = "a,b,1\r\n\"x, \"\"y\"\"\",\"two\nlines\",2\n\nz,,3";
        let want = [["a", "b", "1"], ["x, \"y\"", "two\nlines", "2"], ["z", "", "3"]];
        assert_eq!(csv(text), want);
    }
}
