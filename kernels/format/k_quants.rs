//! K-quants: placeholder until the layouts are written.
use super::{Format, FormatInfo, Layout, Superblock};
fn unpack(_: &[u8], _: &mut Superblock) {}
fn quantize(_: &[f32], _: &mut [u8]) {}
pub(super) const Q2_K: FormatInfo = FormatInfo {
    format: Format::Q2_K,
    name: "q2_k",
    gguf_id: 10,
    block_len: 256,
    block_bytes: 84,
    layout: Layout::Blocks { group: 16, offset: 0, has_min: false, unpack },
    quantize,
};
pub(super) const Q3_K: FormatInfo = FormatInfo {
    format: Format::Q3_K,
    name: "q3_k",
    gguf_id: 11,
    block_len: 256,
    block_bytes: 110,
    layout: Layout::Blocks { group: 16, offset: 0, has_min: false, unpack },
    quantize,
};
pub(super) const Q4_K: FormatInfo = FormatInfo {
    format: Format::Q4_K,
    name: "q4_k",
    gguf_id: 12,
    block_len: 256,
    block_bytes: 144,
    layout: Layout::Blocks { group: 32, offset: 0, has_min: false, unpack },
    quantize,
};
pub(super) const Q5_K: FormatInfo = FormatInfo {
    format: Format::Q5_K,
    name: "q5_k",
    gguf_id: 13,
    block_len: 256,
    block_bytes: 176,
    layout: Layout::Blocks { group: 32, offset: 0, has_min: false, unpack },
    quantize,
};
pub(super) const Q6_K: FormatInfo = FormatInfo {
    format: Format::Q6_K,
    name: "q6_k",
    gguf_id: 14,
    block_len: 256,
    block_bytes: 210,
    layout: Layout::Blocks { group: 16, offset: 0, has_min: false, unpack },
    quantize,
};
