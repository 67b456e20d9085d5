//! Caches of keys and values in blocks: the CPU's and a device's are the same bytes, and either goes on from the other's.

use crate::common::normalized_error;
use crate::{LAYERS, QUERY_ERROR, device, feed, random};
use attar::arch::{self, LoadOptions};
use attar::backend::{Backend, Cpu, CpuOptions, GpuOptions};
use attar::model::Decoder;
use attar::{Format, Gguf};

/// Square of the relative error of rounding normal values to Q8_0, which each layer's keys and values take once.
const BLOCK_ERROR: f64 = 0.0055 * 0.0055;
/// At most, of rounding to F16.
const HALF_ERROR: f64 = 1.0 / (1 << 22) as f64;

/// A model loaded on a device with room for 300 positions.
fn open(gguf: &Gguf, backend: &mut dyn Backend, cache: Format) -> Decoder {
    let options =
        LoadOptions { context_len: 300, batch_len: 40, cache, sequences: 1, logit_rows: 0 };
    arch::load(gguf, backend, &options).expect("a model this device runs")
}

fn saved(model: &Decoder, backend: &dyn Backend, positions: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for cache in model.caches() {
        backend.cached(cache, positions, &mut |piece| bytes.extend_from_slice(piece));
    }
    bytes
}

fn restore(model: &Decoder, backend: &mut dyn Backend, positions: usize, mut bytes: &[u8]) {
    for cache in model.caches() {
        backend.restore(cache, positions, &mut |piece| {
            let (own, rest) = bytes.split_at(piece.len());
            piece.copy_from_slice(own);
            bytes = rest;
        });
    }
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
        let (from_gpu, from_cpu) = (saved(&model, &gpu, HELD), saved(&on_cpu, &cpu, HELD));
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
        restore(&on_gpu, &mut other, HELD, &from_gpu);
        assert!(
            saved(&on_gpu, &other, HELD) == from_gpu,
            "heads {heads}: bytes changed on the way"
        );
        restore(&on_gpu, &mut other, HELD, &from_cpu);
        assert!(
            saved(&on_gpu, &other, HELD) == from_cpu,
            "heads {heads}: bytes changed on the way"
        );
        let on_cpu = open(&gguf, &mut another, Format::Q8_0);
        restore(&on_cpu, &mut another, HELD, &from_gpu);
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
