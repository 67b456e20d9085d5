//! Vocabularies made for a text, read back by the tokenizer from a model of a shape with fresh weights.
#![cfg(feature = "train")]

mod common;

use attar::compress::Shape;
use attar::compress::corpus::{Corpus, Options};
use attar::train::{Fallback, Spelling, Vocabulary, VocabularyOptions, write_fresh};
use attar::{Gguf, Session, Tokenizer};
use common::own;

/// Documents of the generator.
fn documents(seed: u64, held_out: bool, count: u64) -> Vec<String> {
    let mix = Options::MIX.to_vec();
    let corpus = Corpus::new(Options { mix, seed, held_out }).expect("a corpus");
    let document = |i| corpus.text(i).expect("a text").document().expect("a document");
    (0..count).map(document).collect()
}

fn train(spelling: Spelling, len: usize, fallback: Fallback) -> Vocabulary {
    let text = documents(1, false, 4000).join("\n<|endoftext|>\n");
    Vocabulary::train(&text, &VocabularyOptions { spelling, len, fallback }).expect("a vocabulary")
}

fn shape(vocab_len: usize) -> Shape {
    let json = format!(
        r#"{{"architecture": "llama", "vocabulary": {vocab_len}, "width": 64, "layers": 2, "heads": 4,
        "kv_heads": 2, "feed_forward": 96, "context": 128}}"#
    );
    Shape::from_json(json.as_bytes()).expect("a shape")
}

/// A model with this vocabulary.
fn model(name: &str, vocabulary: &Vocabulary, seed: u64) -> (Gguf, Vec<u8>) {
    let path = std::env::temp_dir().join(format!("attar-vocab-{}-{name}.gguf", std::process::id()));
    write_fresh(&shape(vocabulary.len()), vocabulary, seed, &path).expect("a file");
    let gguf = Gguf::open(&path).expect("a sound file");
    let bytes = std::fs::read(&path).expect("a file");
    std::fs::remove_file(path).expect("the file");
    (gguf, bytes)
}

/// Bytes of text a token.
fn bytes_per_token(tokenizer: &Tokenizer, documents: &[String]) -> f64 {
    let ids =
        |text: &String| tokenizer.encode(text.as_bytes(), false, false).expect("tokens").len();
    let bytes: usize = documents.iter().map(String::len).sum();
    bytes as f64 / documents.iter().map(ids).sum::<usize>() as f64
}

const ALL: [(&str, Spelling, Fallback); 4] = [
    ("characters", Spelling::Characters, Fallback::Needed),
    ("characters, all bytes", Spelling::Characters, Fallback::All),
    ("bytes", Spelling::Bytes, Fallback::Needed),
    ("bytes, all", Spelling::Bytes, Fallback::All),
];

#[test]
fn texts_come_back_as_they_were() {
    let unseen = ["naïve café — “quoted”", "日本語 🙂", "\u{0}\u{7f}\t\r\n", "  two  spaces  "];
    for (name, spelling, fallback) in ALL {
        let vocabulary = train(spelling, 1024, fallback);
        assert_eq!(vocabulary.len(), 1024);
        let tokenizer = Tokenizer::load(&model(name, &vocabulary, 1).0).expect("a tokenizer");
        for text in documents(2, true, 300) {
            let ids = tokenizer.encode(text.as_bytes(), true, false).expect("tokens");
            let back = tokenizer.decode(&ids, false).expect("a text");
            assert_eq!(String::from_utf8_lossy(&back), text, "{name}");
        }
        for text in unseen {
            let ids = tokenizer.encode(text.as_bytes(), false, false).expect("tokens");
            let back = tokenizer.decode(&ids, false).expect("a text");
            assert!(fallback == Fallback::Needed || back == text.as_bytes(), "{name}: {text}");
        }
        let printed: String = (' '..='~').collect();
        let ids = tokenizer.encode(printed.as_bytes(), false, false).expect("tokens");
        assert_eq!(tokenizer.decode(&ids, false).expect("a text"), printed.as_bytes(), "{name}");
    }
}

