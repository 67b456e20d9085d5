//! Any bytes through a vocabulary of the kind `t5`: ids of the vocabulary come out.
#![no_main]

#[path = "../vocabulary.rs"]
mod vocabulary;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use vocabulary::{WORDS, tokenizer, with_bytes};

static TOKENIZER: LazyLock<attar::Tokenizer> = LazyLock::new(|| {
    let letters = ('a'..='z').flat_map(|c| [format!("\u{2581}{c}"), c.into()]);
    let words = WORDS.iter().map(|word| format!("\u{2581}{word}"));
    let (tokens, kinds) = with_bytes(letters.chain(words));
    tokenizer("t5", &tokens, &[], &kinds)
});

fuzz_target!(|data: &[u8]| {
    let ids = TOKENIZER.encode(data, true, true).expect("there is a token for what is unknown");
    assert!(ids.iter().all(|id| (*id as usize) < TOKENIZER.len()));
    TOKENIZER.decode(&ids, true).expect("memory");
});
