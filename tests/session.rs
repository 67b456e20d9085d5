//! One model, one text: the same bits whatever the threads, the chunks and the kernels; and the
//! misuse of a session.

mod common;

use attar::backend::Executor;
use attar::{Error, Format, Gguf, Options, Session};
use common::{all_logits, any_ids, bits, own, shared};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// The bundled model, and a larger one where it is at hand.
fn models() -> Vec<PathBuf> {
    let shared = shared("models/stories3M-f32.gguf");
    [own("models/attar-stories.gguf")].into_iter().chain(shared).collect()
}

#[test]
fn same_bits_for_any_threads_chunks_and_kernels() {
    for model in models() {
        let gguf = Gguf::open(&model).expect("a model");
        for cache in [Format::F32, Format::F16] {
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
    let gguf = Gguf::open(&own("models/attar-stories.gguf")).expect("the bundled model");
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
    let gguf = Gguf::open(&own("models/attar-stories.gguf")).expect("the bundled model");
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
fn misuse_is_an_error_and_changes_nothing() {
    let gguf = Gguf::open(&own("models/attar-stories.gguf")).expect("the bundled model");
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
