//! Lists of words and templates, as the `.txt` files beside this one have them.
//!
//! ```text
//! # a remark
//! place (in): the park/in the park, the lake/at the lake,
//!   the farm/on the farm
//! percent: 1..100
//! greeting:
//! = {good} to you too.
//! - hello {hero}[, my friend|]!
//! - good day => good day to you.
//! - ? what may be left out
//! ```
//!
//! A list has entries: after its name, apart by commas, each with a further form of the word for every
//! name in brackets; or a template a line, with an answer behind `=>` or the one that `=` gave before.
//! `{place}` and `{place.in}` are one entry throughout a text; `{place2}` is another. `[one|two]` is
//! one of its parts. `<right/wrong>` is both, for those who want a mistake. `a(n)` is the article that
//! fits, `a(!)` the one that does not.

use crate::memory::text;
use crate::{Error, Result};
use std::collections::HashMap;

/// A part of a template.
pub(super) enum Part {
    Text(String),
    /// One of these.
    Choice(Vec<Template>),
    /// A form of the list's entry that the text has under this name.
    Slot {
        name: usize,
        list: usize,
        form: usize,
    },
    /// What is right, and what is wrong.
    Pair(Template, Template),
}

pub(super) type Template = Vec<Part>;

/// A word with its forms, or a template with its answer.
pub(super) struct Entry {
    pub(super) forms: Vec<Template>,
    /// Whether a story may leave it out, or it is no command.
    pub(super) optional: bool,
    /// Whether no text for training has it.
    pub(super) held_out: bool,
}

pub(super) struct List {
    pub(super) name: String,
    forms: Vec<String>,
    pub(super) entries: Vec<Entry>,
}

/// All lists, and all names that slots have.
pub(super) struct Lexicon {
    pub(super) lists: Vec<List>,
    places: HashMap<String, usize>,
    slots: HashMap<String, usize>,
}

/// One text or template in this many is held out.
const HELD_OUT_SHARE: usize = 5;

