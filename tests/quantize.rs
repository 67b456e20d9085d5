//! Rounding by importance and to a size: files, sizes to the byte, errors that fall where they count.
#![cfg(feature = "std")]

mod common;

use attar::compress::{
    Budget, Importance, Measure, Quantized, Recipe, Rounding, Sequences, least_bytes,
};
use attar::gguf::ValueType;
use attar::{Error, Format, Gguf};
use common::{off_grid, own, shared};
use std::path::{Path, PathBuf};

/// A folder of the test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("attar-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // what cannot be removed is the system's to clean
    }
}

fn model(path: &str) -> Gguf {
    Gguf::open(&own(path)).expect("a model")
}

fn samples(gguf: &Gguf, seed: u64) -> Sequences {
    Sequences::sampled(gguf, 1200, 60, seed, 2, &|_| true).expect("sequences")
}

fn gathered(gguf: &Gguf, sequences: &Sequences, threads: usize) -> Importance {
    Importance::gather(gguf, sequences, "some text", threads, &|_| true).expect("importance")
}

fn written(gguf: &Gguf, recipe: &Recipe, rounding: Rounding<'_>, out: &Path) -> Vec<Quantized> {
    let mut done = Vec::new();
    recipe.write(gguf, rounding, out, &mut |tensor| done.push(tensor.clone())).expect("a file");
    done
}

fn kl(model: &Path, reference: &Gguf, sequences: &Sequences) -> f64 {
    let model = Gguf::open(model).expect("a model");
    let measured = Measure::on_threads(2).run(&model, Some(reference), sequences, &|_| true);
    measured.expect("figures").divergence.expect("a reference").kl.mean
}

#[test]
fn importance_lies_in_the_file_as_its_layout_says() {
    let (gguf, folder) = (off_grid(), Folder::new("importance"));
    let sequences = samples(&gguf, 1);
    let importance = gathered(&gguf, &sequences, 2);
    // Neither threads nor the order in which they come change the sums.
    assert_eq!(importance, gathered(&gguf, &sequences, 1));
    importance.write(&folder.file("imatrix.gguf")).expect("a file");
    let file = Gguf::open(&folder.file("imatrix.gguf")).expect("a file");
    assert_eq!(file.str("general.type"), Ok(Some("imatrix")));
    assert_eq!(file.u32("imatrix.chunk_count"), Ok(Some(20)));
    assert_eq!(file.u32("imatrix.chunk_size"), Ok(Some(60)));
    let datasets = file.array("imatrix.datasets", ValueType::String).expect("strings");
    assert_eq!(datasets.expect("the key").strings().collect::<Vec<_>>(), [b"some text"]);
    let need = |key: &str| gguf.usize(key).expect("a number").expect("the key");
    let (layers, hidden) = (need("llama.block_count"), need("llama.feed_forward_length"));
    for layer in 0..layers {
        let sums = |part: &str| {
            let name = format!("blk.{layer}.{part}.weight");
            let sums = file.need_tensor(&format!("{name}.in_sum2")).expect("sums");
            let counts = file.need_tensor(&format!("{name}.counts")).expect("counts");
            assert_eq!((&sums.dims[..], &counts.dims[..]), (&[sums.dims[0], 1][..], &[1, 1][..]));
            assert_eq!(*counts.bytes, 1200f32.to_le_bytes());
            sums
        };
        // Three matrices are multiplied by the same rows, and two are.
        assert_eq!(*sums("attn_q").bytes, *sums("attn_k").bytes);
        assert_eq!(*sums("attn_q").bytes, *sums("attn_v").bytes);
        assert_eq!(*sums("ffn_gate").bytes, *sums("ffn_up").bytes);
        assert_ne!(*sums("attn_q").bytes, *sums("ffn_up").bytes);
        assert_eq!(sums("ffn_down").dims[0], hidden);
    }
    let again = Importance::open(&folder.file("imatrix.gguf")).expect("importance");
    let matrices = 7 * layers + 1;
    let found = (&again.datasets, again.chunks, again.len());
    assert_eq!(found, (&importance.datasets, (20, 60), matrices));
    // Columns are means: the sum over what a norm puts out is near the sum of its squared gains.
    let tensor = gguf.need_tensor("blk.0.attn_q.weight").expect("a tensor");
    let columns = again.columns(&tensor).expect("the shape").expect("columns");
    let gains = gguf.need_tensor("blk.0.attn_norm.weight").expect("gains");
    let gains = gains.bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let (sum, squares) = (columns.iter().sum::<f32>(), gains.map(|g| g * g).sum::<f32>());
    assert!(sum / squares > 0.3 && sum / squares < 3.0, "{sum} against {squares}");
}

