//! Logits of one tiny checkpoint a family against independent references.

mod common;

use attar::{Format, Options};
use common::{all_logits, normalized_error, open, own, read_floats, read_ids, shared};
use std::path::{Path, PathBuf};

/// Weights and cache are f32 here and sums have a few hundred terms: the relative error of a logit
/// is some 2^-24 * sqrt(terms) ~ 1e-6, its square 1e-12. What is left of the bound is for the
/// angles of rotations, which the reference computes in f32.
const ERROR_MAX: f64 = 1e-11;

const FAMILIES: [&str; 6] =
    ["llama-dense", "llama-moe", "qwen2-dense", "qwen3-dense", "qwen2moe-moe", "qwen3moe-moe"];

fn exact() -> Options {
    Options { cache: Format::F32, ..Options::default() }
}

/// The checkpoint's logits differ from its reference by less than the bound; returns by how much.
fn check(model: &Path) -> f64 {
    let ids = read_ids(&model.with_extension("ids"));
    let want = read_floats(&model.with_extension("f32"));
    let got = all_logits(&mut open(model, exact()), &ids);
    let error = normalized_error(&got, &want);
    println!("{}: normalised mean squared error {error:.2e}", model.display());
    assert!(error < ERROR_MAX, "{}: {error:e} is not below {ERROR_MAX:e}", model.display());
    error
}

#[test]
fn shared_checkpoints_agree_with_their_reference() {
    for family in FAMILIES {
        if let Some(model) = shared(&format!("golden/{family}.gguf")) {
            check(&model);
        }
    }
}

#[test]
fn own_checkpoints_agree_with_their_reference() {
    let mut models: Vec<PathBuf> = std::fs::read_dir(own("tests/golden"))
        .expect("tests/golden")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|e| e == "gguf"))
        .collect();
    models.sort();
    assert!(models.len() >= FAMILIES.len(), "only {} checkpoints", models.len());
    models.iter().for_each(|model| {
        check(model);
    });
}
