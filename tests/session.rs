//! One model, one text: the same bits whatever the threads, the chunks and the kernels; and the
//! misuse of a session.

mod common;

use attar::backend::Executor;
use attar::{Error, Format, Gguf, Options, Session};
use common::{all_logits, any_ids, bits, normalized_error, own, shared};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// The bundled model, and a larger one where it is at hand.
fn models() -> Vec<PathBuf> {
    let shared = shared("models/stories3M-f32.gguf");
    [own("models/attar-1m.gguf")].into_iter().chain(shared).collect()
}

/// Encodings of keys and values.
const CACHES: [Format; 3] = [Format::F32, Format::F16, Format::Q8_0];

#[test]
fn same_bits_for_any_threads_chunks_and_kernels() {
    for model in models() {
        let gguf = Gguf::open(&model).expect("a model");
        for cache in CACHES {
            let base = Options {
                cache,
                threads: 1,
                batch_len: 64,
                context_len: 160,
                ..Options::default()
            };
            let scalar = attar::kernels::by_name("scalar");
            let mut first =
                Session::open(&gguf, &Options { isa: scalar, ..base }).expect("a session");
            let ids = any_ids(first.vocab_len(), 150);
            let want = bits(&all_logits(&mut first, &ids));
            for isa in attar::kernels::available() {
                for (threads, batch_len) in [(1, 64), (2, 150), (3, 7), (4, 1)] {
                    let options = Options { threads, batch_len, isa: Some(isa), ..base };
                    let mut session = Session::open(&gguf, &options).expect("a session");
                    let got = bits(&all_logits(&mut session, &ids));
                    assert!(got == want, "{} differs: {} {options:?}", model.display(), isa.name());
                }
            }
        }
    }
}

/// Threads that are started anew for every job, as slow and as unordered as can be.
#[derive(Debug)]
struct Lent(usize);

#[allow(unsafe_code, reason = "whoever lends threads promises to use them")]
// SAFETY: each number is called once, and the scope ends when all calls have.
unsafe impl Executor for Lent {
    fn threads(&self) -> usize {
        self.0
    }

    fn parallel_for(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            (0..count).rev().for_each(|i| drop(scope.spawn(move || work(i))));
        });
    }
}

#[test]
fn threads_that_are_lent_give_the_same_bits() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let base = Options { threads: 1, batch_len: 16, context_len: 64, ..Options::default() };
    let mut first = Session::open(&gguf, &base).expect("a session");
    let ids = any_ids(first.vocab_len(), 50);
    let want = bits(&all_logits(&mut first, &ids));
    for (executor, threads, count) in [(&Lent(1), 0, 1), (&Lent(3), 0, 3), (&Lent(3), 2, 2)] {
        let options = Options { executor: Some(executor), threads, ..base };
        let mut session = Session::open(&gguf, &options).expect("a session");
        assert_eq!(session.threads(), count);
        assert!(bits(&all_logits(&mut session, &ids)) == want, "{options:?}");
    }
}

#[test]
fn a_session_continues_where_it_stands() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let mut session = Session::open(&gguf, &Options::default()).expect("a session");
    let ids = any_ids(session.vocab_len(), 40);
    let whole = bits(session.feed(&ids).expect("room"));
    session.clear();
    for id in &ids[..39] {
        session.feed(&[*id]).expect("room");
    }
    assert_eq!(bits(session.feed(&ids[39..]).expect("room")), whole);
    session.truncate(20).expect("fewer than are held");
    assert_eq!(bits(session.feed(&ids[20..]).expect("room")), whole);
}

