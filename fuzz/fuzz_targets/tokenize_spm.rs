//! Any bytes through a vocabulary of scored pieces: they come back.
#![no_main]

#[path = "../vocabulary.rs"]
mod vocabulary;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use vocabulary::{WORDS, tokenizer, with_bytes};

static TOKENIZER: LazyLock<attar::Tokenizer> = LazyLock::new(|| {
    let letters = ('a'..='z').map(String::from);
    let words = WORDS.iter().map(|word| word.replace(' ', "\u{2581}"));
    let (tokens, kinds) = with_bytes(letters.chain(words).chain(["\u{2581}".into()]));
    tokenizer("llama", &tokens, &[], &kinds)
});

fuzz_target!(|data: &[u8]| {
    let ids = TOKENIZER.encode(data, false, false).expect("every byte can be spelt");
    // The sign for a space is a character too, and comes back as a space.
    let want = String::from_utf8_lossy(data).contains('\u{2581}');
    assert!(want || TOKENIZER.decode(&ids, false).expect("memory") == data);
    let _ = TOKENIZER.encode(data, true, true);
});
