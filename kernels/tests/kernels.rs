//! Every instruction set against the scalar definition, bit for bit, and the definition against
//! double precision.

#[path = "util/cases.rs"]
mod cases;
#[path = "util/random.rs"]
mod random;

use attar_kernels::{
    ACTIVATION_BYTES, FORMATS, Format, FormatInfo, Isa, PanelArgs, SUPERBLOCK, Superblock,
    activation_bytes, available,
};
use cases::{
    Fill, Framed, HOSTILE, assert_same, column, hostile_activations, lengths, same, scalar, weights,
};
use random::Random;

/// Half a unit in the last place of 1.
const EPSILON: f64 = 1.0 / (1u64 << 24) as f64;

/// One row by one column.
fn dot(isa: &Isa, format: Format, w: &[u8], x: &[u8]) -> f32 {
    let mut out = [f32::NAN];
    isa.matvec(format, w, x, &mut out);
    out[0]
}

/// Dot product in double precision and the sum of the magnitudes that went into it.
fn dot_f64(info: &FormatInfo, w: &[u8], x: &[u8]) -> (f64, f64) {
    let len = w.len() / info.block_bytes * info.block_len;
    if info.is_float() {
        let mut weights = vec![0.0; len];
        info.dequantize(w, &mut weights);
        let x = x.chunks_exact(4).map(|x| f64::from(f32::from_le_bytes(x.try_into().unwrap())));
        return weights
            .iter()
            .zip(x)
            .map(|(w, x)| f64::from(*w) * x)
            .fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
    }
    let (mut sum, mut size) = (0.0, 0.0);
    let mut block = Superblock::ZERO;
    for (w, x) in w.chunks(info.superblock_bytes()).zip(x.chunks_exact(ACTIVATION_BYTES)) {
        info.unpack(w, &mut block);
        let scale = f64::from(f32::from_le_bytes(x[288..292].try_into().unwrap()));
        for (i, x) in x[..SUPERBLOCK].iter().enumerate() {
            let group = i / info.group_len();
            let code = f64::from(i32::from(block.codes[i]) - info.offset());
            let x = scale * f64::from(*x as i8);
            let (high, low) = (f64::from(block.scale[group]) * code, f64::from(block.min[group]));
            sum += (high - low) * x;
            size += (high.abs() + low.abs()) * x.abs();
        }
    }
    (sum, size)
}

/// Each of a lane's terms is rounded twice as it is made and once as it is added, a minimum's as
/// often; then come the tree and, where products underflow, an absolute error.
fn dot_bound(info: &FormatInfo, len: usize, size: f64) -> f64 {
    let steps = match info.is_float() {
        true => len.div_ceil(16) + 1 + 4,
        false => 2 * len.div_ceil(SUPERBLOCK) * (32 / info.group_len()) + 3 + 3,
    };
    steps as f64 * EPSILON * size * 1.001 + len as f64 * f64::from(f32::from_bits(1)) * 256.0
}

#[test]
fn scalar_dot_is_within_rounding_of_double_precision() {
    let mut random = Random(2);
    for info in &FORMATS {
        for &len in lengths(info.format) {
            let w = weights(info.format, 1, len, Fill::Plain, &mut random);
            let x = column(info.format, &random.gauss_vec(len));
            let found = f64::from(dot(scalar(), info.format, &w, &x));
            let (expected, size) = dot_f64(info, &w, &x);
            let error = (found - expected).abs();
            let bound = dot_bound(info, len, size);
            assert!(error <= bound, "{} {len}: {found} {expected} {error:e}", info.name);
        }
    }
}

#[test]
fn matvec_is_a_dot_product_a_row() {
    let mut random = Random(7);
    for isa in available() {
        for info in &FORMATS {
            for &len in lengths(info.format) {
                let w = weights(info.format, 19, len, Fill::Plain, &mut random);
                let x = column(info.format, &random.gauss_vec(len));
                let rows = w.chunks_exact(info.row_bytes(len));
                let expected: Vec<f32> = rows.map(|w| dot(scalar(), info.format, w, &x)).collect();
                let mut found = [f32::NAN; 19];
                isa.matvec(info.format, &w, &x, &mut found);
                assert_same(&found, &expected, &|| format!("{} {} {len}", isa.name(), info.name));
            }
        }
    }
}

fn check_dot(isa: &Isa, format: Format, w: &[u8], x: &[u8], what: &dyn Fn() -> String) {
    let expected = dot(scalar(), format, w, x);
    let found = dot(isa, format, Framed::new(w).get(), Framed::new(x).get());
    assert!(
        same(found, expected),
        "{} {format:?} {}: found {found:e}, expected {expected:e}",
        isa.name(),
        what()
    );
}

