//! Vocabularies against the ids other programs give.

mod common;

use attar::tokenizer::TextStream;
use attar::{Error, Gguf, Tokenizer};
use common::{own, shared};
use proptest::prelude::*;
use std::path::Path;

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

const VOCABULARIES: [&str; 11] = [
    "bert-bge",
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "gemma-4",
    "gpt-2",
    "llama-bpe",
    "llama-spm",
    "phi-3",
    "qwen2",
    "qwen35",
];

fn load(path: &Path) -> Tokenizer {
    let gguf = Gguf::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Tokenizer::load(&gguf).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The test strings with their ids.
fn vectors(path: &Path) -> Vec<(String, Vec<u32>)> {
    let read = |suffix: &str| {
        std::fs::read_to_string(format!("{}.{suffix}", path.display())).expect("a file of vectors")
    };
    let (texts, ids) = (read("inp"), read("out"));
    let texts: Vec<&str> = texts.split(SEPARATOR).collect();
    let ids = ids.lines().map(|line| {
        line.split_whitespace().map(|id| id.parse().expect("an id")).collect::<Vec<u32>>()
    });
    let ids: Vec<_> = ids.collect();
    // The texts end with a separator.
    assert!(texts.len() == ids.len() || texts.len() == ids.len() + 1);
    texts.into_iter().map(String::from).zip(ids).collect()
}

#[test]
fn ids_are_those_of_the_vectors() {
    let mut all_wrong = 0;
    for name in VOCABULARIES {
        let Some(path) = shared(&format!("vocab/ggml-vocab-{name}.gguf")) else { continue };
        let tokenizer = load(&path);
        let vectors = vectors(&path);
        assert!(vectors.len() > 20, "{name}: only {} vectors", vectors.len());
        let mut wrong = 0;
        for (text, want) in &vectors {
            let got = tokenizer.encode(text.as_bytes(), false, false).expect("ids");
            if got != *want {
                wrong += 1;
                println!("{name}: {text:?}\n  found    {got:?}\n  expected {want:?}");
            }
        }
        println!("{name}: {} of {} right", vectors.len() - wrong, vectors.len());
        all_wrong += wrong;
    }
    assert_eq!(all_wrong, 0);
}

/// Strings of the unigram vocabulary with the ids llama.cpp gives them.
#[test]
fn unigram_ids_are_those_of_the_peer() {
    let Some(path) = shared("vocab/ggml-vocab-nomic-bert-moe.gguf") else { return };
    let tokenizer = load(&path);
    let vectors: [(&str, &[u32]); 7] = [
        ("Hello world", &[35378, 8999]),
        (" Hello  world ", &[35378, 8999]),
        ("日本語 テスト\u{3000}全角ＡＢＣ", &[6, 98449, 6, 120256, 6, 2476, 12514, 186944]),
        ("a\tb\nc", &[10, 876, 501]),
        ("🦙 emoji ﬁ ligature ①", &[6, 3, 28, 121505, 809, 19881, 6644, 106]),
        ("naïve coöperate Ⅻ", &[24, 9392, 272, 552, 70740, 1704, 67, 39198]),
        ("", &[]),
    ];
    for (text, want) in vectors {
        assert_eq!(tokenizer.encode(text.as_bytes(), false, false).expect("ids"), want, "{text}");
    }
}

#[test]
fn special_tokens_are_parsed_only_when_asked_for() {
    let Some(path) = shared("vocab/ggml-vocab-qwen2.gguf") else { return };
    let tokenizer = load(&path);
    let text = b"<|im_start|>user\nhi<|im_end|>";
    let parsed = tokenizer.encode(text, false, true).expect("ids");
    assert_eq!(parsed, [151644, 872, 198, 6023, 151645]);
    let plain = tokenizer.encode(text, false, false).expect("ids");
    assert!(plain.iter().all(|id| *id < 151643) && plain.len() > parsed.len());
    assert_eq!(tokenizer.decode(&plain, false).expect("memory"), text);
    assert_eq!(tokenizer.decode(&parsed, true).expect("memory"), text);
    assert_eq!(tokenizer.decode(&parsed, false).expect("memory"), b"user\nhi");
    assert!(tokenizer.is_end_of_text(151645) && !tokenizer.is_end_of_text(872));
}

#[test]
fn families_add_their_first_and_last_tokens() {
    for (name, first, last) in [
        ("llama-spm", Some(1), None),
        ("llama-bpe", Some(128000), None),
        ("gpt-2", None, None),
        ("bert-bge", Some(101), Some(102)),
        ("nomic-bert-moe", Some(0), Some(2)),
    ] {
        let Some(path) = shared(&format!("vocab/ggml-vocab-{name}.gguf")) else { continue };
        let tokenizer = load(&path);
        let plain = tokenizer.encode(b"a b", false, false).expect("ids");
        let want: Vec<u32> = first.into_iter().chain(plain).chain(last).collect();
        assert_eq!(tokenizer.encode(b"a b", true, false).expect("ids"), want, "{name}");
    }
}

#[test]
fn a_vocabulary_without_text_says_so() {
    let tokenizer = load(&own("tests/golden/llama.gguf"));
    assert!(matches!(tokenizer.encode(b"a", true, true), Err(Error::Unsupported(_))));
    assert!(tokenizer.piece(3).is_ok_and(|piece| piece.is_empty()) && tokenizer.bos().is_none());
}

/// Text of many scripts, spaces and signs, as well as of any characters.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ a-zA-Z0-9.,'!\\n\\t]{0,60}",
        "([ \\n\\t\u{a0}]{0,3}[a-zß-ÿа-я一-丂가-갅٠-٩à-å🙂-🙄'’¿。]{0,4}[0-9]{0,4}){0,12}",
    ]
}

