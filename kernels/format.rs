//! Block formats: how weights lie in bytes. One file per format, one row per format here.
//!
//! The layouts are those of GGUF files (ggml's `block_*` structures). A block format is described by
//! unpacking it into a [`Superblock`]; dequantising and the reference dot product follow from that.

mod float;
mod k_quants;
mod planes;
mod q4_0;
mod q4_1;
mod q5_0;
mod q5_1;
mod q8_0;
mod search;
mod weighted;

use crate::SUPERBLOCK;
pub use float::{f16_to_f32, f32_to_f16};

/// A weight encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, reason = "the names by which these formats are known")]
#[repr(usize)]
pub enum Format {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    BF16,
    /// 32 signed bytes under one scale: 8.5 bits a weight.
    Q8_0,
    /// 32 signed 4-bit values under one scale: 4.5 bits.
    Q4_0,
    /// 32 4-bit values under a scale and a minimum: 5 bits.
    Q4_1,
    /// 32 signed 5-bit values under one scale: 5.5 bits.
    Q5_0,
    /// 32 5-bit values under a scale and a minimum: 6 bits.
    Q5_1,
    /// 256 2-bit values, a 4-bit scale and minimum per 16: 2.625 bits.
    Q2_K,
    /// 256 signed 3-bit values, a 6-bit scale per 16: 3.4375 bits.
    Q3_K,
    /// 256 4-bit values, a 6-bit scale and minimum per 32: 4.5 bits.
    Q4_K,
    /// 256 5-bit values, a 6-bit scale and minimum per 32: 5.5 bits.
    Q5_K,
    /// 256 signed 6-bit values, an 8-bit scale per 16: 6.5625 bits.
    Q6_K,
}

/// Up to 256 weights of one row, unpacked: `weight = scale[g] * (code - offset) - min[g]`, `g` the
/// group of [`FormatInfo::group_len`] weights the code lies in.
#[derive(Clone)]
#[repr(align(64))] // as vectors store and load it
pub struct Superblock {
    /// Unsigned codes in the order of the weights; zero beyond the end of the row.
    pub codes: [u8; SUPERBLOCK],
    /// Scale of each group. Zero beyond the end of the row.
    pub scale: [f32; 16],
    /// What to subtract from each weight of a group; unused where the format has no minimums.
    pub min: [f32; 16],
}

impl Superblock {
    /// No weights.
    pub const ZERO: Self = Self { codes: [0; SUPERBLOCK], scale: [0.0; 16], min: [0.0; 16] };
}

/// The one thing that differs between formats in kind.
pub(crate) enum Layout {
    /// One number after another.
    Float { bytes: usize, value: fn(&[u8]) -> f32, write: fn(&[f32], &mut [u8]) },
    /// Integer codes under scales.
    Blocks {
        /// Weights that share a scale: 16 or 32.
        group: usize,
        /// What a code is too large by.
        offset: i32,
        has_min: bool,
        /// Unpacks whole blocks, at most a superblock; the rest of the target is zero already.
        unpack: fn(&[u8], &mut Superblock),
    },
}

/// Everything the runtime needs to know about a [`Format`] besides its kernels.
pub struct FormatInfo {
    /// The format described.
    pub format: Format,
    /// Name as GGUF tools print it, lower case.
    pub name: &'static str,
    /// Type number in the GGUF tensor table.
    pub gguf_id: u32,
    /// Weights per block.
    pub block_len: usize,
    /// Bytes per block.
    pub block_bytes: usize,
    pub(crate) layout: Layout,
}

/// All formats, indexed by `Format as usize`.
pub const FORMATS: [FormatInfo; 13] = [
    float::F32,
    float::F16,
    float::BF16,
    q8_0::INFO,
    q4_0::INFO,
    q4_1::INFO,
    q5_0::INFO,
    q5_1::INFO,
    k_quants::Q2_K,
    k_quants::Q3_K,
    k_quants::Q4_K,
    k_quants::Q5_K,
    k_quants::Q6_K,
];

// A row in the wrong place is a compile error, not a wrong answer.
const _: () = {
    let mut i = 0;
    while i < FORMATS.len() {
        assert!(FORMATS[i].format as usize == i);
        i += 1;
    }
};

impl Format {
    /// Number of formats; the length of every per-format table.
    pub const COUNT: usize = FORMATS.len();

    /// This format's row of [`FORMATS`].
    pub const fn info(self) -> &'static FormatInfo {
        const ROWS: &[FormatInfo; Format::COUNT] = &FORMATS;
        &ROWS[self as usize]
    }

    /// The format with this type number in a GGUF file, if it can run.
    pub fn from_gguf_id(id: u32) -> Option<Self> {
        FORMATS.iter().find(|info| info.gguf_id == id).map(|info| info.format)
    }

    /// The format called `name`, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        FORMATS.iter().find(|info| info.name.eq_ignore_ascii_case(name)).map(|info| info.format)
    }
}

impl FormatInfo {
    /// Whether the weights are plain numbers, multiplied by f32 activations.
    pub const fn is_float(&self) -> bool {
        matches!(self.layout, Layout::Float { .. })
    }

    /// Bytes of a row of `len` weights, a multiple of [`FormatInfo::block_len`].
    pub const fn row_bytes(&self, len: usize) -> usize {
        len / self.block_len * self.block_bytes
    }

