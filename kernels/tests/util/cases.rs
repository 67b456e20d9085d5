//! What the kernel tests and benches run on: rows of every format, ordinary and hostile.
#![allow(dead_code, reason = "each test file uses a part")]

use super::random::Random;
use attar_kernels::{Format, Isa, activation_bytes, by_name, f32_to_f16};

/// Where a block keeps its f16 scale, and its f16 minimum.
fn f16_fields(format: Format) -> &'static [usize] {
    match format {
        Format::F32 | Format::F16 | Format::BF16 => &[],
        Format::Q8_0 | Format::Q4_0 | Format::Q5_0 => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
    }
}

/// How to fill a row of weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fill {
    /// Random codes under random finite scales of either sign.
    Plain,
    /// Every byte of the codes and of the small scales the same; f16 scales as given.
    Constant(u8, f32),
    /// Random bits everywhere: infinite and NaN scales, or NaN floats, among them.
    Bits,
}

/// Fills that find what random codes do not: extreme codes, zero, subnormal and infinite scales.
pub(crate) const HOSTILE: [Fill; 10] = [
    Fill::Bits,
    Fill::Constant(0xff, 1.0),
    Fill::Constant(0xff, -65504.0),
    Fill::Constant(0x80, 1.0),
    Fill::Constant(0x7f, 1.0),
    Fill::Constant(0x00, 1.0),
    Fill::Constant(0xff, 0.0),
    Fill::Constant(0x5a, -0.0),
    Fill::Constant(0xff, 6e-8),
    Fill::Constant(0xff, f32::INFINITY),
];

/// `rows` rows of `len` weights.
pub(crate) fn weights(
    format: Format,
    rows: usize,
    len: usize,
    fill: Fill,
    random: &mut Random,
) -> Vec<u8> {
    let info = format.info();
    let count = rows * info.row_bytes(len);
    if info.is_float() && fill == Fill::Plain {
        let mut bytes = vec![0; count];
        info.quantize(&random.gauss_vec(rows * len), &mut bytes);
        return bytes;
    }
    let mut bytes = match fill {
        Fill::Plain | Fill::Bits => random.byte_vec(count),
        Fill::Constant(byte, _) => vec![byte; count],
    };
    for block in bytes.chunks_exact_mut(info.block_bytes) {
        for &at in f16_fields(format) {
            let scale = match fill {
                Fill::Plain => random.gauss() / 16.0,
                Fill::Constant(_, scale) => scale,
                Fill::Bits => break,
            };
            block[at..at + 2].copy_from_slice(&f32_to_f16(scale));
        }
    }
    bytes
}

/// `x` as [`Isa::dot`] reads it beside weights of `format`.
pub(crate) fn column(format: Format, x: &[f32]) -> Vec<u8> {
    if format.info().is_float() {
        return x.iter().flat_map(|x| x.to_le_bytes()).collect();
    }
    let mut bytes = vec![0; activation_bytes(x.len())];
    scalar().quantize(x, &mut bytes);
    bytes
}

/// Rows of activations that find what ordinary ones do not.
pub(crate) fn hostile_activations(len: usize, random: &mut Random) -> Vec<Vec<f32>> {
    let with = |at: usize, value: f32, random: &mut Random| {
        let mut x = random.gauss_vec(len);
        x[at.min(len - 1)] = value;
        x
    };
    let alternating = |i: usize| if i & 1 == 0 { 1.0 } else { -1.0 };
    vec![
        vec![0.0; len],
        vec![-0.0; len],
        vec![1.0; len],
        vec![-1.0; len],
        (0..len).map(alternating).collect(),
        random.gauss_vec(len).iter().map(|x| x * 1e-37).collect(),
        random.gauss_vec(len).iter().map(|x| x * 1e37).collect(),
        with(3, f32::MAX, random),
        with(len - 1, f32::INFINITY, random),
        with(0, f32::NEG_INFINITY, random),
        with(len / 2, f32::NAN, random),
    ]
}

pub(crate) fn scalar() -> &'static Isa {
    by_name("scalar").expect("the scalar kernels run everywhere")
}

/// Row lengths worth trying for a format: short, odd, one past a superblock, and long.
pub(crate) fn lengths(format: Format) -> &'static [usize] {
    match format.info().block_len {
        1 => &[1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 100, 128, 257, 896],
        32 => &[32, 64, 96, 128, 192, 224, 256, 288, 512, 544, 896, 2048, 8192],
        _ => &[256, 512, 768, 1280, 2048, 8192],
    }
}

/// Bytes between garbage and at an odd address: a kernel that needs alignment, or that lets what
/// lies around its input into the result, fails.
pub(crate) struct Framed {
    bytes: Vec<u8>,
    start: usize,
}

const FRAME: usize = 129;

impl Framed {
    pub(crate) fn new(content: &[u8]) -> Self {
        let mut bytes = vec![0xff; content.len() + 2 * FRAME + 1];
        let start = FRAME + usize::from((bytes.as_ptr() as usize + FRAME).is_multiple_of(2));
        bytes[start..start + content.len()].copy_from_slice(content);
        Self { bytes, start }
    }

    pub(crate) fn get(&self) -> &[u8] {
        &self.bytes[self.start..self.bytes.len() - (2 * FRAME + 1 - self.start)]
    }
}

/// Whether two results are the same: the same bits, or NaN both.
pub(crate) fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// Fails, naming the first place where two results differ.
pub(crate) fn assert_same(found: &[f32], expected: &[f32], what: &dyn Fn() -> String) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(same(*a, *b), "{} [{i}]: found {a:e}, expected {b:e}", what());
    }
}
