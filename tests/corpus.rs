//! The texts of the generator: always the same, on the right side of the split, and right.
#![cfg(feature = "std")]

use attar::compress::corpus::{Corpus, Kind, Options, Text};
use serde_json::Value;
use std::collections::HashSet;

fn texts(kind: Kind, held_out: bool, count: u64) -> Vec<Text> {
    let corpus =
        Corpus::new(Options { mix: vec![(kind, 1)], seed: 5, held_out }).expect("a corpus");
    (0..count).map(|i| corpus.text(i).expect("a text")).collect()
}

/// Questions and answers, and the sentence to correct.
fn answers(kind: Kind, held_out: bool, count: u64) -> Vec<(String, String, Option<String>)> {
    let answer = |text| match text {
        Text::Answer { question, answer, source, .. } => (question, answer, source),
        other => panic!("no answer: {other:?}"),
    };
    texts(kind, held_out, count).into_iter().map(answer).collect()
}

/// Words in small letters, without marks.
fn words(text: &str) -> Vec<String> {
    let word = |word: &str| word.trim_matches(['.', ',', '?', '!', '"']).to_lowercase();
    text.split(' ').map(word).filter(|word| !word.is_empty()).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let mix = Options::MIX.to_vec();
    let corpus = Corpus::new(Options { mix, seed: 1, held_out: false }).expect("a corpus");
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for i in 0..1000 {
        let text = corpus.text(i).expect("a text").document().expect("a document");
        hash = text.bytes().fold(hash, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    }
    assert_eq!(
        hash, 7588294919683629392,
        "the texts have changed: if that was wanted, so must this hash"
    );
}

#[test]
fn no_text_is_on_both_sides_of_the_split() {
    for (name, kind) in Kind::ALL {
        let side = |held_out, count| -> HashSet<String> {
            let text = |text: Text| match text {
                Text::Pair { good, .. } => good,
                other => other.document().expect("a document"),
            };
            texts(kind, held_out, count).into_iter().map(text).collect()
        };
        let (learned, judged) = (side(false, 4000), side(true, 1000));
        let both: Vec<_> = learned.intersection(&judged).take(3).collect();
        assert!(both.is_empty(), "{name}: {both:?}");
        assert!(judged.len() > 20, "{name}: only {} different texts", judged.len());
    }
}

/// Whether `text` has these words one after another.
fn has(text: &[String], phrase: &str) -> bool {
    let phrase = words(phrase);
    text.windows(phrase.len()).any(|part| part == phrase)
}

/// Numbers of a text.
fn numbers(text: &str) -> Vec<u64> {
    let parts = text.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|digits| digits.parse().ok()).collect()
}

/// What an intent says must be in its command, and what the command says in it.
#[test]
fn intents_match_their_commands() {
    let rooms = [
        "kitchen",
        "bedroom",
        "living room",
        "bathroom",
        "hall",
        "garage",
        "office",
        "garden",
        "dining room",
        "attic",
        "basement",
        "nursery",
    ];
    // These are told from what is wanted.
    let implied = [
        "light",
        "thermostat",
        "speaker",
        "list",
        "reminder",
        "scene",
        "vacuum",
        "timer",
        "alarm",
        "tv",
    ];
    for held_out in [false, true] {
        for (command, answer, _) in answers(Kind::Home, held_out, 5000) {
            let intent: Value = serde_json::from_str(&answer).expect(&answer);
            let said = words(&command);
            let field = |name: &str| intent[name].as_str();
            let device = field("device").expect("a device");
            assert!(has(&said, device) || implied.contains(&device), "{command}: {answer}");
            // Doors have names of rooms.
            let is_door = ["door", "gate", "window"].iter().any(|word| device.contains(word));
            for room in rooms.iter().filter(|_| !is_door) {
                assert_eq!(has(&said, room), field("room") == Some(room), "{command}: {answer}");
            }
            // What is turned on must not be spoken of as turned off, nor the other way round.
            let opposite = match field("action") {
                Some("on") => ["off", "stop", "bright", "done"],
                Some("off") => ["dark", "start", "on please", "cannot"],
                _ => [""; 4],
            };
            for word in opposite.iter().filter(|word| !word.is_empty()) {
                assert!(!has(&said, word), "{command}: {answer}");
            }
            let mut told: Vec<u64> =
                ["brightness", "degrees", "volume", "channel", "minutes", "seconds"]
                    .iter()
                    .filter_map(|name| intent[*name].as_u64())
                    .collect();
            if let Some(time) = field("time").map(numbers) {
                let afternoon = has(&said, "pm") == (time[0] >= 12);
                assert!(afternoon, "{command}: {answer}");
                told.extend([(time[0] + 11) % 12 + 1, time[1]]);
            }
            assert_eq!(numbers(&command), told, "{command}: {answer}");
            for name in ["color", "what", "item", "text", "name", "day"] {
                let Some(value) = field(name).filter(|value| *value != "sleep") else { continue };
                assert!(has(&said, value), "{command}: {answer}");
            }
        }
    }
}

