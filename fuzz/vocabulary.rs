//! Small sound vocabularies in memory, one a kind, and what must hold of each for any text.
#![allow(dead_code, reason = "each target uses its own part")]

use attar::{Gguf, Tokenizer};

fn string(out: &mut Vec<u8>, s: &[u8]) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s);
}

fn strings(out: &mut Vec<u8>, list: &[String]) {
    out.extend(9u32.to_le_bytes());
    out.extend(8u32.to_le_bytes());
    out.extend((list.len() as u64).to_le_bytes());
    list.iter().for_each(|s| string(out, s.as_bytes()));
}

/// A file of keys only: the model, the tokens (a score of minus its place each), and merges.
pub fn tokenizer(model: &str, tokens: &[String], merges: &[String], kinds: &[i32]) -> Tokenizer {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend(0u64.to_le_bytes());
    out.extend(6u64.to_le_bytes());
    string(&mut out, b"tokenizer.ggml.model");
    out.extend(8u32.to_le_bytes());
    string(&mut out, model.as_bytes());
    string(&mut out, b"tokenizer.ggml.pre");
    out.extend(8u32.to_le_bytes());
    string(&mut out, b"llama-bpe");
    string(&mut out, b"tokenizer.ggml.tokens");
    strings(&mut out, tokens);
    string(&mut out, b"tokenizer.ggml.merges");
    strings(&mut out, merges);
    string(&mut out, b"tokenizer.ggml.scores");
    out.extend([9u32, 6].map(u32::to_le_bytes).concat());
    out.extend((tokens.len() as u64).to_le_bytes());
    (0..tokens.len()).for_each(|i| out.extend((-(i as f32)).to_le_bytes()));
    string(&mut out, b"tokenizer.ggml.token_type");
    out.extend([9u32, 5].map(u32::to_le_bytes).concat());
    out.extend((tokens.len() as u64).to_le_bytes());
    (0..tokens.len()).for_each(|i| out.extend(kinds.get(i).unwrap_or(&1).to_le_bytes()));
    let bytes = attar::bytes::Bytes::from_vec(out).expect("memory");
    Tokenizer::load(&Gguf::parse(bytes).expect("a sound file")).expect("a vocabulary")
}

/// Words of the vocabularies, besides single characters or bytes.
pub const WORDS: [&str; 12] =
    ["th", "he", "the", "in", "an", "and", "on", "ré", "12", "  ", "\n\n", "🦙"];

/// The tokens of a vocabulary with bytes to fall back on: unknown, ends, bytes, then words.
pub fn with_bytes(words: impl Iterator<Item = String>) -> (Vec<String>, Vec<i32>) {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
    let mut kinds = vec![2, 3, 3];
    for byte in 0..256 {
        tokens.push(format!("<0x{byte:02X}>"));
        kinds.push(6);
    }
    tokens.extend(words);
    (tokens, kinds)
}
