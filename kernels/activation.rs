//! Activations as the integer kernels read them: 256 signed bytes under one scale.
//!
//! One superblock is [`ACTIVATION_BYTES`] long:
//!
//! | bytes | what |
//! |---|---|
//! | 0..256 | codes, i8 in -127..=127 |
//! | 256..288 | sums of each 16 codes, i16 little-endian |
//! | 288..292 | scale, f32 little-endian: `x = scale * code` |
//! | 292..320 | zero |
//! | 320..352 | scale times the sum of each 32 codes, f32 little-endian |
//! | 352..384 | zero, so that superblocks start on cache lines |
//!
//! One layout serves every quantised weight format, so an input shared by several matrices is
//! quantised once. It never reaches a file.

/// Weights, and activations, per superblock.
pub const SUPERBLOCK: usize = 256;
/// Bytes of one superblock of activations.
pub const ACTIVATION_BYTES: usize = 384;

pub(crate) const SUMS: usize = SUPERBLOCK;
pub(crate) const SCALE: usize = SUPERBLOCK + 32;
/// What minimums are multiplied by, the same for every row of a matrix.
pub(crate) const SCALED_SUMS: usize = SUPERBLOCK + 64;

/// Bytes of a row of `len` quantised activations; a last partial superblock is filled with zeros.
pub const fn activation_bytes(len: usize) -> usize {
    len.div_ceil(SUPERBLOCK) * ACTIVATION_BYTES
}

/// One superblock read field by field.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a>(pub(crate) &'a [u8; ACTIVATION_BYTES]);

impl<'a> Block<'a> {
    /// All codes, i8.
    pub(crate) fn codes(self) -> &'a [u8; SUPERBLOCK] {
        self.0.first_chunk().expect("an activation superblock begins with its codes")
    }

    /// Sum of codes `16 * i .. 16 * i + 16`.
    pub(crate) fn sum(self, i: usize) -> i32 {
        i32::from(i16::from_le_bytes([self.0[SUMS + 2 * i], self.0[SUMS + 2 * i + 1]]))
    }

    pub(crate) fn scale(self) -> f32 {
        let b = &self.0[SCALE..];
        f32::from_le_bytes([b[0], b[1], b[2], b[3]])
    }
}

/// Quantises a row: the definition. `out` is `activation_bytes(x.len())` long.
///
/// `code = round(x * (127 / max|x|))`, ties to even. A superblock holding a value that is not
/// finite gets a NaN scale, so that the damage shows in the result instead of vanishing.
#[inline(always)]
pub(crate) fn quantize(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.chunks(SUPERBLOCK).zip(out.as_chunks_mut::<ACTIVATION_BYTES>().0) {
        let mut padded = [0f32; SUPERBLOCK];
        padded[..x.len()].copy_from_slice(x);
        quantize_superblock(&padded, out);
    }
}

/// Adding and subtracting 1.5 * 2^23 rounds a small float to an integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// Scale of the codes and its inverse, if `max` as the greatest magnitude allows any code but zero. One so
/// small that 127 / max overflows is zero for every purpose here.
#[inline(always)]
pub(crate) fn scale_and_inverse(max: f32) -> Option<(f32, f32)> {
    (1e-36..f32::INFINITY).contains(&max).then(|| (max / 127.0, 127.0 / max))
}

#[inline(always)]
fn quantize_superblock(x: &[f32; SUPERBLOCK], out: &mut [u8; ACTIVATION_BYTES]) {
    // Sixteen running maxima vectorise; a maximum does not depend on the order. The integer
    // maximum of the bits is that of the magnitudes, and puts infinities and NaN on top.
    let mut max = [0u32; 16];
    for x in x.as_chunks::<16>().0 {
        for (m, v) in max.iter_mut().zip(x) {
            *m = (*m).max(v.to_bits() & 0x7fff_ffff);
        }
    }
    let max = f32::from_bits(max.into_iter().fold(0, u32::max));
    let usable = scale_and_inverse(max);
    let not_finite = max.to_bits() >= f32::INFINITY.to_bits();
    let (scale, inverse) = usable.unwrap_or((if not_finite { f32::NAN } else { 0.0 }, 0.0));
    out[SUPERBLOCK..].fill(0);
    for (block, x) in x.as_chunks::<32>().0.iter().enumerate() {
        let mut all = 0;
        for (half, x) in x.as_chunks::<16>().0.iter().enumerate() {
            let i = 2 * block + half;
            let mut sum = 0i16;
            for (l, v) in x.iter().enumerate() {
                let v = if usable.is_some() { *v } else { 0.0 };
                // The low bits of the biased float are the code in two's complement.
                let code = (v * inverse + ROUND).to_bits() as u8;
                out[16 * i + l] = code;
                sum += i16::from(code as i8);
            }
            out[SUMS + 2 * i..][..2].copy_from_slice(&sum.to_le_bytes());
            all += i32::from(sum);
        }
        let scaled = (scale * all as f32).to_le_bytes();
        out[SCALED_SUMS + 4 * block..][..4].copy_from_slice(&scaled);
    }
    out[SCALE..][..4].copy_from_slice(&scale.to_le_bytes());
}
