//! One text under way: which words it has drawn, and what its templates become.

use super::lexicon::{Entry, Lexicon, Part};
use crate::compress::random::Random;

/// Signs around `right`, `wrong` in a text that holds both.
const OPEN: char = '\u{1}';
const BETWEEN: char = '\u{2}';
const CLOSE: char = '\u{3}';

pub(super) struct Draw<'a> {
    lexicon: &'a Lexicon,
    pub(super) random: &'a mut Random,
    /// Slot, list and entry.
    bound: Vec<(usize, usize, usize)>,
}

impl<'a> Draw<'a> {
    pub(super) fn new(lexicon: &'a Lexicon, random: &'a mut Random) -> Self {
        Self { lexicon, random, bound: Vec::new() }
    }

    /// Gives a slot a word of another list than its own.
    pub(super) fn bind(&mut self, slot: usize, list: usize) {
        let entry = self.random.below(self.lexicon.lists[list].entries.len());
        self.bound.push((slot, list, entry));
    }

    /// Makes all slots but one draw again.
    pub(super) fn forget_but(&mut self, slot: usize) {
        self.bound.retain(|(name, _, _)| *name == slot);
    }

    /// Makes all slots draw again.
    pub(super) fn forget_all(&mut self) {
        self.bound.clear();
    }

    /// Any of these.
    pub(super) fn any<'b, T>(&mut self, of: &'b [T]) -> &'b T {
        &of[self.random.below(of.len())]
    }

    /// Whether something of this probability happens.
    pub(super) fn chance(&mut self, cases: usize, of: usize) -> bool {
        self.random.below(of) < cases
    }

    /// What a template becomes.
    pub(super) fn text(&mut self, template: &'a [Part]) -> String {
        let mut out = String::new();
        self.expand(template, &mut out);
        out
    }

    /// Any entry of a list that is on the wanted side of the split.
    pub(super) fn entry(&mut self, list: usize, held_out: bool) -> &'a Entry {
        let entries = &self.lexicon.lists[list].entries;
        loop {
            let entry = &entries[self.random.below(entries.len())];
            if entry.held_out == held_out {
                return entry;
            }
        }
    }

    /// Appends what a template becomes, pairs between signs.
    fn expand(&mut self, template: &'a [Part], out: &mut String) {
        for part in template {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Choice(parts) => {
                    let chosen = self.random.below(parts.len());
                    self.expand(&parts[chosen], out);
                }
                Part::Slot { name, list, form } => {
                    let (list, entry) = self.word(*name, *list);
                    let entry = &self.lexicon.lists[list].entries[entry];
                    self.expand(&entry.forms[*form], out);
                }
                Part::Pair(right, wrong) => {
                    out.push(OPEN);
                    self.expand(right, out);
                    out.push(BETWEEN);
                    self.expand(wrong, out);
                    out.push(CLOSE);
                }
            }
        }
    }

    /// The list and entry of a slot. Two slots of one list have different words.
    fn word(&mut self, slot: usize, list: usize) -> (usize, usize) {
        if let Some((_, list, entry)) = self.bound.iter().find(|(name, _, _)| *name == slot) {
            return (*list, *entry);
        }
        let count = self.lexicon.lists[list].entries.len();
        let taken = self.bound.iter().filter(|bound| bound.1 == list).count();
        let entry = loop {
            let entry = self.random.below(count);
            let is_taken = self.bound.iter().any(|bound| (bound.1, bound.2) == (list, entry));
            if !is_taken || taken >= count {
                break entry;
            }
        };
        self.bound.push((slot, list, entry));
        (list, entry)
    }
}

/// The right or the wrong side of a text with pairs.
pub(super) fn side(text: &str, wrong: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut kept = true;
    for c in text.chars() {
        match c {
            OPEN => kept = !wrong,
            BETWEEN => kept = wrong,
            CLOSE => kept = true,
            _ if kept => out.push(c),
            _ => {}
        }
    }
    out
}
