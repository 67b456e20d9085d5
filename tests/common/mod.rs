//! What several tests need: the shared reference material, and visible skips where it is absent.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod device;

use attar::bytes::Bytes;
use attar::gguf::TensorType;
use attar::gguf::write::{TensorPlan, Writer};
use attar::{Format, Gguf, Options, Session};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A path in the folder of reference material beside the project, or `None` with a visible line.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let path = folder.join(path);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

/// A file of the project.
pub(crate) fn own(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The bundled model, and the checkpoints of all families.
pub(crate) fn own_models() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(own("tests/golden")).expect("tests/golden");
    let goldens = folder.map(|entry| entry.expect("a readable folder").path());
    let mut models: Vec<_> =
        goldens.filter(|path| path.extension().is_some_and(|e| e == "gguf")).collect();
    assert!(models.len() >= 6, "only {} checkpoints", models.len());
    models.push(own("models/attar-1m.gguf"));
    models
}

/// What `write` writes to the path it is given, opened.
pub(crate) fn made(write: impl FnOnce(&Path)) -> Gguf {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let (process, count) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(format!("attar-made-{process}-{count}.gguf"));
    write(&path);
    let bytes = std::fs::read(&path).expect("the file");
    std::fs::remove_file(&path).expect("the file");
    Gguf::parse(Bytes::from_vec(bytes).expect("memory")).expect("a model")
}

/// The model in `format`, or in the formats it has, with weights changed by `change(name, values, length of a row)`
/// and perhaps a vector more.
pub(crate) fn changed(
    gguf: &Gguf,
    format: Option<Format>,
    change: &dyn Fn(&str, &mut [f32], usize),
    more: Option<(&str, &[f32])>,
) -> Gguf {
    let plans = gguf.tensors().iter().map(|tensor| TensorPlan {
        name: tensor.name.to_string(),
        kind: format.map_or(tensor.kind, TensorType::of),
        dims: tensor.dims.to_vec(),
    });
    let added = more.map(|(name, values)| TensorPlan {
        name: name.into(),
        kind: TensorType::of(Format::F32),
        dims: vec![values.len()],
    });
    let plans: Vec<_> = plans.chain(added).collect();
    made(|path| {
        let mut writer = Writer::create(path, gguf.metadata(), &plans).expect("a file");
        for tensor in gguf.tensors() {
            let (is, len) = (tensor.format().expect("a format"), tensor.row_len());
            let (from, to) = (is.info(), format.unwrap_or(is).info());
            let mut values = vec![0.0; tensor.len()];
            let rows = values.chunks_exact_mut(len);
            let rows = rows.zip(tensor.bytes.chunks_exact(from.row_bytes(len)));
            rows.for_each(|(row, bytes)| from.dequantize(bytes, row));
            change(&tensor.name, &mut values, len);
            let mut bytes = vec![0; to.row_bytes(values.len())];
            let rows = values.chunks_exact(len).zip(bytes.chunks_exact_mut(to.row_bytes(len)));
            rows.for_each(|(row, bytes)| to.quantize(row, bytes));
            writer.append(&bytes).expect("room");
        }
        if let Some((_, values)) = more {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            writer.append(&bytes).expect("room");
        }
        writer.finish().expect("room");
    })
}

/// The bundled model in f32 with its matrices' weights moved off the grids they learned to sit on, by up to a fifth of
/// a row's root mean square: rounding this one costs something.
pub(crate) fn off_grid() -> Gguf {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let state = Cell::new(1u64);
    let noise = || {
        state.set(state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        (state.get() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let disturb = |name: &str, values: &mut [f32], len: usize| {
        if name.ends_with("_norm.weight") {
            return;
        }
        for row in values.chunks_exact_mut(len) {
            let square = row.iter().map(|x| x * x).sum::<f32>() / len as f32;
            row.iter_mut().for_each(|x| *x += 0.2 * square.sqrt() * noise());
        }
    };
    changed(&gguf, Some(Format::F32), &disturb, None)
}

/// A session over a file with an exact f32 cache.
pub(crate) fn open(path: &Path, options: Options) -> Session {
    let gguf = Gguf::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Session::open(&gguf, &options).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Logits after every token, one row a token.
pub(crate) fn all_logits(session: &mut Session, ids: &[u32]) -> Vec<f32> {
    let mut all = Vec::new();
    session.clear();
    session.feed_each(ids, &mut |_, logits| all.extend_from_slice(logits)).expect("valid ids");
    all
}

/// Values as they are, also where they are no numbers.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Some tokens of a vocabulary.
pub(crate) fn any_ids(vocab_len: usize, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i * 7919 + 13) % vocab_len as u32).collect()
}

/// Mean squared error over the mean square of what is expected.
pub(crate) fn normalized_error(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |x: f64| x * x;
    let error: f64 = got.iter().zip(want).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let scale: f64 = want.iter().map(|b| square(f64::from(*b))).sum();
    error / scale
}

/// Token ids, one a line.
pub(crate) fn read_ids(path: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(path).expect("an ids file");
    text.lines().map(|line| line.trim().parse().expect("one id a line")).collect()
}

/// Little-endian f32.
pub(crate) fn read_floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("a file of floats");
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