#[test]
fn experts_have_their_own_importance() {
    let gguf = model("tests/golden/qwen2moe.gguf");
    let ids: Vec<u32> = (0..40).map(|i| i * 7 % 64).collect();
    let sequences = Sequences::of(&[&ids[..], &ids[5..]]);
    let importance = gathered(&gguf, &sequences, 2);
    let experts = gguf.need_tensor("blk.0.ffn_gate_exps.weight").expect("experts");
    let columns = importance.columns(&experts).expect("the shape").expect("columns");
    assert_eq!(columns.len(), experts.dims[0] * experts.dims[2]);
    let (first, second) = columns.split_at(experts.dims[0]);
    assert_ne!(first, &second[..first.len()]);
    // It is written as one tensor a stack, and used when the stack is rounded.
    let folder = Folder::new("experts");
    importance.write(&folder.file("imatrix.gguf")).expect("a file");
    let again = Importance::open(&folder.file("imatrix.gguf")).expect("importance");
    // Files have sums in f32.
    let read = again.columns(&experts).expect("the shape").expect("columns");
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 3.0 * f32::EPSILON * b;
    assert!(read.len() == columns.len() && read.iter().zip(&columns).all(near));
    let recipe = Recipe::uniform(&gguf, Format::Q4_0).expect("a recipe");
    let rounding = Rounding { importance: Some(&again), threads: 3 };
    let done = written(&gguf, &recipe, rounding, &folder.file("q4_0.gguf"));
    let stack = done.iter().find(|t| t.name == "blk.0.ffn_gate_exps.weight").expect("the stack");
    assert!(stack.error.expect("rounded").weighted.expect("importance") > 0.0);
}

#[test]
fn what_is_no_importance_is_refused() {
    let folder = Folder::new("wrong-importance");
    let error = Importance::open(&own("models/attar-1m.gguf")).expect_err("a model");
    assert!(error.to_string().contains("general.type"), "{error}");
    let gguf = off_grid();
    let importance = gathered(&gguf, &samples(&gguf, 1), 2);
    let other = model("tests/golden/llama.gguf");
    let recipe = Recipe::uniform(&other, Format::Q8_0).expect("a recipe");
    let rounding = Rounding { importance: Some(&importance), threads: 1 };
    let error = recipe.write(&other, rounding, &folder.file("x.gguf"), &mut |_| {});
    let error = error.expect_err("another model's importance").to_string();
    assert!(error.contains("token_embd.weight") && error.contains("columns, expected"), "{error}");
    assert_eq!(std::fs::read_dir(&folder.0).expect("the folder").count(), 0);
}

/// Of every format: the size is known before, threads change nothing, and importance lowers the errors
/// that count.
#[test]
fn rounding_by_importance_lowers_the_errors_that_count() {
    let (gguf, folder) = (off_grid(), Folder::new("weighted"));
    let importance = gathered(&gguf, &samples(&gguf, 1), 2);
    let (one, two) = (folder.file("1.gguf"), folder.file("2.gguf"));
    for format in [Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1] {
        let recipe = Recipe::uniform(&gguf, format).expect("a recipe");
        let plain = Rounding { importance: None, threads: 2 };
        let plain = written(&gguf, &recipe, plain, &one);
        assert!(plain.iter().all(|t| t.error.is_none_or(|error| error.weighted.is_none())));
        let by_importance = |threads| Rounding { importance: Some(&importance), threads };
        let weighted = written(&gguf, &recipe, by_importance(1), &one);
        written(&gguf, &recipe, by_importance(3), &two);
        let bytes = std::fs::read(&one).expect("the file");
        assert!(bytes == std::fs::read(&two).expect("the file"), "{format:?}: threads differ");
        assert_eq!(bytes.len(), recipe.file_bytes(&gguf));
        let sum = |all: &[Quantized]| -> f64 {
            all.iter()
                .filter(|t| t.to.format() == Some(format))
                .filter_map(|t| t.error)
                .map(|e| e.plain)
                .sum()
        };
        // Columns count about the same behind a norm, so the plain error falls as well.
        assert!(sum(&weighted) < 0.98 * sum(&plain), "{format:?}");
    }
}

