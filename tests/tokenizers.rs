//! Vocabularies against the ids other programs give.

mod common;

use attar::{Gguf, Tokenizer};
use common::shared;
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
