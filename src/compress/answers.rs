//! How well a model answers: its likeliest answers beside the right ones.

use super::measure::Measure;
use super::parallel;
use super::sequences::Progress;
use crate::gguf::Gguf;
use crate::memory::text;
use crate::session::Session;
use crate::{Error, Result, Tokenizer};
use serde_json::Value;

/// A prompt and its right answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What is scored together; empty for one kind only.
    pub kind: String,
    /// What the model is given.
    pub prompt: String,
    /// What it should say.
    pub answer: String,
    /// The sentence that it should correct.
    pub source: Option<String>,
}

impl Prompt {
    /// Reads one of the lines that `attar corpus --jsonl` writes: an object with `prompt` and `answer`,
    /// perhaps with `kind` and `source`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming what is wrong.
    pub fn from_json(line: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(line).map_err(|e| Error::Invalid(text!("no JSON object: {e}")))?;
        let field = |name: &str| value[name].as_str().map(str::to_string);
        let needed =
            |name| field(name).ok_or_else(|| Error::Invalid(text!("no string '{name}' in a line")));
        Ok(Self {
            kind: field("kind").unwrap_or_default(),
            prompt: needed("prompt")?,
            answer: needed("answer")?,
            source: field("source"),
        })
    }
}

/// Greedy answers to prompts, each from an empty context; one ends with the model's end of text, a line
/// break, or twice as many tokens as the right one has and eight.
///
/// # Errors
/// [`Error::Cancelled`] once `progress`, told of answers, says so, and those of sessions.
pub fn answers(
    model: &Gguf,
    prompts: &[Prompt],
    how: &Measure<'_>,
    progress: Progress<'_>,
) -> Result<Vec<String>> {
    let tokenizer = Tokenizer::load(model)?;
    let mut room = 1;
    let mut work = Vec::new();
    for prompt in prompts {
        let ids = tokenizer.encode(prompt.prompt.as_bytes(), true, false)?;
        let answer = tokenizer.encode(prompt.answer.as_bytes(), false, false)?;
        let len = answer.len() * 2 + 8;
        room = room.max(ids.len() + len);
        work.push((ids, len));
    }
    let open = || (how.open)(model, room);
    parallel::map(how.workers, work.len(), open, |session, i| {
        let (ids, len) = &work[i];
        let answer = greedy(session, &tokenizer, ids, *len)?;
        if progress(1) { Ok(answer) } else { Err(Error::Cancelled) }
    })
}

fn greedy(session: &mut Session, tokenizer: &Tokenizer, ids: &[u32], len: usize) -> Result<String> {
    session.clear();
    let mut said = Vec::new();
    let mut logits = session.feed(ids)?;
    for _ in 0..len {
        let better = |best: usize, id: usize| if logits[id] > logits[best] { id } else { best };
        let id = (0..logits.len()).fold(0, better) as u32;
        if tokenizer.is_end_of_text(id) {
            break;
        }
        let piece = tokenizer.piece(id)?;
        said.extend_from_slice(&piece);
        if piece.contains(&b'\n') {
            break;
        }
        logits = session.feed(&[id])?;
    }
    Ok(String::from_utf8_lossy(&said).trim().to_string())
}

/// How good answers are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Accuracy {
    /// Answers.
    pub count: usize,
    /// Those that are the right one; of JSON, those of equal value whatever their spelling.
    pub exact: usize,
    /// Answers that are JSON, where the right one is.
    pub sound: usize,
    /// Edits of sentences: those made that are wanted, those made, those wanted.
    pub edits: Edits,
}

/// Numbers of edits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Made, and wanted.
    pub right: usize,
    /// Made.
    pub made: usize,
    /// Wanted.
    pub wanted: usize,
}

impl Edits {
    /// Share of the edits made that are wanted; 1 where none was made.
    pub fn precision(&self) -> f64 {
        ratio(self.right, self.made)
    }

    /// Share of the edits wanted that were made; 1 where none was wanted.
    pub fn recall(&self) -> f64 {
        ratio(self.right, self.wanted)
    }

