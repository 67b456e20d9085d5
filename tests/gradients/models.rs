//! Whole models against `tests/golden/gradients.py`, which has another program differentiate.

use crate::common::{normalized_error, own, read_floats, read_ids};
use attar::Gguf;
use attar::train::{AdamOptions, Loss, Trainer, TrainerOptions};

/// Single precision through two layers, squared: roundings of some 1e-7 grow by what the layers multiply.
const ERROR_MAX: f64 = 1e-10;

fn trainer(gguf: &Gguf, sequence_len: usize, batch_len: usize, threads: usize) -> Trainer {
    let (adam, loss, steps) = (AdamOptions::default(), Loss::TEXT, 10);
    let options = TrainerOptions { sequence_len, batch_len, threads, adam, loss, steps };
    Trainer::new(gguf, options).expect("a model that can be trained")
}

#[test]
fn gradients_are_those_of_automatic_differentiation() {
    for name in ["llama-tied", "llama-experts", "qwen2moe", "qwen3"] {
        let path = |end: &str| own(&format!("tests/golden/{name}.{end}"));
        let gguf = Gguf::open(&path("gguf")).expect("a sound file");
        let (ids, golden) = (read_ids(&path("ids")), read_floats(&path("gradients")));
        let mut trainer = trainer(&gguf, ids.len(), 1, 2);
        let count = (ids.len() - 1) as f64;
        let loss = trainer.gradients(&[&ids], None, 1.0 / count as f32).expect("valid ids") / count;
        assert!((loss - f64::from(golden[0])).abs() < 1e-5, "{name}: loss {loss}");
        let mut rest = &golden[1..];
        for tensor in gguf.tensors() {
            let (expected, after) = rest.split_at(tensor.len());
            rest = after;
            let named = |p: &&attar::train::tape::Parameter| {
                p.pieces().iter().any(|piece| piece.name == *tensor.name)
            };
            let found = trainer.parameters().iter().find(named).expect("every tensor is loaded");
            let error = normalized_error(found.gradient(), expected);
            assert!(error < ERROR_MAX, "{name}: {}: {error:e}", tensor.name);
        }
        assert!(rest.is_empty());
    }
}

/// Weights after some steps do not depend on the number of threads.
#[test]
fn steps_have_the_same_bits_on_any_number_of_threads() {
    let gguf = Gguf::open(&own("tests/golden/qwen2moe.gguf")).expect("a sound file");
    let texts: Vec<Vec<u32>> =
        (0..6).map(|t| (0..20 - t).map(|i| (i * i * 7 + t * 13) % 64).collect()).collect();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let run = |threads| {
        let mut trainer = trainer(&gguf, 20, texts.len(), threads);
        let losses: Vec<f64> =
            (0..4).map(|_| trainer.step(&texts, None).expect("a step").loss).collect();
        assert!(losses[3] < losses[0], "{losses:?}");
        let weights = trainer.parameters().iter().flat_map(|p| p.value().to_vec());
        weights.map(f32::to_bits).collect::<Vec<_>>()
    };
    let one = run(1);
    assert!([2, 3].into_iter().all(|threads| run(threads) == one));
}