    /// Bytes of 256 weights.
    pub const fn superblock_bytes(&self) -> usize {
        self.row_bytes(SUPERBLOCK)
    }

    /// Weights that share a scale: 16 or 32, and 1 in a float format.
    pub const fn group_len(&self) -> usize {
        match self.layout {
            Layout::Float { .. } => 1,
            Layout::Blocks { group, .. } => group,
        }
    }

    /// What a code is too large by.
    pub const fn offset(&self) -> i32 {
        match self.layout {
            Layout::Float { .. } => 0,
            Layout::Blocks { offset, .. } => offset,
        }
    }

    /// Whether groups have a minimum.
    pub const fn has_min(&self) -> bool {
        matches!(self.layout, Layout::Blocks { has_min: true, .. })
    }

    /// Unpacks whole blocks, at most [`SUPERBLOCK`] weights, of a block format.
    pub fn unpack(&self, src: &[u8], dst: &mut Superblock) {
        assert!(!src.is_empty() && src.len() <= self.superblock_bytes());
        assert!(src.len().is_multiple_of(self.block_bytes));
        if let Layout::Blocks { unpack, .. } = self.layout {
            *dst = Superblock::ZERO;
            unpack(src, dst);
        }
    }

    /// Expands whole blocks to f32; `dst` has as many places as `src` has weights.
    pub fn dequantize(&self, src: &[u8], dst: &mut [f32]) {
        assert!(src.len() == self.row_bytes(dst.len()));
        match self.layout {
            Layout::Float { bytes, value, .. } => {
                dst.iter_mut().zip(src.chunks_exact(bytes)).for_each(|(y, w)| *y = value(w));
            }
            Layout::Blocks { group, offset, .. } => {
                let mut block = Superblock::ZERO;
                for (src, dst) in
                    src.chunks(self.superblock_bytes()).zip(dst.chunks_mut(SUPERBLOCK))
                {
                    self.unpack(src, &mut block);
                    for (i, y) in dst.iter_mut().enumerate() {
                        let code = (i32::from(block.codes[i]) - offset) as f32;
                        *y = block.scale[i / group] * code - block.min[i / group];
                    }
                }
            }
        }
    }

    /// [`FormatInfo::quantize`] for the formats that keys and values may have, floats and Q8_0. The rounding
    /// of all formats would bring 25 KB into a program.
    pub fn write(&self, src: &[f32], dst: &mut [u8]) {
        assert!(dst.len() == self.row_bytes(src.len()) && src.len().is_multiple_of(self.block_len));
        match self.layout {
            Layout::Float { write, .. } => write(src, dst),
            Layout::Blocks { .. } => {
                assert!(self.format == Format::Q8_0, "other blocks are written by quantize");
                q8_0::quantize(src, dst);
            }
        }
    }

    /// Packs f32 into whole blocks by plain rounding; `src` is a multiple of the block long. A block
    /// with a value that is not finite comes back as NaN.
    pub fn quantize(&self, src: &[f32], dst: &mut [u8]) {
        assert!(dst.len() == self.row_bytes(src.len()) && src.len().is_multiple_of(self.block_len));
        match self.format {
            Format::F32 | Format::F16 | Format::BF16 | Format::Q8_0 => self.write(src, dst),
            Format::Q4_0 => q4_0::quantize(src, dst),
            Format::Q4_1 => q4_1::quantize(src, dst),
            Format::Q5_0 => q5_0::quantize(src, dst),
            Format::Q5_1 => q5_1::quantize(src, dst),
            Format::Q2_K => k_quants::quantize::q2_k(src, None, dst),
            Format::Q3_K => k_quants::quantize::q3_k(src, None, dst),
            Format::Q4_K => k_quants::quantize::q4_k(src, None, dst),
            Format::Q5_K => k_quants::quantize::q5_k(src, None, dst),
            Format::Q6_K => k_quants::quantize::q6_k(src, None, dst),
        }
    }

    /// As [`FormatInfo::quantize`], but scales and minimums are chosen so that the sum of squared errors,
    /// each times the `importance` of its weight, is small: never more than plain rounding leaves.
    /// Importance is at least 0 and has a value a weight. Where a block's is all zero or not finite, and in
    /// a float format, this is plain rounding.
    pub fn quantize_weighted(&self, src: &[f32], importance: &[f32], dst: &mut [u8]) {
        assert!(src.len() == importance.len());
        self.quantize(src, dst);
        if !self.is_float() {
            weighted::improve(self, src, importance, dst);
        }
    }
}

/// The value of largest magnitude; NaN where a value is not finite, so that the scale made from it
/// shows the damage instead of hiding it.
fn extreme(x: &[f32]) -> f32 {
    let extreme = x.iter().fold(0f32, |m, &v| if v.abs() > m.abs() { v } else { m });
    if x.iter().all(|v| v.is_finite()) { extreme } else { f32::NAN }
}

/// The least and the greatest value; NaN where a value is not finite, as in [`extreme`].
fn bounds(x: &[f32]) -> (f32, f32) {
    if !x.iter().all(|v| v.is_finite()) {
        return (f32::NAN, f32::NAN);
    }
    x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), v| (min.min(*v), max.max(*v)))
}

/// What to multiply by instead of dividing by `scale`; zero for a block of zeros.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}
