//! How a text of each kind is put together.

use super::draw::{Draw, side};
use super::lexicon::{Entry, held_out};
use super::spell::{self, capitalized};
use super::{Corpus, Kind, Text};
use crate::Result;
use crate::compress::random::Random;

impl Corpus {
    /// A story of the wanted side of the split.
    pub(super) fn tell(&self, random: &mut Random) -> Result<String> {
        loop {
            let (_, story) = self.story(&mut Draw::new(&self.lexicon, random))?;
            if held_out(&story) == self.options.held_out {
                return Ok(story);
            }
        }
    }

    /// The name of a plot, and a story: an opening, perhaps a habit, the plot, perhaps an ending.
    fn story<'a>(&'a self, draw: &mut Draw<'a>) -> Result<(&'a str, String)> {
        let lists = &self.lexicon.lists;
        let plot = &lists[*draw.any(&self.plots)];
        let mut words = plot.name.split(' ').skip(1);
        let [name, lesson] = std::array::from_fn(|_| words.next().unwrap_or_default());
        draw.bind(self.lexicon.slot("lesson")?, self.lexicon.list(&format!("lesson {lesson}"))?);
        let mut parts: Vec<&Entry> = Vec::new();
        parts.push(draw.any(&lists[self.lexicon.list("opening")?].entries));
        let habit = draw.any(&lists[self.lexicon.list("habit")?].entries);
        // Who is new in town has no friends yet.
        parts.extend((name != "lonely" && draw.chance(3, 4)).then_some(habit));
        for entry in &plot.entries {
            parts.extend((!entry.optional || draw.chance(2, 5)).then_some(entry));
        }
        let ending = draw.any(&lists[self.lexicon.list("ending")?].entries);
        parts.extend(draw.chance(2, 3).then_some(ending));
        let texts = parts.iter().map(|part| capitalized(&draw.text(&part.forms[0])));
        Ok((name, texts.collect::<Vec<_>>().join(" ")))
    }

    /// Up to six right sentences: one template with several subjects, or several with one.
    pub(super) fn sentences(&self, random: &mut Random) -> Result<String> {
        let mut draw = Draw::new(&self.lexicon, random);
        let [subject, state] = ["subject", "state"].map(|name| self.lexicon.slot(name));
        let [subject, state] = [subject?, state?];
        let count = 3 + draw.random.below(4);
        let fixed = draw.chance(1, 2).then(|| self.template(&mut draw, &self.grammar));
        let mut texts = Vec::new();
        for _ in 0..count {
            let entry = fixed.unwrap_or_else(|| self.template(&mut draw, &self.grammar));
            let text = side(&draw.text(&entry.forms[0]), false);
            if !texts.contains(&text) {
                texts.push(text);
            }
            draw.forget_but(if fixed.is_some() { state } else { subject });
        }
        Ok(capitalized(&texts.join(" ")))
    }

    /// A template of one of these lists, on the wanted side of the split.
    fn template<'a>(&'a self, draw: &mut Draw<'a>, lists: &[usize]) -> &'a Entry {
        let list = *draw.any(lists);
        draw.entry(list, self.options.held_out)
    }

    /// A text of one or two sentences with at most one mistake: of the templates that show agreement or,
    /// in training, out of a story, so that it must be copied and cannot be known.
    pub(super) fn correction(&self, random: &mut Random) -> Result<Text> {
        let mut draw = Draw::new(&self.lexicon, random);
        let fixing = &self.lexicon.lists[self.lexicon.list("fixing")?].entries;
        let fixing = draw.any(fixing);
        let fixing = draw.text(&fixing.forms[0]);
        let of_a_story = !self.options.held_out && draw.chance(2, 5);
        let [source, answer] = match of_a_story {
            true => self.spoiled(&mut draw)?,
            false => self.disagreeing(&mut draw)?,
        };
        let (kind, question) = (Kind::Grammar, format!("{fixing} {source}"));
        Ok(Text::Answer { kind, question, answer, source: Some(source) })
    }

    /// One sentence of a template or two, and the same as they should be.
    fn disagreeing<'a>(&'a self, draw: &mut Draw<'a>) -> Result<[String; 2]> {
        let count = if draw.chance(2, 5) { 2 } else { 1 };
        let wrong = draw.chance(6, 7).then(|| draw.random.below(count));
        let mut parts = Vec::new();
        for _ in 0..count {
            let entry = self.template(draw, &self.grammar);
            parts.push(draw.text(&entry.forms[0]));
            draw.forget_all();
        }
        let link = draw.any(&self.lexicon.lists[self.lexicon.list("link")?].entries);
        let link = draw.text(&link.forms[0]);
        Ok([wrong, None].map(|wrong| {
            let sides: Vec<_> = (0..count).map(|i| side(&parts[i], wrong == Some(i))).collect();
            capitalized(&match sides.as_slice() {
                [first, second] => match first.strip_suffix('.') {
                    Some(first) => link.replacen('@', first, 1).replacen('@', second, 1),
                    None => sides.join(" "),
                },
                _ => sides.concat(),
            })
        }))
    }

    /// A sentence of a story with a mistake in it, and the same as it was.
    fn spoiled<'a>(&'a self, draw: &mut Draw<'a>) -> Result<[String; 2]> {
        let mistakes = &self.lexicon.lists[self.lexicon.list("mistake")?].entries;
        let mistakes = mistakes.iter().map(|entry| [0, 1].map(|i| draw.text(&entry.forms[i])));
        let mistakes: Vec<_> = mistakes.collect();
        loop {
            let (_, story) = self.story(&mut Draw::new(&self.lexicon, draw.random))?;
            let sentences = spell::sentences(&story);
            let sentence = draw.any(&sentences);
            if draw.chance(1, 7) {
                return Ok([sentence.to_string(), sentence.to_string()]);
            }
            let wrongs = spell::mistakes(sentence, &mistakes);
            if !wrongs.is_empty() {
                return Ok([draw.any(&wrongs).clone(), sentence.to_string()]);
            }
        }
    }

    /// A right and a wrong sentence; the phenomena take turns.
    pub(super) fn pair(&self, random: &mut Random, number: u64) -> Text {
        let list = self.grammar[(number % self.grammar.len() as u64) as usize];
        let mut draw = Draw::new(&self.lexicon, random);
        let entry = draw.entry(list, self.options.held_out);
        let text = draw.text(&entry.forms[0]);
        let [good, bad] = [false, true].map(|wrong| capitalized(&side(&text, wrong)));
        let name = &self.lexicon.lists[list].name;
        let phenomenon = name.split_once(' ').map_or("", |(_, name)| name).to_string();
        Text::Pair { phenomenon, good, bad }
    }

    pub(super) fn question(&self, random: &mut Random) -> Text {
        let mut draw = Draw::new(&self.lexicon, random);
        let entry = self.template(&mut draw, &self.questions);
        let [question, answer] = self.both(&mut draw, entry).map(|text| capitalized(&text));
        Text::Answer { kind: Kind::Questions, question, answer, source: None }
    }

    /// A template and its answer, which share their words.
    fn both<'a>(&self, draw: &mut Draw<'a>, entry: &'a Entry) -> [String; 2] {
        [0, 1].map(|i| entry.forms.get(i).map_or_else(String::new, |form| draw.text(form)))
    }

    /// A request that the story behind it fulfils.
    pub(super) fn request(&self, random: &mut Random) -> Result<Text> {
        loop {
            let mut draw = Draw::new(&self.lexicon, random);
            let (plot, answer) = self.story(&mut draw)?;
            if held_out(&answer) != self.options.held_out {
                continue;
            }
            draw.bind(self.lexicon.slot("topic")?, self.lexicon.list(&format!("topic {plot}"))?);
            let wish = draw.entry(self.lexicon.list("wish")?, self.options.held_out);
            let question = capitalized(&draw.text(&wish.forms[0]));
            return Ok(Text::Answer { kind: Kind::Requests, question, answer, source: None });
        }
    }

    /// A command as it is spoken, now and then as it is written.
    pub(super) fn command(&self, random: &mut Random) -> Result<Text> {
        let mut draw = Draw::new(&self.lexicon, random);
        let entry = self.template(&mut draw, &self.home);
        let [mut question, answer] = self.both(&mut draw, entry);
        // What is no command bears no "please".
        if !entry.optional && draw.chance(1, 2) {
            let manner = draw.any(&self.lexicon.lists[self.lexicon.list("manner")?].entries);
            question = draw.text(&manner.forms[0]).replace('@', &question);
        }
        if draw.chance(1, 4) {
            question = capitalized(&format!("{question}{}", spell::mark(&question)));
        }
        Ok(Text::Answer { kind: Kind::Home, question, answer, source: None })
    }

    /// Two in three from English.
    pub(super) fn translation(&self, random: &mut Random) -> Text {
        let mut draw = Draw::new(&self.lexicon, random);
        let entry = self.template(&mut draw, &self.chinese);
        let [english, chinese] = self.both(&mut draw, entry);
        let english = capitalized(&english);
        let (question, answer) = match draw.chance(2, 3) {
            true => (format!("Translate [en] {english} into [zh]"), chinese),
            false => (format!("Translate [zh] {chinese} into [en]"), english),
        };
        Text::Answer { kind: Kind::Chinese, question, answer, source: None }
    }
}
