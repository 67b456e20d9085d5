//! What several tests need: the shared reference material, and visible skips where it is absent.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod device;

use attar::bytes::Bytes;
use attar::gguf::TensorType;
use attar::gguf::write::{TensorPlan, Writer};
use attar::{Format, Gguf, Options, Session};
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

/// The bundled model in f32 with its weights moved off the grids it learned to sit on, by up to a fifth of a
/// row's root mean square: rounding this one costs something.
pub(crate) fn off_grid() -> Gguf {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let plans = gguf.tensors().iter().map(|tensor| TensorPlan {
        name: tensor.name.to_string(),
        kind: TensorType::of(Format::F32),
        dims: tensor.dims.to_vec(),
    });
    let plans: Vec<_> = plans.collect();
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    made(|path| {
        let mut writer = Writer::create(path, gguf.metadata(), &plans).expect("a file");
        for tensor in gguf.tensors() {
            let (info, len) = (tensor.format().expect("a format").info(), tensor.row_len());
            let mut row = vec![0.0; len];
            for bytes in tensor.bytes.chunks_exact(info.row_bytes(len)) {
                info.dequantize(bytes, &mut row);
                let square = row.iter().map(|x| x * x).sum::<f32>() / len as f32;
                if tensor.dims.len() > 1 {
                    row.iter_mut().for_each(|x| *x += 0.2 * square.sqrt() * noise());
                }
                let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
                writer.append(&bytes).expect("room");
            }
        }
        writer.finish().expect("room");
    })
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
