//! How weights lie on a device: rows of units of 32 weights, each part of a format in a plane of its own,
//! so that a lane reads 16 aligned bytes where the file's blocks have 18 or 210.
//!
//! `shaders/format/*.wgsl` read what is written here.

use attar_kernels::{Format, FormatInfo, SUPERBLOCK, Superblock};

/// Weights of a unit.
pub(super) const UNIT: usize = 32;
/// Bytes of a unit of inputs in bytes: codes, their scale and sums.
pub(super) const QUANTIZED_BYTES: usize = 48;
/// Planes at most.
pub(super) const PLANES: usize = 4;
/// Rows after which every plane is at a multiple of 4 bytes, whatever the format.
pub(super) const ROWS_STEP: usize = 16;

/// The planes of a format, in order: one for each width of codes, scales, and what 256 weights share.
struct Layout {
    /// Widths in bits into which codes are cut, lowest bits first; none for floats.
    code_bits: &'static [usize],
    /// Bytes of scales and minimums a unit; of a float, of its weights.
    unit_bytes: usize,
    /// Bytes that 256 weights share.
    shared_bytes: usize,
    /// Scales, minimums and what is shared, of one block of the file.
    scales: fn(&[u8], &mut [Vec<u8>]),
}

const fn float(bytes: usize) -> Layout {
    Layout { code_bits: &[], unit_bytes: UNIT * bytes, shared_bytes: 0, scales: |_, _| {} }
}

/// A block of 32 whose first `N` bytes are its scale, or scale and minimum.
const fn simple<const N: usize>(code_bits: &'static [usize]) -> Layout {
    let scales = |block: &[u8], planes: &mut [Vec<u8>]| planes[0].extend(&block[..N]);
    Layout { code_bits, unit_bytes: N, shared_bytes: 0, scales }
}

fn layout(format: Format) -> Layout {
    match format {
        Format::F32 => float(4),
        Format::F16 | Format::BF16 => float(2),
        Format::Q8_0 => simple::<2>(&[8]),
        Format::Q4_0 => simple::<2>(&[4]),
        Format::Q4_1 => simple::<4>(&[4]),
        Format::Q5_0 => simple::<2>(&[4, 1]),
        Format::Q5_1 => simple::<4>(&[4, 1]),
        Format::Q2_K => Layout {
            code_bits: &[2],
            unit_bytes: 2,
            shared_bytes: 4,
            scales: |block, planes| {
                planes[0].extend(&block[..16]);
                planes[1].extend(&block[80..84]);
            },
        },
        Format::Q3_K => Layout {
            code_bits: &[2, 1],
            unit_bytes: 2,
            shared_bytes: 2,
            scales: |block, planes| {
                planes[0].extend(six_bits(&block[96..108]).map(|scale| scale.wrapping_sub(32)));
                planes[1].extend(&block[108..110]);
            },
        },
        Format::Q4_K => k_layout(&[4]),
        Format::Q5_K => k_layout(&[4, 1]),
        Format::Q6_K => Layout {
            code_bits: &[4, 2],
            unit_bytes: 2,
            shared_bytes: 2,
            scales: |block, planes| {
                planes[0].extend(&block[192..208]);
                planes[1].extend(&block[208..210]);
            },
        },
    }
}

/// Q4_K and Q5_K: two f16, then 6 bits for each scale and minimum.
const fn k_layout(code_bits: &'static [usize]) -> Layout {
    let scales = |block: &[u8], planes: &mut [Vec<u8>]| {
        let packed = &block[4..16];
        for g in 0..8 {
            let (scale, min) = match g {
                0..4 => (packed[g] & 63, packed[g + 4] & 63),
                _ => (
                    packed[g + 4] & 15 | packed[g - 4] >> 6 << 4,
                    packed[g + 4] >> 4 | packed[g] >> 6 << 4,
                ),
            };
            planes[0].extend([scale, min]);
        }
        planes[1].extend(&block[..4]);
    };
    Layout { code_bits, unit_bytes: 2, shared_bytes: 4, scales }
}

/// The 16 scales of Q3_K: low nibbles of 8 bytes are the first 8, high ones the others; pairs of upper bits
/// follow in 4 bytes.
fn six_bits(packed: &[u8]) -> [u8; 16] {
    std::array::from_fn(|i| {
        let low = packed[i % 8] >> (i / 8 * 4) & 15;
        let high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
        low | high << 4
    })
}

