//! What does not fit a graphics device is an error that says so, when it is asked for.
#![cfg(feature = "gpu")]

use crate::kit::{SMALL_BINDING, Weights, devices};
use crate::random::Random;
use attar::backend::{Backend, CacheShape, Gpu, GpuOptions};
use attar::{Error, Format, Result};

const ABSURD: usize = 1 << 40;

/// Opens the device with small bindings, claims and seals.
fn refused(what: &str, claim: impl FnOnce(&mut dyn Backend) -> Result<()>) {
    let binding_bytes_max = Some(SMALL_BINDING as u64);
    let options = GpuOptions { binding_bytes_max, ..GpuOptions::default() };
    let mut gpu = Gpu::open(&options).expect("a listed device opens");
    match claim(&mut gpu).and_then(|()| gpu.seal(1)) {
        Err(Error::Limit(text)) => println!("{what}: {text}"),
        Err(error) => panic!("{what}: {error}, expected a limit"),
        Ok(()) => panic!("{what} fits"),
    }
}

fn cache(context_len: usize) -> CacheShape {
    let (sequences, heads, query_heads, key_len, value_len) = (1, 1, 1, 64, 64);
    let format = Format::F32;
    CacheShape { sequences, context_len, heads, query_heads, key_len, value_len, format }
}

#[test]
fn what_does_not_fit_is_a_limit() {
    if !devices().iter().any(|device| device.name.starts_with("gpu")) {
        return;
    }
    let mut random = Random(31);
    let wide = Weights::random(Format::F32, [1, 1, 320], &mut random);
    let stack = Weights::random(Format::F32, [2, 33, 96], &mut random);
    refused("16 rows of a matrix", |gpu| gpu.weight(&wide.tensors).map(|_| ()));
    refused("one matrix of a stack", |gpu| gpu.weight(&stack.tensors).map(|_| ()));
    refused("a buffer", |gpu| gpu.buffer(100, 64).map(|_| ()));
    refused("a cache", |gpu| gpu.cache(cache(100)).map(|_| ()));
    refused("a routing", |gpu| gpu.routing(5000, 1).map(|_| ()));
    refused("an absurd buffer", |gpu| gpu.buffer(ABSURD, ABSURD).map(|_| ()));
    refused("an absurd cache", |gpu| gpu.cache(cache(ABSURD)).map(|_| ()));
    refused("more bytes than addresses", |gpu| gpu.cache(cache(1 << 62)).map(|_| ()));
    refused("an absurd routing", |gpu| gpu.routing(ABSURD, ABSURD).map(|_| ()));
}

#[test]
fn more_experts_than_can_be_chosen_among_are_unsupported() {
    if !devices().iter().any(|device| device.name.starts_with("gpu")) {
        return;
    }
    let stack = Weights::random(Format::F32, [1025, 1, 8], &mut Random(32));
    let mut gpu = Gpu::open(&GpuOptions::default()).expect("a listed device opens");
    let error = gpu.weight(&stack.tensors).expect_err("one expert too many");
    assert!(
        matches!(error, Error::Unsupported(_)) && error.to_string().contains("1024"),
        "{error}"
    );
    gpu.weight(&stack.tensors[1..]).expect("as many as can be");
}

#[test]
fn heads_that_shaders_cannot_read_are_unsupported() {
    if !devices().iter().any(|device| device.name.starts_with("gpu")) {
        return;
    }
    let mut gpu = Gpu::open(&GpuOptions::default()).expect("a listed device opens");
    for (key_len, value_len) in [(63, 64), (64, 63), (1024, 64), (64, 1024)] {
        let shape = CacheShape { key_len, value_len, ..cache(8) };
        let error = gpu.cache(shape).expect_err("heads that do not fit");
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
        assert!(error.to_string().contains(&key_len.to_string()), "{error}");
    }
}
