//! The bundled model's greedy tokens and all its logits, as one hash that every machine and every
//! instruction set gives: here, and where other programs compute it (`scripts/targets`).

mod common;

use attar::{Gguf, Options, Session, Tokenizer};
use common::own;

/// FNV-1a (G. Fowler, L. C. Noll, K.-P. Vo).
fn hash(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// For each token the bits of the logits it was chosen from, then its id.
fn hash_of_tokens(session: &mut Session, prompt: &[u32], count: usize) -> u64 {
    let mut seen = 0xcbf2_9ce4_8422_2325;
    let mut ids = prompt.to_vec();
    for _ in 0..count {
        let logits = session.feed(&ids).expect("room");
        let mut best = 0;
        for (i, logit) in logits.iter().enumerate() {
            seen = hash(seen, &logit.to_le_bytes());
            if *logit > logits[best] {
                best = i;
            }
        }
        ids = vec![best as u32];
        seen = hash(seen, &ids[0].to_le_bytes());
    }
    seen
}

#[test]
fn every_instruction_set_gives_the_known_tokens_and_logits() {
    let known = std::fs::read_to_string(own("models/attar-1m.tokens")).expect("the hash");
    let known = known.lines().find(|line| !line.starts_with('#')).expect("a line with the hash");
    let (count, known) = known.split_once(' ').expect("a count and a hash");
    let count = count.parse().expect("a count");
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let tokenizer = Tokenizer::load(&gguf).expect("its vocabulary");
    let prompt = tokenizer.encode(b"Once upon a time", true, false).expect("a prompt");
    for isa in attar::kernels::available() {
        let options = Options { isa: Some(isa), ..Options::default() };
        let mut session = Session::open(&gguf, &options).expect("a session");
        let found = format!("{:016x}", hash_of_tokens(&mut session, &prompt, count));
        println!("{} {count} {found}", isa.name());
        assert_eq!(found, known, "{} gives other tokens or logits", isa.name());
    }
}