#[test]
fn dot_is_bit_equal() {
    let mut random = Random(3);
    for isa in available() {
        for info in &FORMATS {
            for &len in lengths(info.format) {
                for round in 0..3 {
                    let w = weights(info.format, 1, len, Fill::Plain, &mut random);
                    let x = column(info.format, &random.gauss_vec(len));
                    check_dot(isa, info.format, &w, &x, &|| format!("{len} round {round}"));
                }
            }
        }
    }
}

#[test]
fn dot_is_bit_equal_on_hostile_input() {
    let mut random = Random(4);
    for isa in available() {
        for info in &FORMATS {
            for len in [lengths(info.format)[0], lengths(info.format)[4]] {
                let activations = hostile_activations(len, &mut random);
                for fill in HOSTILE.into_iter().chain([Fill::Plain, Fill::Bits, Fill::Bits]) {
                    let w = weights(info.format, 1, len, fill, &mut random);
                    for (i, x) in activations.iter().enumerate() {
                        let x = column(info.format, x);
                        check_dot(isa, info.format, &w, &x, &|| format!("{len} {fill:?} x{i}"));
                    }
                }
            }
        }
    }
}

/// A value that is not finite must reach the result instead of vanishing.
#[test]
fn damage_shows() {
    for isa in available() {
        for info in FORMATS.iter().filter(|info| !info.is_float()) {
            let w = weights(info.format, 1, 256, Fill::Plain, &mut Random(5));
            let mut x = vec![1.0; 256];
            x[200] = f32::INFINITY;
            let mut bytes = vec![0; activation_bytes(256)];
            isa.quantize(&x, &mut bytes);
            assert!(dot(isa, info.format, &w, &bytes).is_nan(), "{} {}", isa.name(), info.name);
        }
    }
}

/// `cols` columns as a panel reads them.
fn packed(isa: &Isa, format: Format, len: usize, columns: &[Vec<u8>]) -> Vec<u8> {
    if format.info().is_float() {
        return columns.concat();
    }
    let each = Isa::packed_bytes(format, len);
    let mut bytes = vec![0xa5; each * columns.len()];
    for (x, out) in columns.iter().zip(bytes.chunks_exact_mut(each)) {
        isa.pack(format, x, out);
    }
    bytes
}

/// Runs one panel and compares it with as many dot products.
fn check_panel(isa: &Isa, format: Format, rows: usize, len: usize, w: &[u8], columns: &[Vec<u8>]) {
    let (cols, row_bytes) = (columns.len(), format.info().row_bytes(len));
    let x = packed(isa, format, len, columns);
    let mut out = vec![f32::NAN; rows * cols + 32];
    let (frame, rest) = out.split_at_mut(16);
    let (out, frame_after) = rest.split_at_mut(rows * cols);
    frame.fill(7.0);
    frame_after.fill(7.0);
    isa.panel(PanelArgs {
        format,
        w: Framed::new(w).get(),
        rows,
        len,
        x: Framed::new(&x).get(),
        cols,
        out,
        scratch: &mut vec![0xa5; Isa::panel_scratch_bytes(len)],
    });
    assert!(frame.iter().chain(frame_after.iter()).all(|x| *x == 7.0), "wrote outside");
    for (c, (found, column)) in out.chunks_exact(rows).zip(columns).enumerate() {
        let rows = w.chunks_exact(row_bytes);
        let expected: Vec<f32> = rows.map(|w| dot(scalar(), format, w, column)).collect();
        assert_same(found, &expected, &|| {
            format!("{} {format:?} {} rows {len} col {c} of {cols}", isa.name(), expected.len())
        });
    }
}

const PANEL_ROWS: [usize; 9] = [1, 2, 3, 4, 5, 8, 16, 63, 64];
const PANEL_COLS: [usize; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 33];

#[test]
fn panel_is_bit_equal_to_dot() {
    let mut random = Random(6);
    for isa in available() {
        for info in &FORMATS {
            let lengths: &[usize] = match info.block_len {
                1 => &[1, 17, 64, 100],
                32 => &[32, 288, 512],
                _ => &[256, 768],
            };
            for &len in lengths {
                let w = weights(info.format, 64, len, Fill::Plain, &mut random);
                let columns: Vec<_> =
                    (0..33).map(|_| column(info.format, &random.gauss_vec(len))).collect();
                for rows in PANEL_ROWS {
                    for cols in PANEL_COLS {
                        let w = &w[..info.row_bytes(len) * rows];
                        check_panel(isa, info.format, rows, len, w, &columns[..cols]);
                    }
                }
            }
        }
    }
}