/// Forms that do not follow a subject at the head of a sentence.
const DISAGREEING: [(&str, &[&str]); 7] = [
    ("i", &["is", "are", "were", "has", "does", "runs", "plays", "sings"]),
    ("you", &["is", "am", "was", "has", "does", "runs", "plays", "sings"]),
    ("he", &["am", "are", "were", "have", "do", "run", "play", "sing"]),
    ("she", &["am", "are", "were", "have", "do", "run", "play", "sing"]),
    ("it", &["am", "are", "were", "have", "do", "run", "play", "sing"]),
    ("we", &["is", "am", "was", "has", "does", "runs", "plays", "sings"]),
    ("they", &["is", "am", "was", "has", "does", "runs", "plays", "sings"]),
];

/// What is wrong with the agreement of a sentence, if anything.
fn mistake(text: &str) -> Option<String> {
    let said = words(text);
    let (first, second) = said.first().zip(said.get(1))?;
    let wrong = |(subject, forms): &(&str, &[&str])| {
        first == subject && forms.contains(&second.as_str())
            || second == subject && forms.contains(&first.as_str())
    };
    if DISAGREEING.iter().any(wrong) {
        return Some(format!("{first} {second}"));
    }
    said.windows(2).find_map(|pair| {
        let vowel = pair[1].starts_with(['a', 'e', 'i', 'o', 'u'])
            || ["honest", "hour"].contains(&pair[1].as_str());
        let wrong = match pair[0].as_str() {
            "a" => vowel,
            "an" => !vowel,
            "two" | "three" | "many" => ["ball", "boat", "cup", "egg"].contains(&pair[1].as_str()),
            "can" | "must" | "should" => {
                ["runs", "sings", "running", "singing"].contains(&pair[1].as_str())
            }
            _ => false,
        };
        wrong.then(|| pair.join(" "))
    })
}

#[test]
fn corrected_sentences_agree() {
    let mut found = 0;
    for held_out in [false, true] {
        for (question, answer, source) in answers(Kind::Grammar, held_out, 5000) {
            let source = source.expect("a sentence to correct");
            assert!(question.ends_with(&source), "{question}");
            for sentence in answer.split_inclusive(['.', '?', '!']) {
                assert_eq!(mistake(sentence.trim()), None, "{answer}");
            }
            found += usize::from(mistake(&source).is_some());
        }
    }
    // The rules see the mistakes they know of, so that finding none means something.
    assert!(found > 1000, "only {found} mistakes found");
}

#[test]
fn pairs_differ_in_one_place() {
    let mut phenomena = std::collections::HashMap::new();
    for text in texts(Kind::Pairs, true, 2400) {
        let Text::Pair { phenomenon, good, bad } = text else { panic!("no pair") };
        let [right, wrong] = [&good, &bad].map(|text| text.split(' ').collect::<Vec<_>>());
        let front = right.iter().zip(&wrong).take_while(|(a, b)| a == b).count();
        let back = right.iter().rev().zip(wrong.iter().rev()).take_while(|(a, b)| a == b).count();
        let longest = right.len().max(wrong.len());
        assert!(good != bad && front + back + 3 >= longest, "{good} / {bad}");
        assert_eq!(mistake(&good), None, "{good}");
        *phenomena.entry(phenomenon).or_insert(0) += 1;
    }
    assert_eq!(phenomena.len(), 12);
    assert!(phenomena.values().all(|count| *count == 200), "{phenomena:?}");
}

#[test]
fn stories_keep_to_two_names() {
    let names =
        ["Lily", "Mia", "Tom", "Ben", "Max", "Pip", "Anna", "Leo", "Hana", "Rusty", "Kai", "Zoe"];
    for text in texts(Kind::Stories, false, 500) {
        let story = text.document().expect("a story");
        let said: HashSet<&str> = story.split(|c: char| !c.is_alphabetic()).collect();
        let found = names.iter().filter(|name| said.contains(*name)).count();
        assert!(found <= 2, "{found} names: {story}");
        assert!(!story.contains(['{', '[', '|', '<', '(']) && !story.contains("  "), "{story}");
    }
}
