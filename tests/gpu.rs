//! Graphics devices: whole models on one beside the CPU. Skipped, visibly, where there is no driver; a
//! driver that is a program (Mesa's lavapipe) will do.
#![cfg(feature = "gpu")]

#[path = "gpu/cache.rs"]
mod cache;
mod common;

use attar::arch::{self, LoadOptions};
use attar::backend::{Backend, Gpu, GpuOptions, Row};
use attar::compress::{RandomModel, Shape, write_random};
use attar::model::Decoder;
use attar::session::GpuLayers;
use attar::{Error, Format, Gguf, Options, Sampler, SamplerOptions, Session};
use common::{all_logits, made, normalized_error, off_grid, own, read_floats, read_ids, shared};
use std::path::{Path, PathBuf};

/// As in the test of the CPU: weights and cache are f32, sums have a few hundred terms, and what a device
/// may err in an exponential, 2^-22 for scores of a few units, weighs no more than a rotation's angle.
const ERROR_MAX: f64 = 1e-11;

/// Square of the relative error of rounding normal values to 8 bits by rows, as the CPU does with queries and the
/// inputs of products and a graphics device does not.
const QUERY_ERROR: f64 = 0.0075 * 0.0075;

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
    let options = LoadOptions {
        context_len: ids.len(),
        batch_len,
        cache: Format::F32,
        sequences: 1,
        logit_rows: 0,
    };
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

/// The checkpoint's logits on a device, in batches of each of these lengths or all at once.
fn check(model: &Path, options: &GpuOptions, batches: &[usize]) {
    let ids = read_ids(&model.with_extension("ids"));
    let want = read_floats(&model.with_extension("f32"));
    let gguf = Gguf::open(model).expect("a checkpoint");
    for batch_len in batches.iter().copied().chain([ids.len()]) {
        let Some(mut gpu) = device(options) else { return };
        let got = logits(&gguf, &mut gpu, &ids, batch_len);
        let error = normalized_error(&got, &want);
        println!("{} in batches of {batch_len}: {error:.2e}", model.display());
        assert!(error < ERROR_MAX, "{}: {error:e}", model.display());
    }
}

#[test]
fn golden_checkpoints_agree_with_their_reference() {
    for model in goldens() {
        check(&model, &GpuOptions::default(), &[1]);
    }
}

/// What WebGPU promises everywhere is enough, and so are bindings that hold only parts of a matrix.
#[test]
fn the_least_of_devices_gives_the_same_answers() {
    for name in ["llama", "llama-experts", "qwen2moe", "qwen3"] {
        let model = own(&format!("tests/golden/{name}.gguf"));
        let baseline = GpuOptions { baseline: true, ..GpuOptions::default() };
        check(&model, &baseline, &[1, 3]);
        check(&model, &GpuOptions { binding_bytes_max: Some(1 << 14), ..baseline }, &[1]);
    }
}

/// Models that tell stories, with words or letters as tokens, in f32: of a text that is as likely to go on one way
/// as another, rounded inputs would decide, and devices round them otherwise.
fn stories() -> Vec<(&'static str, Gguf)> {
    let names = ["stories260K-f32", "stories3M-f32", "babyllama-char-f32"];
    let others = names.into_iter().filter_map(|name| {
        let path = shared(&format!("models/{name}.gguf"))?;
        Some((name, Gguf::open(&path).expect("a model")))
    });
    [("bundled", off_grid())].into_iter().chain(others).collect()
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a });
    best.expect("a vocabulary") as u32
}

/// Tokens of a greedy text, and of these how many are made one by one on the device.
const TEXT_LEN: usize = 200;
const STEPS: usize = 24;

