//! Rounding where it is known how much the error of each weight counts.

use super::search::{best_scale, best_scale_and_min};
use super::{
    Format, FormatInfo, extreme, f16_to_f32, f32_to_f16, k_quants, q4_0, q4_1, q5_0, q5_1, q8_0,
};
use crate::SUPERBLOCK;

/// The least that an error counts, as a share of the block's most: what samples never showed is not
/// worth nothing.
const FLOOR: f32 = 1e-4;

/// Replaces the blocks of plain rounding that a search leaves with a smaller error.
pub(super) fn improve(info: &FormatInfo, src: &[f32], importance: &[f32], dst: &mut [u8]) {
    let (len, bytes) = (info.block_len, info.block_bytes);
    let blocks = src.chunks_exact(len).zip(importance.chunks_exact(len));
    for ((x, importance), block) in blocks.zip(dst.chunks_exact_mut(bytes)) {
        let most = extreme(importance);
        if extreme(x).is_nan() || most.is_nan() || most <= 0.0 {
            continue;
        }
        let mut counts = [0.0; SUPERBLOCK];
        for (count, importance) in counts.iter_mut().zip(importance) {
            *count = (importance / most).max(FLOOR);
        }
        let counts = &counts[..len];
        let mut found = [0; SUPERBLOCK];
        let found = &mut found[..bytes];
        round(info.format, x, counts, found);
        if error(info, x, counts, found) < error(info, x, counts, block) {
            block.copy_from_slice(found);
        }
    }
}

/// Rounds one block.
fn round(format: Format, x: &[f32], counts: &[f32], block: &mut [u8]) {
    let all = Some(counts);
    // The formats of 32 weights, whose scales are kept in 16 bits.
    let kept = |v: f32| f16_to_f32(f32_to_f16(v));
    let scale = |half: i32| kept(best_scale(x, half, all));
    let scale_and_min = |top: u8| {
        let (scale, min) = best_scale_and_min(x, top, all, true);
        (kept(scale), kept(-min))
    };
    let short = x.first_chunk().unwrap_or(&[0.0; 32]);
    match format {
        Format::F32 | Format::F16 | Format::BF16 => {} // no scales
        Format::Q8_0 => q8_0::pack(short, scale(128), block),
        Format::Q4_0 => q4_0::pack(short, scale(8), block),
        Format::Q5_0 => q5_0::pack(short, scale(16), block),
        Format::Q4_1 => {
            let (scale, min) = scale_and_min(15);
            q4_1::pack(short, scale, min, block);
        }
        Format::Q5_1 => {
            let (scale, min) = scale_and_min(31);
            q5_1::pack(short, scale, min, block);
        }
        Format::Q2_K => k_quants::quantize::q2_k(x, all, block),
        Format::Q3_K => k_quants::quantize::q3_k(x, all, block),
        Format::Q4_K => k_quants::quantize::q4_k(x, all, block),
        Format::Q5_K => k_quants::quantize::q5_k(x, all, block),
        Format::Q6_K => k_quants::quantize::q6_k(x, all, block),
    }
}

/// Sum of the squared errors of a block, each times what it counts; NaN where it is no number.
fn error(info: &FormatInfo, x: &[f32], counts: &[f32], block: &[u8]) -> f64 {
    let mut kept = [0.0; SUPERBLOCK];
    let kept = &mut kept[..x.len()];
    info.dequantize(block, kept);
    let errors = x.iter().zip(kept).zip(counts).map(|((x, kept), count)| {
        let miss = f64::from(*x) - f64::from(*kept);
        miss * miss * f64::from(*count)
    });
    errors.sum()
}
