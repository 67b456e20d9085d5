//! Q8_0: an f16 scale, then 32 signed bytes.

use super::{Format, FormatInfo, Layout, Superblock, extreme, f16_to_f32, f32_to_f16, inverse};

const LEN: usize = 32;
const BYTES: usize = 2 + LEN;

pub(super) const INFO: FormatInfo = FormatInfo {
    format: Format::Q8_0,
    name: "q8_0",
    gguf_id: 8,
    block_len: LEN,
    block_bytes: BYTES,
    layout: Layout::Blocks { group: LEN, offset: 128, has_min: false, unpack },
};

fn unpack(src: &[u8], dst: &mut Superblock) {
    for (b, (src, codes)) in
        src.as_chunks::<BYTES>().0.iter().zip(dst.codes.as_chunks_mut::<LEN>().0).enumerate()
    {
        dst.scale[b] = f16_to_f32([src[0], src[1]]);
        for (code, q) in codes.iter_mut().zip(&src[2..]) {
            *code = q ^ 0x80;
        }
    }
}

pub(super) fn quantize(src: &[f32], dst: &mut [u8]) {
    for (x, block) in src.as_chunks::<LEN>().0.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
        pack(x, extreme(x).abs() / 127.0, block);
    }
}

/// Rounds a block under a scale.
pub(super) fn pack(x: &[f32; LEN], scale: f32, block: &mut [u8]) {
    let inverse = inverse(scale);
    block[..2].copy_from_slice(&f32_to_f16(scale));
    for (q, v) in block[2..].iter_mut().zip(x) {
        let scaled = v * inverse;
        *q = (scaled + 0.5f32.copysign(scaled)) as i8 as u8;
    }
}