#[test]
fn greedy_texts_are_those_of_the_cpu() {
    for (name, gguf) in stories() {
        let Some(gpu) = device(&GpuOptions::default()) else { return };
        let options = Options {
            context_len: TEXT_LEN,
            batch_len: 64,
            cache: Format::F32,
            ..Options::default()
        };
        let mut cpu = Session::open(&gguf, &options).expect("a session");
        let mut ids = vec![1];
        while ids.len() < TEXT_LEN {
            ids.push(likeliest(cpu.feed(&ids[ids.len() - 1..]).expect("room")));
        }
        let mut session = Session::open_on(&gguf, &options, Box::new(gpu)).expect("a session");
        let mut chosen = Vec::new();
        session
            .feed_each(&ids[..TEXT_LEN - 1], &mut |_, logits| chosen.push(likeliest(logits)))
            .expect("room");
        assert!(chosen == ids[1..], "{name}: {chosen:?} instead of {ids:?}");
        session.clear();
        let greedy = SamplerOptions { temperature: 0.0, ..SamplerOptions::default() };
        let mut sampler = Sampler::new(&greedy, session.vocab_len()).expect("sound options");
        let mut logits = vec![0.0; session.vocab_len()];
        for i in 0..STEPS {
            let next = session.choose(&ids[i..=i], &mut sampler, &mut logits).expect("room");
            assert_eq!(next, ids[i + 1], "{name} at {i}");
        }
    }
}

/// The shipped file, whose matrices are blocks: the CPU rounds the four inputs of a layer's products to 8 bits, a
/// device the same or none; once they have moved they are rounded otherwise.
#[test]
fn the_bundled_model_agrees_with_the_cpu_up_to_rounding() {
    let Some(gpu) = device(&GpuOptions::default()) else { return };
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let options = Options { cache: Format::F32, batch_len: 64, ..Options::default() };
    let mut cpu = Session::open(&gguf, &options).expect("a session");
    let ids: Vec<u32> = (0..100).map(|i| 300 + i * 37 % 1500).collect();
    let want = all_logits(&mut cpu, &ids);
    let mut session = Session::open_on(&gguf, &options, Box::new(gpu)).expect("a session");
    let error = normalized_error(&all_logits(&mut session, &ids), &want);
    let layers = gguf.usize("llama.block_count").expect("a count").expect("layers");
    let bound = layers as f64 * 2.0 * 4.0 * QUERY_ERROR;
    println!("{error:.2e} between the devices, at most {bound:.2e}");
    assert!(error < bound, "{error:e} is not below {bound:e}");
}

#[test]
fn what_has_no_room_is_an_error() {
    let Some(gpu) = device(&GpuOptions::default()) else { return };
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    assert!(!gpu.has_room(1 << 50));
    let endless = Options { context_len: 1 << 23, batch_len: 1, ..Options::default() };
    let refused = Session::open_on(&gguf, &endless, Box::new(gpu)).err();
    assert!(matches!(refused, Some(Error::Limit(_) | Error::Device(_))), "{refused:?}");
    let beyond = GpuOptions { index: Some(1000), ..GpuOptions::default() };
    assert!(matches!(Gpu::open(&beyond), Err(Error::Device(_))));
    // The next device is none the worse for it.
    let sound = device(&GpuOptions::default()).expect("the same device");
    let mut session =
        Session::open_on(&gguf, &Options::default(), Box::new(sound)).expect("a session");
    session.feed(&[1]).expect("room");
}

#[test]
fn a_plan_counts_the_devices_bytes_and_claims_none() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let Some(gpu) = device(&GpuOptions::default()) else { return };
    let make = || -> attar::Result<Box<dyn Backend>> { Ok(Box::new(gpu.planner())) };
    let options = Options::default();
    let plan = Session::plan_on(&gguf, &options, &make).expect("a plan");
    let session = Session::open_on(&gguf, &options, Box::new(gpu)).expect("a session");
    assert_eq!(session.plan().device_bytes, plan.device_bytes);
    let weights: usize = gguf.tensors().iter().map(|tensor| tensor.bytes.len()).sum();
    assert!(plan.device_bytes > weights + plan.cache_bytes, "{plan:?}");
}

