//! Q5_1: placeholder until the layout is written.
use super::{Format, FormatInfo, Layout, Superblock};
pub(super) const INFO: FormatInfo = FormatInfo {
    format: Format::Q5_1,
    name: "q5_1",
    gguf_id: 7,
    block_len: 32,
    block_bytes: 24,
    layout: Layout::Blocks { group: 32, offset: 0, has_min: false, unpack },
    quantize,
};
fn unpack(_: &[u8], _: &mut Superblock) {}
fn quantize(_: &[f32], _: &mut [u8]) {}
