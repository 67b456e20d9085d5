//! A watched device computes as it would unwatched, and what is seen is what a plain forward pass finds.

mod common;
#[path = "common/plain.rs"]
mod plain;

use attar::backend::{Inputs, Observations, Watch};
use attar::{Format, Gguf, Options, Session};
use common::{all_logits, any_ids, bits, own, own_models};
use plain::Plain;

fn options(batch_len: usize) -> Options {
    let cache = Format::F32;
    Options { context_len: 40, batch_len, threads: 2, cache, ..Options::default() }
}

/// Logits of a watched session, and what was seen.
fn watched(gguf: &Gguf, ids: &[u32], batch_len: usize) -> (Vec<f32>, Observations) {
    let options = options(batch_len);
    let watch = Watch::new(options.cpu().expect("a CPU")).expect("little memory");
    let observations = watch.observations();
    let mut session = Session::open_on(gguf, &options, Box::new(watch)).expect("a session");
    let logits = all_logits(&mut session, ids);
    let seen = observations.lock().expect("no panic").clone();
    (logits, seen)
}

#[test]
fn watching_changes_nothing_and_does_not_depend_on_batches() {
    for path in own_models() {
        let gguf = Gguf::open(&path).expect("a model");
        let mut session = Session::open(&gguf, &options(8)).expect("a session");
        let ids = any_ids(session.vocab_len(), 20);
        let want = bits(&all_logits(&mut session, &ids));
        let (logits, seen) = watched(&gguf, &ids, 8);
        assert!(bits(&logits) == want, "{}", path.display());
        let (_, again) = watched(&gguf, &ids, 1);
        assert!(seen == again, "{}", path.display());
        let all = |inputs: &Inputs| inputs.expert.is_some() || inputs.rows == 20;
        let table = |inputs: &Inputs| inputs.tensor == "token_embd.weight" && inputs.rows == 0;
        assert!(seen.inputs.iter().all(|inputs| all(inputs) || table(inputs)));
    }
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-4 * expected.abs() + 1e-9
}

#[test]
fn what_is_seen_is_what_a_plain_forward_pass_finds() {
    for (name, experts) in [("llama", false), ("llama-experts", true)] {
        let gguf = Gguf::open(&own(&format!("tests/golden/{name}.gguf"))).expect("a model");
        let mut plain = Plain::read(&gguf);
        let ids = any_ids(plain.vocab_len(), 20);
        plain.forward(&ids);
        let (_, seen) = watched(&gguf, &ids, 8);
        let mut compared = 0;
        for ((tensor, expert), (rows, weight, squares)) in &plain.inputs {
            let found = seen.of(tensor).find(|inputs| inputs.expert == *expert);
            let found = found.unwrap_or_else(|| panic!("{name}: {tensor} {expert:?} was not seen"));
            assert_eq!(found.rows, *rows, "{name}: {tensor} {expert:?}");
            assert!(near(found.weight, *weight), "{name}: {tensor} {expert:?}");
            assert_eq!(found.squares.len(), squares.len());
            for (found, want) in found.squares.iter().zip(squares) {
                assert!(near(*found, *want), "{name}: {tensor} {expert:?}: {found}, not {want}");
            }
            compared += 1;
        }
        let unseen = seen.inputs.iter().filter(|inputs| inputs.rows == 0).count();
        let tables = usize::from(gguf.tensor("output.weight").is_some());
        assert_eq!(compared + unseen, seen.inputs.len(), "{name}");
        assert_eq!(seen.inputs.iter().any(|inputs| inputs.expert.is_some()), experts);
        assert!(unseen == tables || experts, "{name}: {unseen} weights unused");
        let influences = seen.influences();
        assert_eq!(influences.len(), plain.influences.len());
        for (found, want) in influences.iter().zip(&plain.influences) {
            assert!((found - want).abs() < 1e-5, "{name}: influence {found}, expected {want}");
        }
    }
}
