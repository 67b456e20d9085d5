//! F32, F16 and BF16: plain little-endian numbers.

use super::{Format, FormatInfo, Layout};

pub(super) const F32: FormatInfo = FormatInfo {
    format: Format::F32,
    name: "f32",
    gguf_id: 0,
    block_len: 1,
    block_bytes: 4,
    layout: Layout::Float {
        bytes: 4,
        value: |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        write: |src, dst| {
            src.iter().zip(dst.as_chunks_mut().0).for_each(|(x, out)| *out = x.to_le_bytes());
        },
    },
};

pub(super) const F16: FormatInfo = FormatInfo {
    format: Format::F16,
    name: "f16",
    gguf_id: 1,
    block_len: 1,
    block_bytes: 2,
    layout: Layout::Float {
        bytes: 2,
        value: |b| f16_to_f32([b[0], b[1]]),
        write: |src, dst| {
            src.iter().zip(dst.as_chunks_mut().0).for_each(|(x, out)| *out = f32_to_f16(*x));
        },
    },
};

pub(super) const BF16: FormatInfo = FormatInfo {
    format: Format::BF16,
    name: "bf16",
    gguf_id: 30,
    block_len: 1,
    block_bytes: 2,
    layout: Layout::Float {
        bytes: 2,
        value: |b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16),
        write: |src, dst| {
            src.iter().zip(dst.as_chunks_mut().0).for_each(|(x, out)| *out = f32_to_bf16(*x));
        },
    },
};

/// IEEE half to single. Exact.
pub fn f16_to_f32(h: [u8; 2]) -> f32 {
    let h = u32::from(u16::from_le_bytes(h));
    let (sign, exponent, fraction) = ((h & 0x8000) << 16, (h >> 10) & 31, h & 0x3ff);
    match exponent {
        0 => f32::from_bits(sign | 0x3380_0000) * fraction as f32, // 2^-24 per subnormal step
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// Single to IEEE half, rounding to nearest, ties to even; too large becomes infinite.
pub fn f32_to_f16(x: f32) -> [u8; 2] {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let half = if magnitude > 0x7f80_0000 {
        0x7e00
    } else if magnitude >= 0x4780_0000 {
        0x7c00
    } else if magnitude >= 0x3880_0000 {
        // Normal: rebias the exponent, round off 13 bits; a carry moves into the exponent as it should.
        let rebiased = magnitude - (112 << 23);
        ((rebiased + 0xfff + (rebiased >> 13 & 1)) >> 13) as u16
    } else {
        // Subnormal: adding 0.5 leaves the value's multiples of 2^-24 in the low bits, rounded.
        (f32::from_bits(magnitude) + 0.5).to_bits() as u16
    };
    (sign | half).to_le_bytes()
}

/// Single to bfloat16, rounding to nearest, ties to even.
fn f32_to_bf16(x: f32) -> [u8; 2] {
    let bits = x.to_bits();
    if x.is_nan() {
        return ((bits >> 16) as u16 | 0x40).to_le_bytes();
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).to_le_bytes()[..2].try_into().unwrap_or([0; 2])
}