#[test]
fn a_vocabulary_made_for_a_text_takes_fewer_tokens() {
    let judged = documents(2, true, 500);
    // One for the project's own prose: as English, and of as many tokens.
    let prose = std::fs::read_to_string(own("docs/design.md")).expect("prose");
    let (spelling, fallback) = (Spelling::Characters, Fallback::All);
    let options = VocabularyOptions { spelling, len: 1024, fallback };
    let other = Vocabulary::train(&prose, &options).expect("a vocabulary");
    let other = Tokenizer::load(&model("prose", &other, 1).0).expect("a tokenizer");
    let theirs = bytes_per_token(&other, &judged);
    println!("made for prose: {theirs:.3} bytes a token");
    let mut found = Vec::new();
    for (name, spelling, fallback) in ALL {
        let vocabulary = train(spelling, 1024, fallback);
        let tokenizer = Tokenizer::load(&model(name, &vocabulary, 1).0).expect("a tokenizer");
        let ours = bytes_per_token(&tokenizer, &judged);
        println!("{name}: {ours:.3} bytes a token");
        assert!(ours > theirs, "{name}: {ours} bytes a token, {theirs} by another vocabulary");
        found.push(ours);
    }
    assert!(
        found[0] > found[1] && found[2] > found[3],
        "bytes that are not needed cost: {found:?}"
    );
}

#[test]
fn the_same_text_and_seed_give_the_same_file() {
    let vocabulary = train(Spelling::Characters, 512, Fallback::Needed);
    assert_eq!(vocabulary, train(Spelling::Characters, 512, Fallback::Needed));
    let (first, again) = (model("a", &vocabulary, 7).1, model("b", &vocabulary, 7).1);
    assert!(first == again && first != model("c", &vocabulary, 8).1);
}

/// Logits of a fresh model are small and differ, so every token is about as likely.
#[test]
fn a_fresh_model_knows_nothing() {
    let vocabulary = train(Spelling::Characters, 512, Fallback::Needed);
    let (gguf, _) = model("fresh", &vocabulary, 3);
    let tokenizer = Tokenizer::load(&gguf).expect("a tokenizer");
    let mut session = Session::open(&gguf, &attar::Options::default()).expect("a session");
    let score = session.score_text(&tokenizer, b"Once upon a time").expect("a score");
    let mean = -score.logprob / score.tokens.len() as f64;
    let uniform = 512f64.ln();
    assert!((mean - uniform).abs() < 0.2, "{mean} nats a token, {uniform} for equal chances");
}

#[test]
fn bad_shapes_and_vocabularies_are_named() {
    let error = |json: &str| Shape::from_json(json.as_bytes()).expect_err(json).to_string();
    assert!(error(r#"{"architecture": "x"}"#).contains("missing field `vocabulary`"));
    let sound =
        r#""architecture": "x", "vocabulary": 9, "layers": 1, "feed_forward": 8, "context": 8"#;
    let with = |more: &str| error(&format!("{{{sound}, {more}}}"));
    assert!(with(r#""width": 8, "heads": 2, "wings": 2"#).contains("wings"));
    assert!(with(r#""width": 9, "heads": 2"#).contains("width 9"));
    assert!(with(r#""width": 0, "heads": 2"#).contains("width of 0"));
    assert!(with(r#""width": 8, "heads": 2, "kv_heads": 0"#).contains("key-value heads of 0"));
    assert!(with(r#""width": 8, "heads": 2, "rope_base": -1"#).contains("rope_base"));
    let train = |text: &str, len| {
        let (spelling, fallback) = (Spelling::Characters, Fallback::All);
        let options = VocabularyOptions { spelling, len, fallback };
        Vocabulary::train(text, &options).expect_err(text).to_string()
    };
    assert!(train("a text", 100).contains("needs"), "{}", train("a text", 100));
    assert!(train("a text", 2000).contains("pairs for"), "{}", train("a text", 2000));
    let path = std::env::temp_dir().join("attar-never-written.gguf");
    let vocabulary = self::train(Spelling::Characters, 512, Fallback::Needed);
    let wrong = write_fresh(&shape(511), &vocabulary, 0, &path).expect_err("wrong").to_string();
    assert!(wrong.contains("512") && wrong.contains("511") && !path.exists(), "{wrong}");
}
