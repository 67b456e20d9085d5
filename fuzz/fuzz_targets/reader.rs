//! Any bytes as a GGUF file: everything the reader hands out, and the vocabulary.
#![no_main]

use attar::bytes::Bytes;
use attar::{Gguf, Tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(gguf) = Gguf::parse(Bytes::from_vec(data.to_vec()).expect("memory")) else { return };
    for (_, value) in gguf.metadata() {
        let _ = (value.integer(), value.float());
        if let attar::gguf::Value::Array(array) = value {
            assert!(array.iter().count() <= array.len);
        }
    }
    for tensor in gguf.tensors() {
        let slices = if tensor.dims.len() > 1 && tensor.dims[tensor.dims.len() - 1] < 1 << 16 {
            tensor.split_last().expect("memory")
        } else {
            Vec::new()
        };
        assert!(slices.iter().all(|slice| slice.bytes.len() <= tensor.bytes.len()));
    }
    if let Ok(tokenizer) = Tokenizer::load(&gguf) {
        let ids = tokenizer.encode("Once é🦙\n 12".as_bytes(), true, true).unwrap_or_default();
        tokenizer.decode(&ids, true).expect("memory");
    }
});
