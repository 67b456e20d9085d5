//! Texts to learn from and to be judged by, written by a seeded grammar of our own: no other text is in
//! them, and there is no end to them.
//!
//! Templates are divided once and for all: of every list one in five is held out, by a hash of its text,
//! and a model that never saw it can be judged by it. A story is made of many templates, and held out by a
//! hash of the whole.

mod draw;
mod kinds;
mod lexicon;
mod spell;

use crate::compress::random::Random;
use crate::{Error, Result};
use lexicon::Lexicon;

const FILES: [&str; 6] = [
    include_str!("corpus/words.txt"),
    include_str!("corpus/stories.txt"),
    include_str!("corpus/grammar.txt"),
    include_str!("corpus/questions.txt"),
    include_str!("corpus/home.txt"),
    include_str!("corpus/chinese.txt"),
];

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A story for children, of some 18 sentences.
    Stories,
    /// Plain sentences that show agreement.
    Sentences,
    /// A wrong sentence to correct; one in seven is right already.
    Grammar,
    /// A question about the small world of the texts.
    Questions,
    /// A request for a story, and the story.
    Requests,
    /// A command to a home or a device, answered by JSON.
    Home,
    /// A sentence to translate from English to Chinese or back.
    Chinese,
    /// A right sentence and a wrong one, to judge by.
    Pairs,
}

impl Kind {
    /// All, with their names.
    pub const ALL: [(&str, Self); 8] = [
        ("stories", Self::Stories),
        ("sentences", Self::Sentences),
        ("grammar", Self::Grammar),
        ("questions", Self::Questions),
        ("requests", Self::Requests),
        ("home", Self::Home),
        ("chinese", Self::Chinese),
        ("pairs", Self::Pairs),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// One text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// A text without more.
    Plain(String),
    /// A question and its answer.
    Answer {
        /// What it is.
        kind: Kind,
        /// What is asked.
        question: String,
        /// The only right answer; of a request, one of many.
        answer: String,
        /// The sentence to correct.
        source: Option<String>,
    },
    /// A right sentence and a wrong one, which differ in one place.
    Pair {
        /// The phenomenon that the two show.
        phenomenon: String,
        /// The right one.
        good: String,
        /// The wrong one.
        bad: String,
    },
}

impl Text {
    /// What a model learns from; nothing for a pair.
    pub fn document(&self) -> Option<String> {
        match self {
            Self::Plain(text) => Some(text.clone()),
            Self::Answer { question, answer, .. } => Some(format!("{} {answer}", prompt(question))),
            Self::Pair { .. } => None,
        }
    }
}

/// What a model is given to answer a question: `Q: question`, a line break, `A:`. The answer follows
/// after a space, and the end of the text after that. Four tokens of any vocabulary that saw it, and no
/// line of a story begins so.
pub fn prompt(question: &str) -> String {
    format!("Q: {question}\nA:")
}

/// Which texts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Kinds with their shares of the texts.
    pub mix: Vec<(Kind, u32)>,
    /// Same seed, same texts.
    pub seed: u64,
    /// Texts from templates that are kept from training, instead of the others.
    pub held_out: bool,
}

impl Options {
    /// The mix for a small model that shall do a little of everything. Stories are five times as long as
    /// the rest, so four in ten bytes are theirs.
    pub const MIX: [(Kind, u32); 7] = [
        (Kind::Stories, 3),
        (Kind::Sentences, 1),
        (Kind::Grammar, 8),
        (Kind::Questions, 6),
        (Kind::Requests, 1),
        (Kind::Home, 6),
        (Kind::Chinese, 3),
    ];
}

/// Texts by their number.
pub struct Corpus {
    lexicon: Lexicon,
    options: Options,
    plots: Vec<usize>,
    grammar: Vec<usize>,
    questions: Vec<usize>,
    home: Vec<usize>,
    chinese: Vec<usize>,
}

impl Corpus {
    /// Numbers of texts that are this far apart show the same phenomenon, where there is one.
    pub const STRIDE: u64 = 12 << 40;

    /// # Errors
    /// [`Error::Invalid`] for shares that are all 0.
    pub fn new(options: Options) -> Result<Self> {
        if options.mix.iter().all(|(_, share)| *share == 0) {
            return Err(Error::Invalid("a mix of texts whose shares are all 0".into()));
        }
        let lexicon = Lexicon::read(&FILES)?;
        Ok(Self {
            plots: lexicon.family("plot"),
            grammar: lexicon.family("grammar"),
            questions: lexicon.family("question"),
            home: lexicon.family("home"),
            chinese: lexicon.family("chinese"),
            lexicon,
            options,
        })
    }

    /// The text of a number; it depends on nothing but the number and the options.
    ///
    /// # Errors
    /// None but for a mistake in the lists of words.
    pub fn text(&self, number: u64) -> Result<Text> {
        let own = Random(self.options.seed).next();
        let random = &mut Random(own ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        let total: usize = self.options.mix.iter().map(|(_, share)| *share as usize).sum();
        let mut left = random.below(total);
        let mut kind = Kind::Stories;
        for (next, share) in &self.options.mix {
            kind = *next;
            match left.checked_sub(*share as usize) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        Ok(match kind {
            Kind::Stories => Text::Plain(self.tell(random)?),
            Kind::Sentences => Text::Plain(self.sentences(random)?),
            Kind::Grammar => self.correction(random)?,
            Kind::Questions => self.question(random),
            Kind::Requests => self.request(random)?,
            Kind::Home => self.command(random)?,
            Kind::Chinese => self.translation(random),
            Kind::Pairs => self.pair(random, number),
        })
    }
}