#[test]
fn first_layers_on_the_device_and_others_on_the_cpu() {
    let gguf = Gguf::open(&own("tests/golden/llama.gguf")).expect("a checkpoint");
    let options = Options { cache: Format::F32, ..Options::default() };
    let ids = read_ids(&own("tests/golden/llama.ids"));
    let want = read_floats(&own("tests/golden/llama.f32"));
    for layers in [0, 1, 2, 3] {
        if device(&GpuOptions::default()).is_none() {
            return;
        }
        let backend = options.gpu(&gguf, &GpuOptions::default(), GpuLayers::First(layers));
        let mut session =
            Session::open_on(&gguf, &options, backend.expect("a device")).expect("a session");
        let error = normalized_error(&all_logits(&mut session, &ids), &want);
        assert!(error < ERROR_MAX, "{layers} layers: {error:e}");
    }
}

/// Heads of 12 numbers are no whole 16 bytes of f16: the device alone refuses such layers, beside the CPU it
/// has the rest of the model.
#[test]
fn layers_of_another_shape_run_on_the_cpu() {
    let gguf = random(16);
    let options = Options { context_len: 40, batch_len: 9, ..Options::default() };
    let Some(alone) = device(&GpuOptions::default()) else { return };
    let refused = Session::open_on(&gguf, &options, Box::new(alone)).err();
    assert!(matches!(refused, Some(Error::Unsupported(_))), "{refused:?}");
    let ids: Vec<u32> = (0..30).map(|i| (i * 7919 + 13) % 300).collect();
    let mut cpu = Session::open(&gguf, &options).expect("a session");
    let want = all_logits(&mut cpu, &ids);
    let all = [GpuLayers::Auto, GpuLayers::First(99), GpuLayers::First(1)];
    let bytes = all.map(|layers| {
        let backend = options.gpu(&gguf, &GpuOptions::default(), layers).expect("a device");
        let mut session = Session::open_on(&gguf, &options, backend).expect("a session");
        let error = normalized_error(&all_logits(&mut session, &ids), &want);
        println!("{layers:?}: {error:.2e}");
        assert!(error < ERROR_MAX, "{layers:?}: {error:e}");
        assert_eq!(session.plan().cache_bytes, cpu.plan().cache_bytes);
        session.plan().device_bytes
    });
    // Without its layers, but with the table and the head.
    let table = gguf.tensor("token_embd.weight").expect("a table").bytes.len();
    assert!(bytes[0] == bytes[1] && bytes[1] >= bytes[2] + table, "{bytes:?}");
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

/// Runs a token, then one at `position`; how many dispatches and submissions that took.
fn token_counts(gguf: &Gguf, position: u32) -> Option<(u64, u64)> {
    let mut gpu = device(&GpuOptions::default())?;
    let context_len = position as usize + 1;
    let options =
        LoadOptions { context_len, batch_len: 1, cache: Format::F32, sequences: 1, logit_rows: 0 };
    let model = arch::load(gguf, &mut gpu, &options).expect("a model this device runs");
    let mut step = |id, position| {
        let row = Row { sequence: 0, position };
        model.forward(&mut gpu, &[id], &[row], &|| true).expect("nobody cancels");
        model.largest(&mut gpu, 0, 1).expect("the likeliest token");
        gpu.counts()
    };
    let before = step(2, position - 1);
    let after = step(1, position);
    Some((after.0 - before.0, after.1 - before.1))
}

/// Of the dispatches of a token, those of no layer: the embedding, the last norm, the head, a pass over its
/// results, and two in the last layer, of whose scratch nobody says that it will not be read.
const OUTSIDE_LAYERS: u64 = 6;

#[test]
fn a_token_is_one_submission_of_few_dispatches() {
    let opened = |name: &str| Gguf::open(&own(name)).expect("a model");
    // Matrices of one input are one dispatch where they are of one format.
    let shape = r#"{"architecture": "llama", "vocabulary": 1024, "width": 128, "layers": 6, "heads": 4,
        "kv_heads": 2, "feed_forward": 352, "context": 512}"#;
    let shape = Shape::from_json(shape.as_bytes()).expect("a shape");
    let model = RandomModel { shape, format: Format::Q8_0, seed: 3 };
    let blocks = made(|path| write_random(&model, path, &mut |_| {}).expect("a model of blocks"));
    let floats =
        ["llama", "qwen3"].map(|name| (name, opened(&format!("tests/golden/{name}.gguf"))));
    for (name, gguf) in floats.into_iter().chain([("blocks", blocks)]) {
        let family = gguf.architecture().expect("a family");
        let layers =
            gguf.usize(&format!("{family}.block_count")).expect("a count").expect("layers");
        let Some(gpu) = device(&GpuOptions::default()) else { return };
        // The input of gate and up, and of the head, is rounded to bytes where their matrices are blocks.
        let gate = gguf.tensor("blk.0.ffn_gate.weight").expect("a gate");
        let blocks = !gate.format().expect("known").info().is_float();
        let rounded = u64::from(blocks && gpu.info().features.contains(&"dot4I8Packed"));
        // A late token's attention is cut into parts, which are merged.
        for (position, of_layer) in [(3, 6 + rounded), (300, 7 + rounded)] {
            let Some((dispatches, submissions)) = token_counts(&gguf, position) else { return };
            println!("{name} at {position}: {dispatches} dispatches, {layers} layers");
            assert_eq!(submissions, 1);
            assert_eq!(dispatches, of_layer * layers as u64 + OUTSIDE_LAYERS + rounded, "{name}");
        }
    }
}

