//! Q5_0: an f16 scale, then the fifth bit of each weight in 4 bytes, then the nibbles in 16; low
//! nibbles are weights 0..16, high nibbles 16..32.

use super::{
    Format, FormatInfo, Layout, Superblock, extreme, f16_to_f32, f32_to_f16, inverse, planes,
};

const LEN: usize = 32;
const BYTES: usize = 2 + LEN / 8 + LEN / 2;

pub(super) const INFO: FormatInfo = FormatInfo {
    format: Format::Q5_0,
    name: "q5_0",
    gguf_id: 6,
    block_len: LEN,
    block_bytes: BYTES,
    layout: Layout::Blocks { group: LEN, offset: 16, has_min: false, unpack },
};

fn unpack(src: &[u8], dst: &mut Superblock) {
    for (b, (src, codes)) in
        src.as_chunks::<BYTES>().0.iter().zip(dst.codes.as_chunks_mut::<LEN>().0).enumerate()
    {
        dst.scale[b] = f16_to_f32([src[0], src[1]]);
        planes::read::<1, 1>(&src[2..6], codes, 4);
        planes::read::<4, 16>(&src[6..], codes, 0);
    }
}

pub(super) fn quantize(src: &[f32], dst: &mut [u8]) {
    for (x, block) in src.as_chunks::<LEN>().0.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
        // The value of largest magnitude keeps its sign and maps to -16, the longer side.
        pack(x, extreme(x) / -16.0, block);
    }
}

/// Rounds a block under a scale.
pub(super) fn pack(x: &[f32; LEN], scale: f32, block: &mut [u8]) {
    let inverse = inverse(scale);
    block[..2].copy_from_slice(&f32_to_f16(scale));
    let codes = x.map(|v| ((v * inverse + 16.5) as u8).min(31));
    planes::write::<1, 1>(&codes, &mut block[2..6], 4);
    planes::write::<4, 16>(&codes, &mut block[6..], 0);
}
