//! Any bytes through a byte-level vocabulary with merges: they come back.
#![no_main]

#[path = "../vocabulary.rs"]
mod vocabulary;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use vocabulary::tokenizer;

/// GPT-2's character for each byte.
fn characters() -> Vec<char> {
    let mut next = 256;
    (0..256u32)
        .map(|byte| match byte {
            33..=126 | 161..=172 | 174..=255 => char::from_u32(byte).expect("a character"),
            _ => {
                next += 1;
                char::from_u32(next - 1).expect("a character")
            }
        })
        .collect()
}

static TOKENIZER: LazyLock<attar::Tokenizer> = LazyLock::new(|| {
    let mut tokens: Vec<String> = characters().into_iter().map(String::from).collect();
    let mut merges = Vec::new();
    for (left, right) in [("t", "h"), ("th", "e"), ("Ġ", "the"), ("1", "2"), ("Ċ", "Ċ"), ("Ġ", "Ġ"), ("Ã", "©")] {
        merges.push(format!("{left} {right}"));
        tokens.push(format!("{left}{right}"));
    }
    tokens.push("<|end|>".into());
    let mut kinds = vec![1; tokens.len()];
    kinds[tokens.len() - 1] = 3;
    tokenizer("gpt2", &tokens, &merges, &kinds)
});

fuzz_target!(|data: &[u8]| {
    let ids = TOKENIZER.encode(data, false, false).expect("every byte can be spelt");
    assert_eq!(TOKENIZER.decode(&ids, false).expect("memory"), data);
    let ids = TOKENIZER.encode(data, false, true).expect("every byte can be spelt");
    assert_eq!(TOKENIZER.decode(&ids, true).expect("memory"), data);
});