#[test]
fn panel_is_bit_equal_on_long_rows() {
    let mut random = Random(7);
    for isa in available() {
        for info in &FORMATS {
            for len in [2048, 8192] {
                let rows = Isa::panel_rows(len);
                let w = weights(info.format, rows, len, Fill::Plain, &mut random);
                let columns: Vec<_> =
                    (0..7).map(|_| column(info.format, &random.gauss_vec(len))).collect();
                check_panel(isa, info.format, rows, len, &w, &columns);
            }
        }
    }
}

#[test]
fn panel_is_bit_equal_on_hostile_input() {
    let mut random = Random(8);
    for isa in available() {
        for info in &FORMATS {
            let len = lengths(info.format)[4];
            let activations = hostile_activations(len, &mut random);
            let columns: Vec<_> = activations.iter().map(|x| column(info.format, x)).collect();
            for fill in HOSTILE {
                let w = weights(info.format, 21, len, fill, &mut random);
                check_panel(isa, info.format, 21, len, &w, &columns);
            }
        }
    }
}

/// A panel of no columns writes nothing.
#[test]
fn an_empty_panel_is_no_work() {
    for isa in available() {
        for info in &FORMATS {
            let w = weights(info.format, 4, 256, Fill::Plain, &mut Random(9));
            check_panel(isa, info.format, 4, 256, &w, &[]);
        }
    }
}

#[test]
fn quantize_is_bit_equal_and_rounds_to_nearest() {
    let mut random = Random(10);
    for len in [1, 7, 16, 17, 32, 100, 255, 256, 257, 512, 1000, 2048] {
        let mut inputs = hostile_activations(len, &mut random);
        inputs.extend((0..4).map(|_| random.gauss_vec(len)));
        inputs.push((0..len).map(|i| i as f32 - 127.0).collect());
        for (n, x) in inputs.iter().enumerate() {
            let mut expected = vec![0xa5; activation_bytes(len)];
            scalar().quantize(x, &mut expected);
            check_quantized(x, &expected);
            for isa in available() {
                let mut found = vec![0x5a; activation_bytes(len)];
                isa.quantize(x, &mut found);
                assert!(found == expected, "{} length {len} input {n}", isa.name());
            }
        }
    }
}

fn check_quantized(x: &[f32], bytes: &[u8]) {
    for (x, block) in x.chunks(SUPERBLOCK).zip(bytes.chunks_exact(ACTIVATION_BYTES)) {
        let scale = f32::from_le_bytes(block[288..292].try_into().unwrap());
        let codes: Vec<i32> = block[..SUPERBLOCK].iter().map(|b| i32::from(*b as i8)).collect();
        assert!(codes.iter().all(|code| code.abs() <= 127));
        for (codes, sum) in codes.chunks_exact(16).zip(block[256..288].chunks_exact(2)) {
            let sum = i16::from_le_bytes(sum.try_into().unwrap());
            assert_eq!(i32::from(sum), codes.iter().sum::<i32>());
        }
        assert!(codes[x.len()..].iter().all(|code| *code == 0));
        for (codes, scaled) in codes.chunks_exact(32).zip(block[320..352].chunks_exact(4)) {
            let scaled = f32::from_le_bytes(scaled.try_into().unwrap());
            let expected = scale * codes.iter().sum::<i32>() as f32;
            assert!(scaled == expected || scaled.is_nan() && expected.is_nan());
        }
        assert!(block[292..320].iter().chain(&block[352..]).all(|byte| *byte == 0));
        let max = x.iter().fold(0f32, |max, x| max.max(x.abs()));
        if x.iter().any(|x| !x.is_finite()) {
            assert!(scale.is_nan());
        } else if max < 1e-36 {
            assert_eq!(scale, 0.0);
        } else {
            assert_eq!(scale, max / 127.0);
            // A subnormal scale is itself rounded: that moves a code by one in its 2^23 parts.
            let slack = 127.0 * f64::from(f32::from_bits(1)) + f64::from(max) * 4.0 * EPSILON;
            for (x, code) in x.iter().zip(&codes) {
                let error = (f64::from(*x) - f64::from(scale) * f64::from(*code)).abs();
                assert!(error <= 0.5 * f64::from(scale) + slack, "{x:e} {code} {scale:e}");
            }
        }
    }
}