#[test]
fn importance_lowers_the_divergence() {
    let Some(path) = shared("models/stories260K-f32.gguf") else { return };
    let (gguf, folder) = (Gguf::open(&path).expect("a model"), Folder::new("divergence"));
    let sequences =
        |seed| Sequences::sampled(&gguf, 4000, 100, seed, 2, &|_| true).expect("tokens");
    let importance = gathered(&gguf, &sequences(1), 2);
    let held_out = sequences(2);
    let out = folder.file("small.gguf");
    // Measured: 0.92, 0.72, 0.89 and 0.66 of the divergence of plain rounding are left.
    for (format, left) in
        [(Format::Q4_0, 0.98), (Format::Q4_1, 0.82), (Format::Q5_0, 0.96), (Format::Q5_1, 0.78)]
    {
        let recipe = Recipe::uniform(&gguf, format).expect("a recipe");
        let divergence = |importance| {
            written(&gguf, &recipe, Rounding { importance, threads: 2 }, &out);
            kl(&out, &gguf, &held_out)
        };
        let (plain, weighted) = (divergence(None), divergence(Some(&importance)));
        println!("{format:?}: KL {plain:.5}, by importance {weighted:.5}");
        assert!(weighted < left * plain, "{format:?}: {weighted} against {plain}");
    }
}

#[test]
fn a_size_is_kept_to_and_the_best_is_made_of_it() {
    let (gguf, folder) = (off_grid(), Folder::new("budget"));
    let sequences = samples(&gguf, 1);
    let rounding = Rounding { importance: None, threads: 2 };
    let scratch = folder.file("out.gguf");
    let uniform = |format| {
        let recipe = Recipe::uniform(&gguf, format).expect("a recipe");
        written(&gguf, &recipe, rounding, &scratch);
        (recipe.file_bytes(&gguf), kl(&scratch, &gguf, &sequences))
    };
    let (bytes, plain) = uniform(Format::Q4_0);
    let fit = |bytes, formats| {
        let budget = Budget { bytes, formats, sequences: &sequences, rounding, scratch: &scratch };
        budget.fit(&gguf, &|_| true)
    };
    let found = fit(bytes, None).expect("a recipe");
    let size = found.recipe.file_bytes(&gguf);
    assert!(size <= bytes && size as f64 > 0.99 * bytes as f64, "{size} of {bytes}");
    assert!(found.kl.mean < plain, "{found:?} against {plain}");
    assert!((found.predicted / found.kl.mean).ln().abs() < 0.7, "{found:?}");
    written(&gguf, &found.recipe, rounding, &scratch);
    assert_eq!(std::fs::metadata(&scratch).expect("the file").len(), size as u64);
    assert!((kl(&scratch, &gguf, &sequences) - found.kl.mean).abs() < 1e-12);
    // Room for everything: nothing is rounded. Too little: the least is named.
    let whole = fit(gguf.file_bytes() * 2, None).expect("a recipe");
    assert!(whole.kl.mean.abs() < 1e-7, "{whole:?}");
    let least = least_bytes(&gguf, None).expect("a size");
    let error = fit(least - 1, None).expect_err("too few bytes").to_string();
    assert!(error.contains(&least.to_string()), "{error}");
    assert!(fit(least, None).expect("a recipe").bytes <= least);
    // Only what may be chosen is.
    let few = [Format::Q4_0, Format::Q8_0];
    let found = fit(bytes, Some(&few)).expect("a recipe");
    for tensor in written(&gguf, &found.recipe, rounding, &scratch) {
        let chosen = tensor.to.format().expect("a known format");
        assert!(tensor.to == tensor.from || few.contains(&chosen), "{tensor:?}");
    }
    let names = std::fs::read_dir(&folder.0).expect("the folder").map(|e| e.expect("an entry"));
    let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["out.gguf"]);
    let formats = None;
    let budget = Budget { bytes, formats, sequences: &sequences, rounding, scratch: &scratch };
    assert!(matches!(budget.fit(&gguf, &|_| false), Err(Error::Cancelled)));
}
