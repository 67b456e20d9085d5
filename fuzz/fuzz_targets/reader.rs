//! Any bytes as a GGUF file: everything the reader hands out, and the vocabulary.
#![no_main]

use attar::{Gguf, Tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(gguf) = Gguf::parse(data.to_vec().into()) else { return };
    for (_, value) in gguf.metadata() {
        let _ = (value.integer(), value.float());
        if let attar::gguf::Value::Array(array) = value {
            assert!(array.iter().count() <= array.len);
        }
    }
    for tensor in gguf.tensors() {
        let slices = if tensor.dims.len() > 1 && tensor.dims[tensor.dims.len() - 1] < 1 << 16 {
            tensor.split_last()
        } else {
            Vec::new()
        };
        assert!(slices.iter().all(|slice| slice.bytes.len() <= tensor.bytes.len()));
    }
    if let Ok(tokenizer) = Tokenizer::load(&gguf) {
        let ids = tokenizer.encode("Once é🦙\n 12".as_bytes(), true, true).unwrap_or_default();
        tokenizer.decode(&ids, true);
    }
});
