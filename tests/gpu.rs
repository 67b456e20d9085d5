//! Graphics devices: whole models on one beside the CPU. Skipped, visibly, where there is no driver; a
//! driver that is a program (Mesa's lavapipe) will do.
#![cfg(feature = "gpu")]

mod common;

use attar::arch::{self, LoadOptions};
use attar::backend::{Backend, Cpu, CpuOptions, Gpu, GpuOptions, Row};
use attar::compress::{RandomModel, write_random};
use attar::model::Decoder;
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
    feed(&model, backend, ids, 0)
}

/// Logits after each of `ids`, the first of them at position `first`.
fn feed(model: &Decoder, backend: &mut dyn Backend, ids: &[u32], first: usize) -> Vec<f32> {
    let batch_len = model.shape.batch_len;
    let mut all = Vec::new();
    for (start, ids) in (first..).step_by(batch_len).zip(ids.chunks(batch_len)) {
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

/// A model in f32 with `heads` heads of its 192 columns.
fn random(heads: usize) -> Gguf {
    let path = std::env::temp_dir().join(format!("attar-gpu-{}-{heads}.gguf", std::process::id()));
    let model = RandomModel {
        architecture: "llama".into(),
        vocab_len: 300,
        width: 192,
        layers: LAYERS,
        heads,
        kv_heads: 1,
        feed_len: 192,
        experts: 0,
        experts_used: 0,
        context_len: 512,
        format: Format::F32,
        seed: 7,
    };
    write_random(&model, &path, &mut |_| {}).expect("room for a small model");
    let gguf = Gguf::open(&path).expect("a model");
    std::fs::remove_file(&path).expect("the model's file");
    gguf
}

const LAYERS: usize = 3;

/// Squares of the relative errors of rounding normal values to Q8_0, which each layer's keys and values
/// take once, and queries to 8 bits, which the CPU does and a graphics device does not.
const BLOCK_ERROR: f64 = 0.0055 * 0.0055;
const QUERY_ERROR: f64 = 0.0075 * 0.0075;
/// At most, of rounding to F16.
const HALF_ERROR: f64 = 1.0 / (1 << 22) as f64;

/// A model loaded on a device with room for 300 positions.
fn open(gguf: &Gguf, backend: &mut dyn Backend, cache: Format) -> Decoder {
    let options = LoadOptions { context_len: 300, batch_len: 40, cache };
    arch::load(gguf, backend, &options).expect("a model this device runs")
}

fn saved(backend: &dyn Backend, positions: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    backend.cached(positions, &mut |piece| bytes.extend_from_slice(piece));
    bytes
}

fn restore(backend: &mut dyn Backend, positions: usize, mut bytes: &[u8]) {
    backend.restore(positions, &mut |piece| {
        let (own, rest) = bytes.split_at(piece.len());
        piece.copy_from_slice(own);
        bytes = rest;
    });
    assert!(bytes.is_empty());
}

/// Keys and values in blocks: near those in f32 on the same device, near the CPU's, and each device goes
/// on from what the other has saved.
#[test]
fn a_cache_of_blocks_is_the_same_on_both_devices() {
    const HELD: usize = 270; // more than one part of attention
    let layers = LAYERS as f64;
    // Heads of 32, 96 and 192: one block, an odd number of them, an even one.
    for heads in [6, 2, 1] {
        let gguf = random(heads);
        let ids: Vec<u32> = (0..HELD as u32 + 1).map(|i| (i * 7919 + 13) % 300).collect();
        let Some(mut gpu) = device(&GpuOptions::default()) else { return };
        let model = open(&gguf, &mut gpu, Format::F32);
        let exact = feed(&model, &mut gpu, &ids, 0);
        let mut gpu = device(&GpuOptions::default()).expect("again");
        let model = open(&gguf, &mut gpu, Format::F16);
        let halves = normalized_error(&feed(&model, &mut gpu, &ids, 0), &exact);
        assert!(halves < layers * 2.0 * HALF_ERROR && halves > HALF_ERROR / 1000.0, "{halves:e}");

        let [mut gpu, mut other] = [(); 2].map(|()| device(&GpuOptions::default()).expect("again"));
        let [mut cpu, mut another] =
            [(); 2].map(|()| Cpu::new(CpuOptions::default()).expect("threads"));
        let model = open(&gguf, &mut gpu, Format::Q8_0);
        let on_cpu = open(&gguf, &mut cpu, Format::Q8_0);
        let mut here = feed(&model, &mut gpu, &ids[..HELD], 0);
        let mut there = feed(&on_cpu, &mut cpu, &ids[..HELD], 0);
        let (from_gpu, from_cpu) = (saved(&gpu, HELD), saved(&cpu, HELD));
        assert_eq!(from_gpu.len(), from_cpu.len());
        assert_eq!(gpu.cache_bytes(), cpu.cache_bytes());
        here.extend(feed(&model, &mut gpu, &ids[HELD..], HELD));
        there.extend(feed(&on_cpu, &mut cpu, &ids[HELD..], HELD));

        let (alone, both) = (normalized_error(&here, &exact), normalized_error(&here, &there));
        println!(
            "heads {heads}: {halves:.2e} and {alone:.2e} from f32, {both:.2e} between devices"
        );
        assert!(alone < layers * 2.0 * BLOCK_ERROR && alone > BLOCK_ERROR / 1000.0, "{alone:e}");
        assert!(both < layers * (QUERY_ERROR + 2.0 * BLOCK_ERROR), "{both:e}");

        let on_gpu = open(&gguf, &mut other, Format::Q8_0);
        restore(&mut other, HELD, &from_gpu);
        assert!(saved(&other, HELD) == from_gpu, "heads {heads}: bytes changed on the way");
        restore(&mut other, HELD, &from_cpu);
        assert!(saved(&other, HELD) == from_cpu, "heads {heads}: bytes changed on the way");
        let on_cpu = open(&gguf, &mut another, Format::Q8_0);
        restore(&mut another, HELD, &from_gpu);
        let last = here.len() - 300;
        for (got, want) in [
            (feed(&on_gpu, &mut other, &ids[HELD..], HELD), &there[last..]),
            (feed(&on_cpu, &mut another, &ids[HELD..], HELD), &here[last..]),
        ] {
            let error = normalized_error(&got, want);
            println!("heads {heads}: {error:.2e} after going on");
            assert!(error < layers * QUERY_ERROR, "{error:e}");
        }
    }
}
