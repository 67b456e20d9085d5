//! Sessions on a graphics device in an arena. Skipped, visibly, where there is no driver.

use crate::{Region, inside};
use attar::backend::{Gpu, GpuOptions};
use attar::memory::{Arena, within};
use attar::session::GpuLayers;
use attar::{Gguf, Options, Result, Session};
use std::path::Path;

const TOKENS: [u32; 20] = [7; 20];

fn open(gguf: &Gguf, layers: GpuLayers) -> Result<Session> {
    let options = Options { context_len: 64, batch_len: 16, threads: 1, ..Options::default() };
    Session::open_on(gguf, &options, options.gpu(gguf, &GpuOptions::default(), layers)?)
}

/// What its opening takes of an arena, measured with next to no memory.
fn measured(gguf: &Gguf, layers: GpuLayers) -> usize {
    let mut region = Region::new(1 << 20);
    // SAFETY: the region is this arena's alone.
    let arena = unsafe { Arena::measuring(region.address(), 1 << 20) };
    // SAFETY: dropped inside.
    let session = unsafe { within(&arena, || open(gguf, layers).expect("a session")) };
    inside(&arena, || drop(session));
    arena.peak()
}

#[test]
fn a_session_on_a_device_takes_what_was_measured_and_the_driver_nothing() {
    if Gpu::devices().is_empty() {
        return println!("skipped: no graphics device and no driver that stands for one");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/attar-1m.gguf");
    let gguf = Gguf::open(&file).expect("the bundled model");
    let mut all = Vec::new();
    for layers in [GpuLayers::Auto, GpuLayers::First(2)] {
        let bytes = measured(&gguf, layers);
        all.push(bytes);
        let mut region = Region::new(bytes);
        let arena = region.arena();
        // SAFETY: dropped inside.
        let mut session = unsafe { within(&arena, || open(&gguf, layers).expect("a session")) };
        let used = arena.used();
        for _ in 0..3 {
            session.clear();
            let fed = inside(&arena, || session.feed(&TOKENS).is_ok_and(|logits| logits[0] != 0.0));
            assert!(fed && arena.used() == used);
        }
        inside(&arena, || drop(session));
        assert_eq!(arena.peak(), bytes);
        let mut less = Region::new(bytes - 64);
        assert!(!inside(&less.arena(), || open(&gguf, layers).is_ok()));
    }
    assert!(all[0] < all[1], "half of the caches are in the arena: {all:?}");
}
