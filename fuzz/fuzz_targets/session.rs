//! A sound checkpoint with bytes changed: opening a session and feeding tokens.
#![no_main]

use attar::bytes::Bytes;
use attar::{Gguf, Options, Session};
use libfuzzer_sys::fuzz_target;

static SOUND: &[u8] = include_bytes!("../../tests/golden/qwen2moe.gguf");
/// Changes beyond the header and the first weights find nothing new.
const CHANGED: usize = 8192;

fuzz_target!(|data: &[u8]| {
    let mut bytes = SOUND.to_vec();
    for change in data.as_chunks::<3>().0 {
        bytes[usize::from(u16::from_le_bytes([change[0], change[1]])) % CHANGED] = change[2];
    }
    let Ok(gguf) = Gguf::parse(Bytes::from_vec(bytes).expect("memory")) else { return };
    let options = Options { context_len: 8, batch_len: 4, threads: 1, ..Options::default() };
    if let Ok(mut session) = Session::open(&gguf, &options) {
        let _ = session.feed(&[1, 2, 3]);
    }
});
