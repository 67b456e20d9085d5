//! Memory that fails at every point: each allocation of a session's life is refused once, alone and with
//! all that follow. Each time there is an error, and what was allocated goes back.

mod common;

use attar::backend::Executor;
use attar::bytes::Bytes;
use attar::tokenizer::TextStream;
use attar::{Error, Gguf, Options, Result, Sampler, SamplerOptions, Session, Tokenizer};
use common::{own, shared};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

/// Of this thread: allocations so far, the first and the last to refuse, bytes held.
#[derive(Clone, Copy, Default)]
struct Account {
    asked: usize,
    first_refused: usize,
    last_refused: usize,
    held: usize,
}

thread_local! {
    static ACCOUNT: Cell<Account> = const {
        Cell::new(Account { asked: 0, first_refused: 0, last_refused: 0, held: 0 })
    };
}

struct Failing;

/// Whether the next allocation is granted; `more` bytes are held then, and `fewer` are not any more.
fn grants(more: usize, fewer: usize) -> bool {
    let mut account = ACCOUNT.get();
    account.asked += 1;
    let refused = (account.first_refused..=account.last_refused).contains(&account.asked);
    if !refused {
        account.held = account.held.wrapping_add(more).wrapping_sub(fewer);
    }
    ACCOUNT.set(account);
    !refused
}