#[test]
fn keys_and_values_are_taken_on_elsewhere() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    for cache in CACHES {
        let options = Options { cache, context_len: 48, ..Options::default() };
        let mut session = Session::open(&gguf, &options).expect("a session");
        let ids = any_ids(session.vocab_len(), 40);
        session.feed(&ids[..39]).expect("room");
        let mut saved = Vec::new();
        session.cached(39, &mut |piece| saved.extend_from_slice(piece)).expect("as many are held");
        assert_eq!(saved.len(), session.cached_len(39));
        let want = bits(session.feed(&ids[39..]).expect("room"));
        let mut other =
            Session::open(&gguf, &Options { context_len: 64, ..options }).expect("another");
        let mut rest = &saved[..];
        let mut fill = |piece: &mut [u8]| {
            let (own, others) = rest.split_at(piece.len());
            piece.copy_from_slice(own);
            rest = others;
        };
        other.restore(39, &mut fill).expect("room");
        assert!(rest.is_empty());
        assert_eq!(bits(other.feed(&ids[39..]).expect("room")), want, "{cache:?}");
    }
}

/// Relative errors of rounding normal values to Q8_0, as `kernels/tests/formats.rs` measures it, and of
/// queries to 8 bits under their largest.
const BLOCK_ERROR: f64 = 0.0055;
const QUERY_ERROR: f64 = 0.0075;

#[test]
fn a_cache_of_blocks_costs_what_rounding_explains() {
    for model in models() {
        let gguf = Gguf::open(&model).expect("a model");
        let of_keys = gguf.tensors().iter().filter(|t| t.name.ends_with("attn_k.weight"));
        let layers = of_keys.clone().count();
        let floats = of_keys.clone().all(|t| t.format().expect("a known format").info().is_float());
        let logits = |cache| {
            let options = Options { cache, context_len: 160, ..Options::default() };
            let mut session = Session::open(&gguf, &options).expect("a session");
            let ids = any_ids(session.vocab_len(), 150);
            all_logits(&mut session, &ids)
        };
        let error = normalized_error(&logits(Format::Q8_0), &logits(Format::F32));
        // Keys, queries and values of a layer each add their rounding once; what steers counts like
        // what carries. Before weights in blocks the four inputs of a layer's products, once they have
        // moved, are rounded otherwise too, in both runs.
        let each = 2.0 * BLOCK_ERROR * BLOCK_ERROR + QUERY_ERROR * QUERY_ERROR;
        let anew = if floats { 0.0 } else { 2.0 * 4.0 * QUERY_ERROR * QUERY_ERROR };
        let bound = layers as f64 * (each + anew);
        println!("{}: {error:.2e}, at most {bound:.2e}", model.display());
        assert!(error < bound, "{}: {error:e} is not below {bound:e}", model.display());
        assert!(error > each / 100.0, "{}: {error:e}: nothing was rounded", model.display());
    }
}

#[test]
fn a_cache_that_cannot_be_is_refused() {
    let gguf = Gguf::open(&own("tests/golden/qwen3.gguf")).expect("heads 12 wide");
    let refused = |cache| {
        let error = Session::open(&gguf, &Options { cache, ..Options::default() }).err();
        error.expect("no such cache").to_string()
    };
    let error = refused(Format::Q8_0);
    assert!(error.contains("q8_0") && error.contains("keys of 12 and values of 12"), "{error}");
    assert!(refused(Format::Q4_0).contains("q4_0; use f32, f16 or q8_0"));
}

#[test]
fn misuse_is_an_error_and_changes_nothing() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let options = Options { context_len: 8, ..Options::default() };
    let mut session = Session::open(&gguf, &options).expect("a session");
    let beyond = session.vocab_len() as u32;
    assert!(matches!(session.feed(&[]), Err(Error::Invalid(_))));
    assert!(matches!(session.feed(&[1, beyond]), Err(Error::Token { .. })));
    assert!(matches!(session.feed(&[1; 9]), Err(Error::ContextFull { .. })));
    assert!(matches!(session.truncate(1), Err(Error::Position { .. })));
    assert_eq!(session.position(), 0);
    session.feed(&[1; 8]).expect("just enough room");
    assert!(matches!(session.feed(&[1]), Err(Error::ContextFull { .. })));
    session.clear();
    session.cancel_flag().store(true, Ordering::Relaxed);
    assert!(matches!(session.feed(&[1]), Err(Error::Cancelled)));
    assert_eq!(session.position(), 0);
}
