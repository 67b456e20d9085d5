//! Graphics devices: whole models on one beside the CPU. Skipped, visibly, where there is no driver; a
//! driver that is a program (Mesa's lavapipe) will do.
#![cfg(feature = "gpu")]

mod common;

use attar::arch::{self, LoadOptions};
use attar::backend::{Backend, Cpu, CpuOptions, Gpu, GpuOptions, Row};
use attar::{Format, Gguf};
use common::{normalized_error, own, read_floats, read_ids, shared};
use std::path::{Path, PathBuf};

/// A device, or `None` with a visible line.
fn device(options: &GpuOptions) -> Option<Gpu> {
    if Gpu::devices().is_empty() {
        println!("skipped: no graphics device and no driver that stands for one");
        return None;
    }
    Some(Gpu::open(options).expect("a device that was listed opens"))
}

/// Logits after each of `ids`, in batches of `batch_len`.
fn logits(gguf: &Gguf, backend: &mut dyn Backend, ids: &[u32], batch_len: usize) -> Vec<f32> {
    let options = LoadOptions { context_len: ids.len(), batch_len, cache: Format::F32 };
    let model = arch::load(gguf, backend, &options).expect("a model this device runs");
    let mut all = Vec::new();
    for (start, ids) in (0..).step_by(batch_len).zip(ids.chunks(batch_len)) {
        let places = start as u32..(start + ids.len()) as u32;
        let rows: Vec<_> = places.map(|position| Row { sequence: 0, position }).collect();
        model.forward(backend, ids, &rows, &|| true).expect("nobody cancels");
        for first in (0..ids.len()).step_by(model.shape.logit_rows) {
            let count = model.shape.logit_rows.min(ids.len() - first);
            all.extend_from_slice(model.logits(backend, first, count).expect("logits"));
        }
    }
    all
}

fn goldens() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(own("tests/golden")).expect("tests/golden");
    let mut models: Vec<PathBuf> = folder
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|e| e == "gguf"))
        .collect();
    models.sort();
    let folder = shared("golden").map(|folder| std::fs::read_dir(folder).expect("a folder"));
    let others = folder.into_iter().flatten().map(|entry| entry.expect("readable").path());
    let known = ["llama", "qwen2", "qwen3"];
    models.extend(others.filter(|path| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        name.ends_with(".gguf") && known.iter().any(|k| name.starts_with(k))
    }));
    models
}

fn check(model: &Path, options: &GpuOptions) {
    let ids = read_ids(&model.with_extension("ids"));
    let want = read_floats(&model.with_extension("f32"));
    let gguf = Gguf::open(model).expect("a checkpoint");
    for batch_len in [1, 3, ids.len()] {
        let Some(mut gpu) = device(options) else { return };
        let got = logits(&gguf, &mut gpu, &ids, batch_len);
        let error = normalized_error(&got, &want);
        println!("{} in batches of {batch_len}: {error:.2e}", model.display());
        assert!(error < 1e-10, "{}: {error:e}", model.display());
    }
}

#[test]
fn golden_checkpoints_agree_with_their_reference() {
    for model in goldens() {
        check(&model, &GpuOptions::default());
    }
}

/// Whole numbers far apart, some equal, and what is no number.
fn row(len: usize) -> Vec<f32> {
    let mut values: Vec<f32> = (0..len).map(|i| (i * 7919 % 1009) as f32 - 500.0).collect();
    for (i, value) in values.iter_mut().enumerate().skip(1) {
        match i % 97 {
            5 => *value = f32::NAN,
            6 => *value = f32::NEG_INFINITY,
            _ => {}
        }
    }
    values
}

#[test]
fn the_largest_of_a_row_are_found_on_the_device() {
    for len in [1, 7, 1024, 1025, 5000, 152_064] {
        let Some(mut gpu) = device(&GpuOptions::default()) else { return };
        let most = gpu.largest_max();
        let x = gpu.buffer(2, len).expect("room").rows_at(1, 1);
        gpu.seal(1).expect("room");
        let values = row(len);
        gpu.write(x, &values);
        let mut want: Vec<(f32, u32)> = values.iter().copied().zip(0..).collect();
        want.retain(|(value, _)| *value > f32::NEG_INFINITY);
        want.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for count in [1, 3, most] {
            let got = gpu.largest(x, count).expect("candidates");
            let known = want.len().min(count);
            let possible = got.iter().filter(|(value, _)| *value > -1e38).count();
            assert_eq!(possible, known, "{count} of {len}");
            assert_eq!(got[..known], want[..known], "{count} of {len}");
        }
    }
}