/// FNV-1a, mixed once more.
fn hash(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Whether a whole text is kept from training.
pub(super) fn held_out(text: &str) -> bool {
    (hash(text) >> 32).is_multiple_of(HELD_OUT_SHARE as u64)
}

/// The templates of a list that are kept from training: the fifth of least hash, at least one, so that
/// each list can be judged.
fn held_out_templates(templates: &[RawEntry]) -> Vec<bool> {
    let mut order: Vec<_> = (0..templates.len()).collect();
    order.sort_by_key(|i| hash(&templates[*i].forms[0]));
    let mut held_out = vec![false; templates.len()];
    let count = (templates.len() / HELD_OUT_SHARE).max(1);
    order.iter().take(count).for_each(|i| held_out[*i] = true);
    held_out
}

impl Lexicon {
    /// Reads files, which may use each other's lists.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the list and what is wrong there.
    pub(super) fn read(files: &[&str]) -> Result<Self> {
        let mut raw = Vec::new();
        for file in files {
            read_lists(file, &mut raw)?;
        }
        let mut lexicon = Self { lists: Vec::new(), places: HashMap::new(), slots: HashMap::new() };
        for (i, list) in raw.iter().enumerate() {
            if lexicon.places.insert(list.name.clone(), i).is_some() {
                return Err(invalid(&list.name, "there twice"));
            }
            let (name, forms) = (list.name.clone(), list.forms.clone());
            lexicon.lists.push(List { name, forms, entries: Vec::new() });
        }
        for (i, list) in raw.iter().enumerate() {
            let held_out = held_out_templates(&list.entries);
            let entries = list.entries.iter().zip(held_out);
            let entries: Result<_> = entries.map(|(e, out)| lexicon.entry(list, e, out)).collect();
            lexicon.lists[i].entries = entries?;
        }
        Ok(lexicon)
    }

    /// The list of this name.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none.
    pub(super) fn list(&self, name: &str) -> Result<usize> {
        self.places.get(name).copied().ok_or_else(|| invalid(name, "no list"))
    }

    /// Lists whose name begins with this word, in their order.
    pub(super) fn family(&self, word: &str) -> Vec<usize> {
        let of = |list: &List| list.name.split_once(' ').is_some_and(|(first, _)| first == word);
        (0..self.lists.len()).filter(|i| of(&self.lists[*i])).collect()
    }

    /// The name of a slot, as a number.
    ///
    /// # Errors
    /// [`Error::Invalid`] if no template has such a slot.
    pub(super) fn slot(&self, name: &str) -> Result<usize> {
        self.slots.get(name).copied().ok_or_else(|| invalid(name, "no slot"))
    }

    fn entry(&mut self, list: &RawList, entry: &RawEntry, held_out: bool) -> Result<Entry> {
        let mut forms = Vec::new();
        for form in &entry.forms {
            let mut rest = form.as_str();
            forms.push(self.template(&list.name, &mut rest, "")?);
            if !rest.is_empty() {
                return Err(invalid(&list.name, &format!("'{form}' closes what it did not open")));
            }
        }
        Ok(Entry { forms, optional: entry.optional, held_out })
    }

    /// Takes a template off the front of `rest`, up to one of `ends` or the end.
    fn template(&mut self, list: &str, rest: &mut &str, ends: &str) -> Result<Template> {
        let mut template = Vec::new();
        let mut plain = String::new();
        while let Some(c) = rest.chars().next().filter(|c| !ends.contains(*c)) {
            let after = &rest[c.len_utf8()..];
            let is_slot = c == '{' && after.starts_with(|c: char| c.is_ascii_alphabetic());
            if !is_slot && !matches!(c, '[' | '<') {
                plain.push(c);
                *rest = after;
                continue;
            }
            if !plain.is_empty() {
                template.push(Part::Text(std::mem::take(&mut plain)));
            }
            *rest = after;
            template.push(match c {
                '{' => {
                    let (name, after) =
                        after.split_once('}').ok_or_else(|| invalid(list, "a { without }"))?;
                    *rest = after;
                    self.slot_part(list, name)?
                }
                '[' => Part::Choice(self.parts(list, rest, '|', ']')?),
                _ => match <[Template; 2]>::try_from(self.parts(list, rest, '/', '>')?) {
                    Ok([right, wrong]) => Part::Pair(right, wrong),
                    Err(_) => return Err(invalid(list, "a <right/wrong> without two parts")),
                },
            });
        }
        if !plain.is_empty() {
            template.push(Part::Text(plain));
        }
        Ok(template)
    }

    /// Templates apart by one sign, up to another.
    fn parts(
        &mut self,
        list: &str,
        rest: &mut &str,
        between: char,
        end: char,
    ) -> Result<Vec<Template>> {
        let mut parts = Vec::new();
        loop {
            parts.push(self.template(list, rest, &format!("{between}{end}"))?);
            let sign = rest.chars().next();
            *rest = rest.get(1..).unwrap_or_default();
            match sign {
                Some(sign) if sign == end => return Ok(parts),
                Some(_) => {}
                None => return Err(invalid(list, &format!("no '{end}'"))),
            }
        }
    }

    fn slot_part(&mut self, list: &str, slot: &str) -> Result<Part> {
        let (name, form) = slot.split_once('.').unwrap_or((slot, ""));
        let place = self.list(name.trim_end_matches(|c: char| c.is_ascii_digit()));
        let place = place.map_err(|_| invalid(list, &format!("no list for '{slot}'")))?;
        let forms = &self.lists[place].forms;
        let form = match form {
            "" => 0,
            form => match forms.iter().position(|f| f == form) {
                Some(i) => i + 1,
                None => return Err(invalid(list, &format!("no such form: '{slot}'"))),
            },
        };
        let count = self.slots.len();
        let name = *self.slots.entry(name.to_string()).or_insert(count);
        Ok(Part::Slot { name, list: place, form })
    }
}

struct RawEntry {
    forms: Vec<String>,
    optional: bool,
}

struct RawList {
    name: String,
    forms: Vec<String>,
    answer: Option<String>,
    entries: Vec<RawEntry>,
}

fn read_lists(file: &str, lists: &mut Vec<RawList>) -> Result<()> {
    for line in file.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let last = lists.last_mut().ok_or_else(|| invalid(line, "in no list"));
        if let Some(template) = line.strip_prefix("- ") {
            let list = last?;
            let (optional, template) = match template.strip_prefix("? ") {
                Some(template) => (true, template),
                None => (false, template),
            };
            let mut forms = match template.split_once(" => ") {
                Some((template, answer)) => vec![template.to_string(), answer.to_string()],
                None => vec![template.to_string()],
            };
            forms.extend(list.answer.clone().filter(|_| forms.len() == 1));
            list.entries.push(RawEntry { forms, optional });
        } else if let Some(answer) = line.strip_prefix("= ") {
            last?.answer = Some(answer.to_string());
        } else if line.starts_with(' ') {
            read_words(last?, line)?;
        } else {
            let (head, words) = line.split_once(':').ok_or_else(|| invalid(line, "no ':'"))?;
            let (name, forms) = match head.strip_suffix(')').and_then(|head| head.split_once(" ("))
            {
                Some((name, forms)) => (name, forms.split(' ').map(str::to_string).collect()),
                None => (head, Vec::new()),
            };
            let name = name.to_string();
            lists.push(RawList { name, forms, answer: None, entries: Vec::new() });
            if let Some(list) = lists.last_mut() {
                read_words(list, words)?;
            }
        }
    }
    match lists.iter().find(|list| list.entries.is_empty()) {
        Some(list) => Err(invalid(&list.name, "no entries")),
        None => Ok(()),
    }
}

/// Words apart by commas, or a range of numbers.
fn read_words(list: &mut RawList, words: &str) -> Result<()> {
    let bounds = words.trim().split_once("..");
    if let Some((Ok(first), Ok(last))) = bounds.map(|(a, b)| (a.parse::<u32>(), b.parse())) {
        let numbers = (first..=last).map(|n| vec![n.to_string()]);
        list.entries.extend(numbers.map(|forms| RawEntry { forms, optional: false }));
        return Ok(());
    }
    for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let forms: Vec<_> = word.split('/').map(str::to_string).collect();
        if forms.len() != list.forms.len() + 1 {
            return Err(invalid(&list.name, &format!("'{word}' has {} forms", forms.len())));
        }
        list.entries.push(RawEntry { forms, optional: false });
    }
    Ok(())
}

fn invalid(list: &str, what: &str) -> Error {
    Error::Invalid(text!("list '{list}' of the corpus: {what}"))
}
