//! K-quants: superblocks of 256 weights whose groups have small integer scales under one f16 scale
//! `d`, and where the codes are unsigned, small integer minimums under another, `dmin`.
//!
//! | format | bytes of a superblock, in order |
//! |---|---|
//! | Q2_K | 16 scales (low nibble) and minimums (high nibble), 64 of codes, d, dmin |
//! | Q3_K | 32 of third bits, 64 of low bits, 12 of scales, d |
//! | Q4_K | d, dmin, 12 of scales and minimums, 128 of codes |
//! | Q5_K | d, dmin, 12 of scales and minimums, 32 of fifth bits, 128 of low bits |
//! | Q6_K | 128 of low bits, 64 of high bits, 16 scales, d |

pub(super) mod quantize;

use super::{Format, FormatInfo, Layout, Superblock, f16_to_f32, planes};

const fn info(
    format: Format,
    name: &'static str,
    gguf_id: u32,
    block_bytes: usize,
    layout: Layout,
) -> FormatInfo {
    FormatInfo { format, name, gguf_id, block_len: 256, block_bytes, layout }
}

pub(super) const Q2_K: FormatInfo = info(
    Format::Q2_K,
    "q2_k",
    10,
    84,
    Layout::Blocks { group: 16, offset: 0, has_min: true, unpack: unpack_q2_k },
);

pub(super) const Q3_K: FormatInfo = info(
    Format::Q3_K,
    "q3_k",
    11,
    110,
    Layout::Blocks { group: 16, offset: 4, has_min: false, unpack: unpack_q3_k },
);

pub(super) const Q4_K: FormatInfo = info(
    Format::Q4_K,
    "q4_k",
    12,
    144,
    Layout::Blocks { group: 32, offset: 0, has_min: true, unpack: unpack_q4_k },
);

pub(super) const Q5_K: FormatInfo = info(
    Format::Q5_K,
    "q5_k",
    13,
    176,
    Layout::Blocks { group: 32, offset: 0, has_min: true, unpack: unpack_q5_k },
);

pub(super) const Q6_K: FormatInfo = info(
    Format::Q6_K,
    "q6_k",
    14,
    210,
    Layout::Blocks { group: 16, offset: 32, has_min: false, unpack: unpack_q6_k },
);

fn unpack_q2_k(src: &[u8], dst: &mut Superblock) {
    let (scales, rest) = src.split_at(16);
    let (codes, d) = rest.split_at(64);
    planes::read::<2, 32>(codes, &mut dst.codes, 0);
    let (d, dmin) = (f16_at(d, 0), f16_at(d, 2));
    for (g, packed) in scales.iter().enumerate() {
        dst.scale[g] = d * f32::from(packed & 15);
        dst.min[g] = dmin * f32::from(packed >> 4);
    }
}

fn unpack_q3_k(src: &[u8], dst: &mut Superblock) {
    let (high, rest) = src.split_at(32);
    let (low, rest) = rest.split_at(64);
    let (packed, d) = rest.split_at(12);
    planes::read::<2, 32>(low, &mut dst.codes, 0);
    planes::read::<1, 32>(high, &mut dst.codes, 2);
    let mut scales = [0; 16];
    planes::read::<4, 8>(&packed[..8], &mut scales, 0);
    planes::read::<2, 4>(&packed[8..], &mut scales, 4);
    let d = f16_at(d, 0);
    dst.scale = scales.map(|scale| d * (f32::from(scale) - 32.0));
}

fn unpack_q4_k(src: &[u8], dst: &mut Superblock) {
    let (header, codes) = src.split_at(16);
    unpack_header(header, dst);
    planes::read::<4, 32>(codes, &mut dst.codes, 0);
}

fn unpack_q5_k(src: &[u8], dst: &mut Superblock) {
    let (header, rest) = src.split_at(16);
    let (high, low) = rest.split_at(32);
    unpack_header(header, dst);
    planes::read::<4, 32>(low, &mut dst.codes, 0);
    planes::read::<1, 32>(high, &mut dst.codes, 4);
}

/// The first 16 bytes of Q4_K and Q5_K: d, dmin, and 6 bits for each of 8 scales and 8 minimums.
///
/// The low 6 bits of bytes 0..4 are scales 0..4, of bytes 4..8 minimums 0..4. Bytes 8..12 hold the
/// low 4 bits of scales (low nibble) and minimums (high nibble) 4..8, whose upper 2 bits are the
/// upper bits of bytes 0..4 and 4..8.
fn unpack_header(header: &[u8], dst: &mut Superblock) {
    let (d, dmin) = (f16_at(header, 0), f16_at(header, 2));
    let packed = &header[4..];
    for g in 0..4 {
        let (scale, min, low) = (packed[g], packed[g + 4], packed[g + 8]);
        dst.scale[g] = d * f32::from(scale & 63);
        dst.min[g] = dmin * f32::from(min & 63);
        dst.scale[g + 4] = d * f32::from(low & 15 | scale >> 6 << 4);
        dst.min[g + 4] = dmin * f32::from(low >> 4 | min >> 6 << 4);
    }
}

fn unpack_q6_k(src: &[u8], dst: &mut Superblock) {
    let (low, rest) = src.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(16);
    planes::read::<4, 64>(low, &mut dst.codes, 0);
    planes::read::<2, 32>(high, &mut dst.codes, 4);
    let d = f16_at(d, 0);
    for (scale, packed) in dst.scale.iter_mut().zip(scales) {
        *scale = d * f32::from(*packed as i8);
    }
}

fn f16_at(bytes: &[u8], i: usize) -> f32 {
    f16_to_f32([bytes[i], bytes[i + 1]])
}
