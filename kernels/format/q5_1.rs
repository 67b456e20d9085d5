//! Q5_1: an f16 scale and an f16 minimum, then the fifth bit of each weight in 4 bytes, then the
//! nibbles in 16; low nibbles are weights 0..16, high nibbles 16..32. A weight is
//! `scale * code + minimum`.

use super::{
    Format, FormatInfo, Layout, Superblock, bounds, f16_to_f32, f32_to_f16, inverse, planes,
};

const LEN: usize = 32;
const BYTES: usize = 4 + LEN / 8 + LEN / 2;

pub(super) const INFO: FormatInfo = FormatInfo {
    format: Format::Q5_1,
    name: "q5_1",
    gguf_id: 7,
    block_len: LEN,
    block_bytes: BYTES,
    layout: Layout::Blocks { group: LEN, offset: 0, has_min: true, unpack },
};

fn unpack(src: &[u8], dst: &mut Superblock) {
    for (b, (src, codes)) in
        src.as_chunks::<BYTES>().0.iter().zip(dst.codes.as_chunks_mut::<LEN>().0).enumerate()
    {
        dst.scale[b] = f16_to_f32([src[0], src[1]]);
        dst.min[b] = -f16_to_f32([src[2], src[3]]);
        planes::read::<1, 1>(&src[4..8], codes, 4);
        planes::read::<4, 16>(&src[8..], codes, 0);
    }
}

pub(super) fn quantize(src: &[f32], dst: &mut [u8]) {
    for (x, block) in src.as_chunks::<LEN>().0.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
        let (min, max) = bounds(x);
        pack(x, (max - min) / 31.0, min, block);
    }
}

/// Rounds a block under a scale and a minimum.
pub(super) fn pack(x: &[f32; LEN], scale: f32, min: f32, block: &mut [u8]) {
    let inverse = inverse(scale);
    block[..2].copy_from_slice(&f32_to_f16(scale));
    block[2..4].copy_from_slice(&f32_to_f16(min));
    let codes = x.map(|v| (((v - min) * inverse + 0.5) as u8).min(31));
    planes::write::<1, 1>(&codes, &mut block[4..8], 4);
    planes::write::<4, 16>(&codes, &mut block[8..], 0);
}