/// A model in f32 with `heads` heads of its 192 columns.
fn random(heads: usize) -> Gguf {
    let model = RandomModel {
        shape: Shape {
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
            tied: false,
            rope_base: 10000.0,
            norm_epsilon: 1e-5,
        },
        format: Format::F32,
        seed: 7,
    };
    made(|path| write_random(&model, path, &mut |_| {}).expect("room for a small model"))
}

const LAYERS: usize = 3;

/// What was appended before a cancel is in the cache, though nothing was read after it.
#[test]
fn a_cancelled_session_goes_on_from_what_it_holds() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let options = Options { batch_len: 8, context_len: 40, ..Options::default() };
    let ids: Vec<u32> = (5..25).collect();
    let Some(gpu) = device(&GpuOptions::default()) else { return };
    let mut session = Session::open_on(&gguf, &options, Box::new(gpu)).expect("a session");
    let layers = gguf.usize("llama.block_count").expect("a count").expect("layers");
    // Asked once a batch and once a layer; refused before the third batch.
    let asked = std::cell::Cell::new(0);
    let go_on = || asked.replace(asked.get() + 1) < 2 * (layers + 1);
    assert_eq!(session.feed_while(&ids, &go_on).err(), Some(Error::Cancelled));
    assert_eq!(session.position(), 16);
    let mut state = Vec::new();
    session.cached(16, &mut |piece| state.extend_from_slice(piece)).expect("as many");
    let mut other = device(&GpuOptions::default())
        .map(|gpu| Session::open_on(&gguf, &options, Box::new(gpu)).expect("a session"));
    let other = other.as_mut().expect("the same device");
    let mut rest = &state[..];
    let fill = &mut |piece: &mut [u8]| {
        let (own, after) = rest.split_at(piece.len());
        piece.copy_from_slice(own);
        rest = after;
    };
    other.restore(16, fill).expect("room");
    assert_eq!(other.feed(&ids[16..]).expect("room"), session.feed(&ids[16..]).expect("room"));
    session.clear();
    assert_eq!(other.feed(&[3]).expect("room").len(), session.vocab_len());
    let whole = session.feed(&ids).expect("room").to_vec();
    other.truncate(0).expect("fewer");
    assert_eq!(other.feed(&ids).expect("room"), whole);
}
