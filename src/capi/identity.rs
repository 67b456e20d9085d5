//! A hash over bytes: of a model, to know it again, and of a saved state, to find damage.

use crate::gguf::Gguf;

/// FNV-1a, 64 bits: a change of any one byte changes it.
#[derive(Clone, Copy)]
pub(super) struct Hash(u64);

impl Hash {
    pub(super) const START: Self = Self(0xcbf2_9ce4_8422_2325);

    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }
}

/// Bytes looked at on each end of a tensor.
const END: usize = 64;

/// Bytes before the first tensor's data: all keys, names and sizes.
pub(super) fn meta_bytes(file: &[u8], gguf: &Gguf) -> usize {
    let start = file.as_ptr().addr();
    let data = gguf.tensors().iter().map(|tensor| tensor.bytes.as_ptr().addr().wrapping_sub(start));
    data.min().unwrap_or(file.len()).min(file.len())
}

/// What tells a model from others without reading all of its weights: everything before them, and
/// both ends of each tensor.
pub(super) fn of_model(file: &[u8], gguf: &Gguf) -> u64 {
    let mut hash = Hash::START;
    hash.add(&(file.len() as u64).to_le_bytes());
    hash.add(&file[..meta_bytes(file, gguf)]);
    for tensor in gguf.tensors() {
        let (bytes, end) = (&tensor.bytes, END.min(tensor.bytes.len()));
        hash.add(&bytes[..end]);
        hash.add(&bytes[bytes.len() - end..]);
    }
    hash.value()
}