fn round_trips(name: &str) {
    let path = match name {
        "bundled" => Some(own("models/attar-1m.gguf")),
        name => shared(&format!("vocab/ggml-vocab-{name}.gguf")),
    };
    let Some(path) = path else { return };
    let tokenizer = load(&path);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let check = |bytes: &[u8]| {
        let ids = tokenizer.encode(bytes, false, false).expect("every byte can be spelt");
        assert_eq!(tokenizer.decode(&ids, false).expect("memory"), bytes, "{name}: {ids:?}");
        // In a stream the same text comes, in whole characters.
        let mut stream = TextStream::new(&tokenizer).expect("memory");
        let mut text = String::new();
        ids.iter().for_each(|id| text.push_str(stream.push(&tokenizer, *id).expect("room")));
        text.push_str(stream.finish());
        // A vocabulary that starts a text with a space shows it here.
        let want = String::from_utf8_lossy(bytes);
        assert!(text == want || text.strip_prefix(' ') == Some(&*want), "{name}: {text:?}");
    };
    runner
        .run(&texts(), |text| {
            check(text.as_bytes());
            Ok(())
        })
        .expect("texts come back");
    runner
        .run(&proptest::collection::vec(any::<u8>(), 0..40), |bytes| {
            let ids = tokenizer.encode(&bytes, false, false).expect("every byte can be spelt");
            assert_eq!(tokenizer.decode(&ids, false).expect("memory"), bytes, "{name}: {ids:?}");
            Ok(())
        })
        .expect("bytes come back");
}

#[test]
fn any_text_and_any_bytes_come_back() {
    for name in ["bundled", "llama-spm", "gpt-2", "qwen2", "llama-bpe", "deepseek-llm", "gemma-4"] {
        round_trips(name);
    }
}

#[test]
fn a_character_in_pieces_leaves_whole() {
    let tokenizer = load(&own("models/attar-1m.gguf"));
    let ids = tokenizer.encode("é🦙".as_bytes(), false, false).expect("ids");
    let mut stream = TextStream::new(&tokenizer).expect("memory");
    let parts: Vec<String> =
        ids.iter().map(|id| stream.push(&tokenizer, *id).expect("room").to_string()).collect();
    assert!(parts.len() >= 6, "the characters are spelt in bytes: {parts:?}");
    assert_eq!(parts.concat().trim_start(), "é🦙");
    assert!(parts.iter().all(|part| !part.contains('\u{fffd}')));
    // What never becomes whole comes out as a mark of that.
    stream.push(&tokenizer, ids[ids.len() - 4]).expect("room");
    assert_eq!(stream.finish(), "\u{fffd}");
}
