//! Layouts against vectors of an independent reader, conversions against arithmetic, quantisers
//! against the error they may make.

#[path = "util/random.rs"]
mod random;

use attar_kernels::{FORMATS, Format, Superblock, f16_to_f32, f32_to_f16};
use random::Random;

const NONE: usize = usize::MAX;

/// Format; where its f16 scale and f16 minimum lie; some weights; a hash of all of them.
type Vector = (Format, usize, usize, &'static [(usize, f32)], u64);

/// Made with the `gguf` Python package 0.19 (`gguf.quants.dequantize`) from the bytes of
/// [`vector_block`]. One of each kind is derived by hand in [`weights_by_hand`].
#[rustfmt::skip]
const VECTORS: [Vector; 10] = [
    (Format::Q8_0, 0, NONE, &[(0, 14.0), (1, 23.0), (17, 21.0), (31, -45.5)], 0x382c8fb2aee37584),
    (Format::Q4_0, 0, NONE, &[(0, 2.0), (1, 3.0), (17, -3.0), (31, 0.5)], 0x9bb3b9c873370f95),
    (Format::Q4_1, 0, 2, &[(0, 1.75), (1, 6.25), (17, 2.75), (31, 1.25)], 0x51dd6c0f02e22c0d),
    (Format::Q5_0, 0, NONE, &[(0, -3.5), (1, -3.5), (17, 4.5), (31, -2.0)], 0x6b2752f08b569f65),
    (Format::Q5_1, 0, 2, &[(0, 14.25), (1, 9.75), (17, 7.25), (31, 11.75)], 0xb3cd43b82cf145b2),
    (Format::Q2_K, 80, 82, &[(0, 2.0), (1, 1.0), (17, 6.5), (31, 19.5), (32, 5.75), (100, 2.75),
        (130, -2.75), (191, 5.25), (224, 2.25), (255, 6.75)], 0xefe62d57261a60a0),
    (Format::Q3_K, 108, NONE, &[(0, 22.0), (1, -11.0), (17, 10.5), (31, 31.5), (32, 4.0),
        (100, 30.0), (130, 0.0), (191, 0.0), (224, -19.5), (255, 0.0)], 0xf705db77afc4f107),
    (Format::Q4_K, 0, 2, &[(0, -6.0), (1, -1.5), (17, -7.5), (31, 7.5), (32, 61.25), (100, 47.5),
        (130, -9.5), (191, 12.5), (224, 233.75), (255, 292.25)], 0xf817843e3e95897c),
    (Format::Q5_K, 0, 2, &[(0, 6.0), (1, 10.5), (17, 28.5), (31, 19.5), (32, 313.25), (100, 35.0),
        (130, 106.5), (191, 120.5), (224, 292.25), (255, 506.75)], 0xbbd53835fb403b14),
    (Format::Q6_K, 208, NONE, &[(0, -14.0), (1, 21.0), (17, 346.5), (31, -940.5), (32, -836.0),
        (100, 369.0), (130, 840.0), (191, 66.0), (224, -1345.5), (255, -154.5)], 0xce9da22df9c1ba68),
];

/// Bytes without pattern, but a scale of 0.5 and a minimum of 0.25, so that every weight is exact.
fn vector_block(format: Format, scale_at: usize, min_at: usize) -> Vec<u8> {
    let mut block: Vec<u8> =
        (0..format.info().block_bytes).map(|i| ((i * i * 7 + i * 37 + 11) >> 2) as u8).collect();
    block[scale_at..scale_at + 2].copy_from_slice(&f32_to_f16(0.5));
    if min_at != NONE {
        block[min_at..min_at + 2].copy_from_slice(&f32_to_f16(0.25));
    }
    block
}

#[test]
fn layouts_match_vectors() {
    for (format, scale_at, min_at, samples, hash) in VECTORS {
        let block = vector_block(format, scale_at, min_at);
        let mut weights = vec![f32::NAN; format.info().block_len];
        format.info().dequantize(&block, &mut weights);
        for &(i, expected) in samples {
            assert_eq!(weights[i], expected, "{format:?} weight {i}");
        }
        // FNV-1a over the bytes; adding zero makes a negative zero positive.
        let bytes = weights.iter().flat_map(|w| (w + 0.0).to_le_bytes());
        let found = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        assert_eq!(found, hash, "{format:?}");
    }
}

/// A block of zeros but for `set`, dequantised.
fn weights_of(format: Format, set: &[(usize, u8)]) -> Vec<f32> {
    let mut block = vec![0; format.info().block_bytes];
    for &(i, byte) in set {
        block[i] = byte;
    }
    let mut weights = vec![0.0; format.info().block_len];
    format.info().dequantize(&block, &mut weights);
    weights
}

/// One bit field at a time. 0x3c00 is 1.0 in f16.
#[test]
fn weights_by_hand() {
    // Scale 1, byte 3 of the codes 0xa5: weight 3 is 5 - 8, weight 19 is 10 - 8.
    let w = weights_of(Format::Q4_0, &[(1, 0x3c), (5, 0xa5)]);
    assert_eq!((w[3], w[19], w[4]), (-3.0, 2.0, -8.0));
    // Scale 1, minimum 1.
    let w = weights_of(Format::Q4_1, &[(1, 0x3c), (3, 0x3c), (7, 0xa5)]);
    assert_eq!((w[3], w[19], w[4]), (6.0, 11.0, 1.0));
    // Bit 9 of the fifth bits, bit 3 of byte 1: weight 9 is 16 + 2 - 16.
    let w = weights_of(Format::Q5_0, &[(1, 0x3c), (3, 0x02), (15, 0x32)]);
    assert_eq!((w[9], w[25], w[8]), (2.0, -13.0, -16.0));
    let w = weights_of(Format::Q5_1, &[(1, 0x3c), (3, 0x3c), (7, 0x80), (23, 0x32)]);
    assert_eq!((w[15], w[31], w[8]), (3.0, 20.0, 1.0));
    // Group 9 (weights 144..160) has scale 3 and minimum 5; byte 32 + 16 holds weight 144 in bits 0
    // and 1 of plane 0 and weight 240 of group 15 in plane 3.
    let w = weights_of(Format::Q2_K, &[(9, 0x53), (81, 0x3c), (83, 0x3c), (16 + 48, 0x02)]);
    assert_eq!((w[144], w[145], w[143], w[240]), (1.0, -5.0, 0.0, 0.0));
    // All scales are 0 - 32 but group 5's: low nibble 1 in byte 5, upper bits 2 in bits 2..4 of byte
    // 9, so 33 - 32. Weight 80 is 3 in plane 2 of byte 16, its third bit is bit 2 of byte 16.
    let set = [(96 + 5, 0x01), (96 + 9, 0x08), (109, 0x3c), (32 + 16, 0x30), (16, 0x04)];
    let w = weights_of(Format::Q3_K, &set);
    assert_eq!((w[80], w[81], w[0]), (3.0, -4.0, 128.0));
    // Group 6: scale 0x2b (low 0xb in byte 10, upper 2 in byte 2), minimum 0x1c (0xc and 1 in byte 6).
    // Weight 192 is the low nibble of byte 96, weight 224 its high nibble.
    let set = [(1, 0x3c), (3, 0x3c), (4 + 2, 0x80), (4 + 6, 0x40), (4 + 10, 0xcb), (16 + 96, 0xf1)];
    let w = weights_of(Format::Q4_K, &set);
    assert_eq!((w[192], w[193], w[224], w[0]), (43.0 - 28.0, -28.0, 0.0, 0.0));
    // Group 1: scale 2, minimum 1. Weight 33 is the high nibble of byte 1, its fifth bit bit 1.
    let set = [(1, 0x3c), (3, 0x3c), (5, 2), (9, 1), (16 + 1, 0x02), (48 + 1, 0x30)];
    let w = weights_of(Format::Q5_K, &set);
    assert_eq!((w[33], w[34], w[1]), (37.0, -1.0, 0.0));
    // Group 6 (weights 96..112) has scale -1. Weight 97 is the high nibble of byte 33 and bits 6, 7
    // of high byte 1: 16 * 2 + 7 - 32.
    let set = [(209, 0x3c), (192 + 6, 0xff), (33, 0x70), (128 + 1, 0x80)];
    let w = weights_of(Format::Q6_K, &set);
    assert_eq!((w[97], w[98], w[0]), (-7.0, 32.0, 0.0));
    // The code byte is two's complement.
    let w = weights_of(Format::Q8_0, &[(1, 0x3c), (2, 0x80), (3, 0xff), (4, 0x7f)]);
    assert_eq!(w[..4], [-128.0, -1.0, 127.0, 0.0]);
}

#[test]
fn table_is_consistent() {
    for info in &FORMATS {
        assert_eq!(Format::from_gguf_id(info.gguf_id), Some(info.format));
        assert_eq!(Format::from_name(info.name), Some(info.format));
        assert_eq!(Format::from_name(&info.name.to_uppercase()), Some(info.format));
        assert_eq!(info.row_bytes(3 * info.block_len), 3 * info.block_bytes);
        assert_eq!(info.is_float(), info.group_len() == 1);
        assert_eq!(256 % info.block_len, 0);
    }
    assert_eq!(Format::from_gguf_id(u32::MAX), None);
    assert_eq!(Format::from_name("q4_k_m"), None);
}

#[test]
fn a_short_row_leaves_the_rest_of_a_superblock_empty() {
    for info in FORMATS.iter().filter(|info| info.block_len == 32) {
        let block = vec![0x31; 3 * info.block_bytes];
        let mut unpacked = Superblock { codes: [9; 256], scale: [9.0; 16], min: [9.0; 16] };
        info.unpack(&block, &mut unpacked);
        assert!(unpacked.codes[96..].iter().all(|code| *code == 0), "{}", info.name);
        assert!(unpacked.scale[..3].iter().all(|scale| *scale > 0.0), "{}", info.name);
        assert!(unpacked.scale[3..].iter().all(|scale| *scale == 0.0), "{}", info.name);
        assert!(unpacked.min[3..].iter().all(|min| *min == 0.0), "{}", info.name);
    }
}

#[test]
fn every_half_survives_a_round_trip() {
    for bits in 0..=u16::MAX {
        let wide = f16_to_f32(bits.to_le_bytes());
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
        let magnitude = match exponent {
            0 => fraction * 2f64.powi(-24),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
        };
        if magnitude.is_nan() {
            assert!(wide.is_nan() && f16_to_f32(f32_to_f16(wide)).is_nan());
        } else {
            assert_eq!(f64::from(wide.abs()), magnitude);
            assert_eq!(wide.is_sign_negative(), bits >> 15 == 1);
            assert_eq!(f32_to_f16(wide), bits.to_le_bytes());
        }
    }
}

/// The midpoint of two neighbours rounds to the even one, and its neighbours to either side.
#[test]
fn halves_round_to_nearest_even() {
    for bits in 0..0x7bff_u16 {
        let low = f16_to_f32(bits.to_le_bytes());
        let high = f16_to_f32((bits + 1).to_le_bytes());
        let middle = (low + high) / 2.0;
        let even = if bits % 2 == 0 { bits } else { bits + 1 };
        assert_eq!(f32_to_f16(middle), even.to_le_bytes());
        assert_eq!(f32_to_f16(middle.next_down()), bits.to_le_bytes());
        assert_eq!(f32_to_f16(middle.next_up()), (bits + 1).to_le_bytes());
        assert_eq!(f32_to_f16(-middle), (even | 0x8000).to_le_bytes());
    }
    assert_eq!(f32_to_f16(65519.996), 0x7bff_u16.to_le_bytes());
    assert_eq!(f32_to_f16(65520.0), 0x7c00_u16.to_le_bytes());
    assert_eq!(f32_to_f16(f32::MAX), 0x7c00_u16.to_le_bytes());
}

#[test]
fn bf16_rounds_to_nearest_even() {
    let mut random = Random(1);
    let inputs = (0..100_000).map(|_| f32::from_bits(random.bits() as u32));
    let special = [0x3f80_8000, 0x3f81_8000, 0x7f80_0000, 0xff80_0000, 0x7f80_0001, 0x8000_0000];
    for x in inputs.chain(special.map(f32::from_bits)) {
        let mut bytes = [0; 2];
        Format::BF16.info().quantize(&[x], &mut bytes);
        let mut y = [0.0];
        Format::BF16.info().dequantize(&bytes, &mut y);
        if x.is_nan() {
            assert!(y[0].is_nan());
            continue;
        }
        let down = f32::from_bits(x.to_bits() & 0xffff_0000);
        let up = f32::from_bits((x.to_bits() & 0xffff_0000).wrapping_add(0x1_0000));
        let rest = x.to_bits() & 0xffff;
        let odd = x.to_bits() >> 16 & 1 == 1;
        let expected = if rest > 0x8000 || rest == 0x8000 && odd { up } else { down };
        assert_eq!(y[0].to_bits(), expected.to_bits(), "{x:e}");
    }
}

fn round_trip(format: Format, x: &[f32]) -> Vec<f32> {
    let info = format.info();
    let mut bytes = vec![0; info.row_bytes(x.len())];
    info.quantize(x, &mut bytes);
    let mut y = vec![0.0; x.len()];
    info.dequantize(&bytes, &mut y);
    y
}

/// Root of the mean squared error over that of the mean square.
fn relative_error(x: &[f32], y: &[f32]) -> f64 {
    let square = |v: f64| v * v;
    let error: f64 = x.iter().zip(y).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    (error / x.iter().map(|v| square(f64::from(*v))).sum::<f64>()).sqrt()
}

/// A group of normal values spans some 4 to 5 standard deviations. `n` steps over it have an error of
/// the step over the square root of 12 each: 4.5 / (3.46 n). Twice that covers coarse scales.
#[test]
fn rounding_costs_what_the_bits_explain() {
    let steps = |format: Format| match format {
        Format::Q8_0 => 254.0,
        Format::Q6_K => 63.0,
        Format::Q5_0 | Format::Q5_1 | Format::Q5_K => 31.0,
        Format::Q4_0 | Format::Q4_1 | Format::Q4_K => 15.0,
        Format::Q3_K => 7.0,
        Format::Q2_K => 3.0,
        Format::F32 | Format::F16 | Format::BF16 => 256.0,
    };
    let mut random = Random(2);
    let x = random.gauss_vec(1 << 14);
    for info in &FORMATS {
        let error = relative_error(&x, &round_trip(info.format, &x));
        let bound = 2.0 * 4.5 / (12f64.sqrt() * steps(info.format));
        println!("{}: {error:.5}, at most {bound:.5}", info.name);
        assert!(error <= bound, "{}: {error}", info.name);
    }
}

/// K-quants look for better scales than the extremes of a group give. Each bound lies between the error
/// with that search and without: (0.274, 0.328), (0.1526, 0.1544), (0.0715, 0.0787), (0.0357, 0.0382),
/// (0.0178, 0.0188).
#[test]
fn the_search_for_scales_pays() {
    let x = Random(2).gauss_vec(1 << 14);
    for (format, bound) in [
        (Format::Q2_K, 0.285),
        (Format::Q3_K, 0.1535),
        (Format::Q4_K, 0.0745),
        (Format::Q5_K, 0.0368),
        (Format::Q6_K, 0.0182),
    ] {
        let error = relative_error(&x, &round_trip(format, &x));
        assert!(error < bound, "{format:?}: {error}");
    }
}

#[test]
fn hostile_weights_round_to_what_can_be_kept() {
    let mut random = Random(3);
    let normal = random.gauss_vec(512);
    for info in FORMATS.iter().filter(|info| !info.is_float()) {
        let same = |v: f32| round_trip(info.format, &[v; 512]);
        assert!(same(0.0).iter().all(|y| *y == 0.0), "{}", info.name);
        assert!(same(1e-38).iter().all(|y| y.abs() <= 1e-30), "{}", info.name);
        for v in [0.37, -0.37, 1000.0, -1000.0] {
            // Scales of 4 bits and f16 keep a constant only roughly.
            assert!(same(v).iter().all(|y| (y / v - 1.0).abs() < 0.08), "{}: {v}", info.name);
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = normal.clone();
            x[300] = bad;
            let y = round_trip(info.format, &x);
            assert!(y[300].is_nan(), "{}: {bad} became {}", info.name, y[300]);
        }
        let large: Vec<f32> = normal.iter().map(|v| v * 1e4).collect();
        let (a, b) = (round_trip(info.format, &normal), round_trip(info.format, &large));
        assert!(relative_error(&large, &b) < 1.1 * relative_error(&normal, &a), "{}", info.name);
    }
}

/// FNV-1a over the blocks that plain rounding makes of 4096 normal values, from the definition as it was
/// before rounding could be weighted: files do not change with the program.
const ROUNDED: [(Format, u64); 10] = [
    (Format::Q8_0, 0x2712410ce7382c61),
    (Format::Q4_0, 0x43dbebedd7c3b805),
    (Format::Q4_1, 0xf9c9821db3587a87),
    (Format::Q5_0, 0xf1cb15e056d65e9a),
    (Format::Q5_1, 0xc8f46f680e72ae8a),
    (Format::Q2_K, 0x9fcc96dec91de909),
    (Format::Q3_K, 0x1e1c50c857636a43),
    (Format::Q4_K, 0x12563d9d34ebef74),
    (Format::Q5_K, 0x9471ddfa6c64b85b),
    (Format::Q6_K, 0xe75cbfce9e0d1c4b),
];

#[test]
fn plain_rounding_stays_as_it_is() {
    let x = Random(5).gauss_vec(4096);
    for (format, want) in ROUNDED {
        let mut bytes = vec![0; format.info().row_bytes(x.len())];
        format.info().quantize(&x, &mut bytes);
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        assert_eq!(hash, want, "{format:?}: {hash:#018x}");
    }
}

fn weighted_error(x: &[f32], importance: &[f32], y: &[f32]) -> f64 {
    let errors = x.iter().zip(y).zip(importance);
    errors.map(|((a, b), h)| f64::from(*h) * (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Importances over orders of magnitude. Each bound is a little above the share of the plain error that is
/// left; no block gets worse.
#[test]
fn weighted_rounding_spends_its_codes_where_they_count() {
    let mut random = Random(7);
    let x = random.gauss_vec(1 << 14);
    let importance: Vec<f32> = random.gauss_vec(1 << 14).iter().map(|v| (2.0 * v).exp()).collect();
    for (format, bound) in [
        (Format::Q8_0, 0.65),
        (Format::Q4_0, 0.65),
        (Format::Q4_1, 0.42),
        (Format::Q5_0, 0.66),
        (Format::Q5_1, 0.43),
        (Format::Q2_K, 0.4),
        (Format::Q3_K, 0.6),
        (Format::Q4_K, 0.53),
        (Format::Q5_K, 0.55),
        (Format::Q6_K, 0.63),
    ] {
        let info = format.info();
        let mut bytes = vec![0; info.row_bytes(x.len())];
        info.quantize_weighted(&x, &importance, &mut bytes);
        let mut y = vec![0.0; x.len()];
        info.dequantize(&bytes, &mut y);
        let plain = round_trip(format, &x);
        let share = weighted_error(&x, &importance, &y) / weighted_error(&x, &importance, &plain);
        println!("{}: {share:.3} of the plain error, at most {bound}", info.name);
        assert!(share < bound, "{}: {share}", info.name);
        for at in (0..x.len()).step_by(info.block_len) {
            let block = at..at + info.block_len;
            let error = |y: &[f32]| {
                weighted_error(&x[block.clone()], &importance[block.clone()], &y[block.clone()])
            };
            assert!(error(&y) <= error(&plain) * 1.0001, "{} at {at}", info.name);
        }
    }
}

#[test]
fn importance_without_meaning_changes_nothing() {
    let x = Random(8).gauss_vec(512);
    for info in &FORMATS {
        let mut plain = vec![0; info.row_bytes(512)];
        info.quantize(&x, &mut plain);
        for bad in [0.0, f32::NAN, f32::INFINITY] {
            let mut bytes = plain.clone();
            info.quantize_weighted(&x, &[bad; 512], &mut bytes);
            assert_eq!(bytes, plain, "{}: {bad}", info.name);
        }
    }
    // Weights that are not finite still show.
    let mut x = x;
    x[300] = f32::NAN;
    for info in FORMATS.iter().filter(|info| !info.is_float()) {
        let mut bytes = vec![0; info.row_bytes(512)];
        info.quantize_weighted(&x, &[1.0; 512], &mut bytes);
        let mut y = vec![0.0; 512];
        info.dequantize(&bytes, &mut y);
        assert!(y[300].is_nan(), "{}", info.name);
    }
}
