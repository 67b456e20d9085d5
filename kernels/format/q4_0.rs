//! Q4_0: an f16 scale, then 16 bytes; low nibbles are weights 0..16, high nibbles 16..32.

use super::{
    Format, FormatInfo, Layout, Superblock, extreme, f16_to_f32, f32_to_f16, inverse, planes,
};

const LEN: usize = 32;
const BYTES: usize = 2 + LEN / 2;

pub(super) const INFO: FormatInfo = FormatInfo {
    format: Format::Q4_0,
    name: "q4_0",
    gguf_id: 2,
    block_len: LEN,
    block_bytes: BYTES,
    layout: Layout::Blocks { group: LEN, offset: 8, has_min: false, unpack },
};

fn unpack(src: &[u8], dst: &mut Superblock) {
    for (b, (src, codes)) in
        src.as_chunks::<BYTES>().0.iter().zip(dst.codes.as_chunks_mut::<LEN>().0).enumerate()
    {
        dst.scale[b] = f16_to_f32([src[0], src[1]]);
        planes::read::<4, 16>(&src[2..], codes, 0);
    }
}

pub(super) fn quantize(src: &[f32], dst: &mut [u8]) {
    for (x, block) in src.as_chunks::<LEN>().0.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
        // The value of largest magnitude keeps its sign and maps to -8, the longer side.
        pack(x, extreme(x) / -8.0, block);
    }
}

/// Rounds a block under a scale.
pub(super) fn pack(x: &[f32; LEN], scale: f32, block: &mut [u8]) {
    let inverse = inverse(scale);
    block[..2].copy_from_slice(&f32_to_f16(scale));
    let codes = x.map(|v| ((v * inverse + 8.5) as u8).min(15));
    planes::write::<4, 16>(&codes, &mut block[2..], 0);
}