#[allow(unsafe_code, reason = "an allocator is unsafe to implement; every call is passed on")]
// SAFETY: every method refuses or hands its arguments to the system's allocator, whose contract is
// the same.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match grants(layout.size(), 0) {
            // SAFETY: the caller's promises are those `System` asks for.
            true => unsafe { System.alloc(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let account = ACCOUNT.get();
        ACCOUNT.set(Account { held: account.held.wrapping_sub(layout.size()), ..account });
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match grants(size, layout.size()) {
            // SAFETY: as above.
            true => unsafe { System.realloc(pointer, layout, size) },
            false => std::ptr::null_mut(),
        }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// Runs `life` refusing the allocations from `first` to `last`; says how many it asked for. It gives
/// back what it takes.
fn refusing<T>(
    first: usize,
    last: usize,
    life: &dyn Fn() -> Result<T>,
) -> (Result<(), Error>, usize) {
    let before = ACCOUNT.get();
    let (first_refused, last_refused) = (first, last);
    ACCOUNT.set(Account { asked: 0, first_refused, last_refused, ..before });
    let result = life().map(drop);
    let after = ACCOUNT.get();
    ACCOUNT.set(Account { first_refused: 0, last_refused: 0, ..after });
    drop(result.clone().map_err(|error| error.to_string()));
    let held = ACCOUNT.get().held.wrapping_sub(before.held);
    let in_error = match &result {
        Err(Error::Memory { .. }) | Ok(()) => held == 0,
        Err(error) => panic!("refused the {first}th: {error}"),
    };
    assert!(in_error, "refused the {first}th: {held} bytes were kept");
    (result, after.asked)
}

/// Refuses each allocation of `life`; says how many there are.
fn refuse_each<T>(what: &str, life: &dyn Fn() -> Result<T>) -> usize {
    let (whole, points) = refusing(0, 0, life);
    assert_eq!(whole, Ok(()), "{what}");
    for point in 1..=points {
        for last in [point, usize::MAX] {
            let (result, _) = refusing(point, last, life);
            assert!(result.is_err(), "{what}: did without the {point}th of {points} allocations");
        }
    }
    println!("{what}: {points} allocations refused");
    points
}

/// Three shares of work, one after another.
#[derive(Debug)]
struct Lent;

#[allow(unsafe_code, reason = "whoever lends threads promises to use them")]
// SAFETY: each number is called once, and all calls have ended.
unsafe impl Executor for Lent {
    fn threads(&self) -> usize {
        3
    }

    fn parallel_for(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(work);
    }
}

fn options(lent: bool) -> Options {
    let (threads, executor): (_, Option<&'static dyn Executor>) =
        if lent { (0, Some(&Lent)) } else { (1, None) };
    Options { context_len: 48, batch_len: 8, threads, executor, ..Options::default() }
}

/// From a file's bytes to a token, without text.
fn tokens(bytes: &'static [u8], lent: bool) -> Result<u32> {
    let gguf = Gguf::parse(Bytes::from_static(bytes))?;
    let mut session = Session::open(&gguf, &options(lent))?;
    let dry = SamplerOptions { dry_multiplier: 1.0, repeat_penalty: 1.1, ..Default::default() };
    let mut sampler = Sampler::new(&dry, session.vocab_len())?;
    let mut logits = attar::memory::Block::claim(session.vocab_len(), 0f32)?;
    logits.copy_from_slice(session.feed(&[1, 2, 3, 1, 2, 3, 1, 2, 3])?);
    Ok(sampler.sample(&mut logits))
}

/// From a file's bytes to a text and its score.
fn text(bytes: &'static [u8], lent: bool) -> Result<f64> {
    let gguf = Gguf::parse(Bytes::from_static(bytes))?;
    let tokenizer = Tokenizer::load(&gguf)?;
    let mut stream = TextStream::new(&tokenizer)?;
    let mut session = Session::open(&gguf, &options(lent))?;
    let ids = tokenizer.encode("Once é🦙".as_bytes(), true, true)?;
    session.feed(&ids)?;
    for id in &ids {
        stream.push(&tokenizer, *id)?;
    }
    tokenizer.decode(&ids, true)?;
    session.score_text(&tokenizer, b"a cat").map(|score| score.logprob)
}

fn read(path: &Path) -> &'static [u8] {
    Box::leak(std::fs::read(path).expect("a model").into_boxed_slice())
}

#[test]
fn refused_memory_is_an_error_at_every_point_of_a_session() {
    let mut points = 0;
    for name in ["llama-factors", "llama-experts", "qwen2moe", "qwen3"] {
        let bytes = read(&own(&format!("tests/golden/{name}.gguf")));
        for lent in [false, true] {
            points += refuse_each(name, &|| tokens(bytes, lent));
        }
    }
    let bytes = read(&own("models/attar-1m.gguf"));
    for lent in [false, true] {
        points += refuse_each("the bundled model", &|| text(bytes, lent));
    }
    assert!(points > 500, "only {points} points");
    println!("{points} points in all, each refused alone and with all that follow");
}

#[test]
fn refused_memory_is_an_error_at_every_point_of_a_tokenizer() {
    for name in ["llama-spm", "llama-bpe", "gpt-2", "bert-bge", "nomic-bert-moe", "gemma-4"] {
        let Some(path) = shared(&format!("vocab/ggml-vocab-{name}.gguf")) else { continue };
        let bytes = read(&path);
        let encode = || {
            let tokenizer = Tokenizer::load(&Gguf::parse(Bytes::from_static(bytes))?)?;
            let ids = tokenizer.encode("Ünïcode 12345, it's <s> 世界".as_bytes(), true, true)?;
            tokenizer.decode(&ids, true)
        };
        refuse_each(name, &encode);
    }
}

#[test]
fn a_refused_error_text_is_cut_short() {
    let cut = |bytes: &'static [u8]| Gguf::parse(Bytes::from_static(bytes)).map(drop);
    let whole = cut(b"GGUF\x09\0\0\0").expect_err("no such version");
    let before = ACCOUNT.get();
    ACCOUNT.set(Account { asked: 0, first_refused: 1, last_refused: usize::MAX, ..before });
    let short = cut(b"GGUF\x09\0\0\0");
    ACCOUNT.set(Account { first_refused: 0, last_refused: 0, ..ACCOUNT.get() });
    let (Error::Unsupported(whole), Err(Error::Unsupported(short))) = (whole, short) else {
        panic!("another error");
    };
    assert!(short.len() < whole.len() && whole.starts_with(&*short));
}
