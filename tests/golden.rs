//! Logits of one tiny checkpoint a family against independent references.

mod common;

use attar::compress::quantize;
use attar::{Format, Gguf, Options};
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

/// Relative errors of rounding normal values: of weights, as `kernels/tests/formats.rs` measures them,
/// and of activations to 8 bits under the largest of 256.
const WEIGHT_ERRORS: [(Format, f64); 2] = [(Format::Q8_0, 0.0055), (Format::Q4_K, 0.072)];
const ACTIVATION_ERROR: f64 = 0.0075;

/// Products one after another on the way to a logit: per layer those of attention (values, output) and
/// of the feed-forward block (up, down), and those that steer them (queries, keys, gate, router);
/// then the head. Each adds its own rounding; steering counts like carrying.
const PRODUCTS: f64 = 2.0 * 8.0 + 1.0;

#[test]
fn quantised_checkpoints_stay_within_what_rounding_explains() {
    for family in FAMILIES {
        let Some(model) = shared(&format!("golden/{family}.gguf")) else { continue };
        let ids = read_ids(&model.with_extension("ids"));
        let want = read_floats(&model.with_extension("f32"));
        let gguf = Gguf::open(&model).expect("a checkpoint");
        for (format, weight_error) in WEIGHT_ERRORS {
            let name = format!("attar-golden-{}-{family}-{format:?}.gguf", std::process::id());
            let path = std::env::temp_dir().join(name);
            quantize(&gguf, format, &path, 2, &mut |_| {}).expect("a quantised file");
            let got = all_logits(&mut open(&path, exact()), &ids);
            std::fs::remove_file(&path).expect("the quantised file");
            let error = normalized_error(&got, &want);
            let each = weight_error * weight_error + ACTIVATION_ERROR * ACTIVATION_ERROR;
            let bound = PRODUCTS * each;
            println!("{family} {format:?}: {error:.2e}, at most {bound:.2e}");
            assert!(error < bound, "{family} {format:?}: {error:e} is not below {bound:e}");
            assert!(error > each / 100.0, "{family} {format:?}: {error:e}: nothing was rounded");
        }
    }
}