/// Units of a row.
pub(super) fn units(cols: usize) -> usize {
    cols.div_ceil(UNIT)
}

/// Bytes of `units` units in each plane.
pub(super) fn offsets(format: Format, units: usize) -> [usize; PLANES] {
    let Layout { code_bits, unit_bytes, shared_bytes, .. } = layout(format);
    let codes = code_bits.iter().map(|bits| bits * UNIT / 8 * units);
    let shared = shared_bytes * units * UNIT / SUPERBLOCK;
    let mut bytes = [0; PLANES];
    for (bytes, plane) in bytes.iter_mut().zip(codes.chain([unit_bytes * units, shared])) {
        *bytes = plane;
    }
    bytes
}

/// Bytes of each plane of `units` units, each a multiple of 16.
pub(super) fn plane_bytes(format: Format, units: usize) -> [usize; PLANES] {
    offsets(format, units).map(|bytes| bytes.next_multiple_of(16))
}

/// Bytes of `rows` rows of `cols` weights on a device.
pub(super) fn matrix_bytes(format: Format, rows: usize, cols: usize) -> usize {
    plane_bytes(format, rows * units(cols)).iter().sum()
}

/// Appends rows of a file to the planes.
pub(super) fn append(format: Format, cols: usize, rows: &[u8], planes: &mut [Vec<u8>; PLANES]) {
    let (info, layout) = (format.info(), layout(format));
    for row in rows.chunks_exact(info.row_bytes(cols)) {
        if info.is_float() {
            planes[0].extend(row);
            let padding = layout.unit_bytes * units(cols) - row.len();
            planes[0].extend(std::iter::repeat_n(0, padding));
        } else {
            append_blocks(info, &layout, row, planes);
        }
    }
}

fn append_blocks(info: &FormatInfo, layout: &Layout, row: &[u8], planes: &mut [Vec<u8>; PLANES]) {
    let mut unpacked = Superblock::ZERO;
    for superblock in row.chunks(info.superblock_bytes()) {
        info.unpack(superblock, &mut unpacked);
        let len = superblock.len() / info.block_bytes * info.block_len;
        let (codes, scales) = planes.split_at_mut(layout.code_bits.len());
        for unit in unpacked.codes[..len].as_chunks::<UNIT>().0 {
            let mut shift = 0;
            for (plane, bits) in codes.iter_mut().zip(layout.code_bits) {
                append_bits(plane, unit, shift, *bits);
                shift += bits;
            }
        }
        superblock.chunks(info.block_bytes).for_each(|block| (layout.scales)(block, scales));
    }
}

/// `bits` bits of each code, from bit `shift` on: byte `b` has those of code `b` lowest, then those of as
/// many codes further as there are bytes.
fn append_bits(plane: &mut Vec<u8>, codes: &[u8; UNIT], shift: usize, bits: usize) {
    let mask = (0xffu16 >> (8 - bits)) as u8;
    let bytes = bits * UNIT / 8;
    plane.extend((0..bytes).map(|b| {
        (0..8 / bits).fold(0, |byte, s| byte | (codes[s * bytes + b] >> shift & mask) << (bits * s))
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use attar_kernels::FORMATS;

    #[test]
    fn planes_are_as_long_as_they_are_said_to_be() {
        for info in &FORMATS {
            let cols = 3 * info.block_len.max(UNIT);
            let rows = vec![0x5a; info.row_bytes(cols) * ROWS_STEP];
            let mut planes = <[Vec<u8>; PLANES]>::default();
            append(info.format, cols, &rows, &mut planes);
            let bytes = plane_bytes(info.format, units(cols) * ROWS_STEP);
            for (plane, bytes) in planes.iter().zip(bytes) {
                assert_eq!(plane.len().next_multiple_of(16), bytes, "{}", info.name);
                assert_eq!(plane.len() % 4, 0, "{}", info.name);
            }
        }
    }

    #[test]
    fn no_format_grows_by_more_than_its_scales_written_out() {
        for info in FORMATS.iter().filter(|info| !info.is_float()) {
            let (file, device) = (info.row_bytes(4096) * 64, matrix_bytes(info.format, 64, 4096));
            let growth = device as f64 / file as f64;
            assert!((1.0..1.04).contains(&growth), "{}: {growth}", info.name);
        }
    }
}