    /// Precision and recall as one, precision counting twice as much (Dahlmeier and Ng, 2012).
    pub fn f_half(&self) -> f64 {
        let (p, r) = (self.precision(), self.recall());
        if p + r == 0.0 { 0.0 } else { 1.25 * p * r / (0.25 * p + r) }
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// Scores answers beside the prompts they are to; edits of all sentences are counted together.
pub fn accuracy<'a>(answered: impl IntoIterator<Item = (&'a Prompt, &'a str)>) -> Accuracy {
    let mut sum = Accuracy::default();
    for (prompt, said) in answered {
        sum.count += 1;
        let parsed = |text: &str| serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
        sum.exact += usize::from(match parsed(&prompt.answer) {
            Some(right) => {
                let found = parsed(said);
                sum.sound += usize::from(found.is_some());
                found == Some(right)
            }
            None => said == prompt.answer,
        });
        if let Some(source) = &prompt.source {
            let (made, wanted) = (edits(source, said), edits(source, &prompt.answer));
            sum.edits.right += made.iter().filter(|edit| wanted.contains(edit)).count();
            sum.edits.made += made.len();
            sum.edits.wanted += wanted.len();
        }
    }
    sum
}

/// Words of the source from here to there, and what stands in their place.
type Edit = (usize, usize, Vec<String>);

/// What was changed, as few words as possible; marks are words. Neighbouring changes are one edit, but as
/// many words in the place of as many are an edit each.
fn edits(source: &str, target: &str) -> Vec<Edit> {
    let (source, target) = (words(source), words(target));
    // Lengths of the longest common subsequences of what follows.
    let mut common = vec![vec![0usize; target.len() + 1]; source.len() + 1];
    for i in (0..source.len()).rev() {
        for j in (0..target.len()).rev() {
            common[i][j] = match source[i] == target[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let mut edits: Vec<Edit> = Vec::new();
    let (mut i, mut j) = (0, 0);
    let mut open: Option<Edit> = None;
    while i < source.len() || j < target.len() {
        if i < source.len() && j < target.len() && source[i] == target[j] {
            edits.extend(open.take().into_iter().flat_map(apart));
            (i, j) = (i + 1, j + 1);
            continue;
        }
        let edit = open.get_or_insert((i, i, Vec::new()));
        let removes = j == target.len() || i < source.len() && common[i + 1][j] >= common[i][j + 1];
        if removes {
            i += 1;
            edit.1 = i;
        } else {
            edit.2.push(target[j].clone());
            j += 1;
        }
    }
    edits.extend(open.into_iter().flat_map(apart));
    edits
}

/// Edits of one word each, where as many words were put as were taken.
fn apart((start, end, with): Edit) -> Vec<Edit> {
    if end - start != with.len() {
        return vec![(start, end, with)];
    }
    with.into_iter().zip(start..).map(|(word, i)| (i, i + 1, vec![word])).collect()
}

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut goes_on = false;
    for c in text.chars() {
        let is_letter = c.is_alphanumeric() || c == '\'';
        match words.last_mut().filter(|_| is_letter && goes_on) {
            Some(word) => word.push(c),
            None if c.is_whitespace() => {}
            None => words.push(c.to_string()),
        }
        goes_on = is_letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{Prompt, accuracy, edits};

    fn edit(start: usize, end: usize, with: &[&str]) -> super::Edit {
        (start, end, with.iter().map(|word| (*word).to_string()).collect())
    }

    #[test]
    fn edits_are_the_least_change() {
        assert_eq!(edits("I are happy.", "I am happy."), [edit(1, 2, &["am"])]);
        assert_eq!(
            edits("She see a dog.", "She sees a dog!"),
            [edit(1, 2, &["sees"]), edit(4, 5, &["!"])]
        );
        assert_eq!(edits("He go home", "He went back home"), [edit(1, 2, &["went", "back"])]);
        assert_eq!(edits("a b", "a b"), []);
        assert_eq!(edits("a b c", "a c"), [edit(1, 2, &[])]);
        assert_eq!(edits("", "a"), [edit(0, 0, &["a"])]);
    }

    fn prompt(answer: &str, source: Option<&str>) -> Prompt {
        let source = source.map(str::to_string);
        Prompt { kind: String::new(), prompt: String::new(), answer: answer.into(), source }
    }

    #[test]
    fn accuracy_counts_by_hand() {
        let intent = prompt(r#"{"device":"light","on":1}"#, None);
        let said = [r#"{ "on": 1, "device": "light" }"#, r#"{"device":"lamp","on":1}"#, "light on"];
        let found = accuracy(said.map(|said| (&intent, said)));
        assert_eq!((found.count, found.exact, found.sound), (3, 1, 2));
        // One of two edits made is wanted, and one of two wanted is made.
        let first = prompt("I am happy.", Some("I are happy."));
        let second = prompt("He runs.", Some("He run."));
        let found = accuracy([(&first, "I am sad."), (&second, "He run.")]);
        assert_eq!((found.edits.right, found.edits.made, found.edits.wanted), (1, 2, 2));
        assert!((found.edits.f_half() - 0.5).abs() < 1e-12);
        // Nothing to do and nothing done is all right.
        let right = prompt("I am happy.", Some("I am happy."));
        assert_eq!(accuracy([(&right, "I am happy.")]).edits.f_half(), 1.0);
        assert_eq!(accuracy([(&right, "I is happy.")]).edits.f_half(), 0.0);
    }
}
