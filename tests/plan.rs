//! The plan of a session, measured before anything is claimed, is what opening takes, to the byte. This
//! program's allocator is the library's.
#![allow(unsafe_code, reason = "an arena is lent memory, and what it holds must stay inside")]

mod common;

use attar::backend::Executor;
use attar::memory::{Arena, Block, Heap, within};
use attar::session::Plan;
use attar::{Error, Format, Gguf, Options, Session};
use common::{all_logits, own, own_models, shared};
use std::path::PathBuf;

#[global_allocator]
static HEAP: Heap = Heap;

/// Does the last share first, all on the caller's thread.
#[derive(Debug)]
struct Backwards;

// SAFETY: each number is called once, and all calls have ended.
unsafe impl Executor for Backwards {
    fn threads(&self) -> usize {
        3
    }

    fn parallel_for(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..count).rev().for_each(work);
    }
}

/// Models of all families, with and without vocabularies.
fn models() -> Vec<PathBuf> {
    own_models().into_iter().chain(shared("models/stories15M-q4_0.gguf")).collect()
}

/// Opens a session in an arena of `bytes` and hands it to `f`; its memory stays inside.
fn open_in<T>(
    bytes: usize,
    gguf: &Gguf,
    options: &Options,
    f: impl FnOnce(&Arena, Result<&mut Session, &Error>) -> T,
) -> T {
    let mut region = Block::claim(bytes, 0u8).expect("memory");
    // SAFETY: the region is the arena's alone.
    let arena = unsafe { Arena::new(region.as_mut_ptr(), bytes) };
    // SAFETY: the session is dropped below, inside.
    let mut session = unsafe { within(&arena, || Session::open(gguf, options)) };
    let result = f(&arena, session.as_mut().map_err(|e| &*e));
    // SAFETY: nothing is allocated.
    unsafe { within(&arena, || drop(session)) };
    result
}

fn plan(gguf: &Gguf, options: &Options) -> Plan {
    Session::plan_for(gguf, options).expect("a plan")
}

#[test]
fn an_arena_of_the_planned_size_is_just_enough() {
    let base = Options { context_len: 40, batch_len: 16, threads: 1, ..Options::default() };
    let lent = Options { executor: Some(&Backwards), threads: 0, cache: Format::F32, ..base };
    let blocks = Options { cache: Format::Q8_0, ..lent };
    let mut with_blocks = 0;
    for path in models() {
        let gguf = Gguf::open(&path).expect("a model");
        let whole = Session::plan_for(&gguf, &blocks).is_ok(); // where heads are whole blocks
        with_blocks += usize::from(whole);
        for options in [base, lent].into_iter().chain(whole.then_some(blocks)) {
            let plan = plan(&gguf, &options);
            let ids: Vec<u32> = (1..30).collect();
            let mut plain =
                Session::open(&gguf, &Options { threads: 1, executor: None, ..options })
                    .expect("a session");
            let want = all_logits(&mut plain, &ids);
            open_in(plan.session_bytes, &gguf, &options, |arena, session| {
                let session = session.expect("just enough memory");
                assert_eq!(session.plan(), plan, "{}", path.display());
                let used = arena.used();
                assert!(used <= plan.session_bytes);
                assert_eq!(arena.peak(), plan.session_bytes, "{}", path.display());
                let got = all_logits(session, &ids);
                assert!(got == want, "{}: logits depend on where memory is", path.display());
                assert_eq!(arena.used(), used, "feeding allocated");
            });
            for less in [1, 64] {
                open_in(plan.session_bytes - less, &gguf, &options, |_, session| {
                    let refused = matches!(session, Err(Error::Memory { .. }));
                    assert!(refused, "{}: {less} bytes too few sufficed", path.display());
                });
            }
        }
    }
    assert!(with_blocks > 0);
}

#[test]
fn a_plan_takes_little_memory_itself() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let options = Options { threads: 1, ..Options::default() };
    let plan = plan(&gguf, &options);
    let mut scratch = Block::claim(1 << 18, 0u8).expect("memory");
    // SAFETY: the region is the arena's alone.
    let arena = unsafe { Arena::new(scratch.as_mut_ptr(), scratch.len()) };
    // SAFETY: a plan is plain data, and there is no error to hold memory.
    let measured = unsafe { within(&arena, || Session::plan_for(&gguf, &options).ok()) };
    assert_eq!(measured, Some(plan));
    assert_eq!(arena.used(), 0);
    assert!(plan.session_bytes > 8 * arena.peak(), "{plan:?}, {} for planning", arena.peak());
    println!("{plan:?} measured in {} bytes", arena.peak());
}

#[test]
fn what_cannot_be_opened_cannot_be_planned() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let options = Options { cache: Format::Q4_0, ..Options::default() };
    let error = Session::plan_for(&gguf, &options).expect_err("no such cache");
    assert_eq!(Session::open(&gguf, &options).err(), Some(error));
    let endless = Options { context_len: usize::MAX / 2, threads: 1, ..Options::default() };
    assert!(matches!(Session::plan_for(&gguf, &endless), Err(Error::Limit(_))));
}

#[test]
fn threads_of_our_own_do_not_fit_lent_memory() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let options = Options { threads: 2, context_len: 40, batch_len: 4, ..Options::default() };
    open_in(1 << 20, &gguf, &options, |_, session| {
        assert!(matches!(session, Err(Error::Unsupported(_))));
    });
}
