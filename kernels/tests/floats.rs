//! Norms, softmax, gates and weighted sums: every instruction set against the scalar definition,
//! bit for bit, and the definition against double precision.

#[path = "util/cases.rs"]
mod cases;
#[path = "util/random.rs"]
mod random;

use attar_kernels::{Format, Isa, available, tree};
use cases::{Fill, Framed, HOSTILE, assert_same, hostile_activations, scalar, weights};
use random::Random;

/// Half a unit in the last place of 1.
const EPSILON: f64 = 1.0 / (1u64 << 24) as f64;
const LENGTHS: [usize; 14] = [1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 100, 128, 896, 2048];

/// Roundings in a sum of `len` terms over lanes, and a few more around it.
fn sum_steps(len: usize) -> f64 {
    (len.div_ceil(16) + 4 + 8) as f64
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

/// Fails where `found` is further from `expected` than its bound.
fn assert_near(found: &[f32], expected: &[(f64, f64)], what: &str) {
    for (i, (found, (expected, bound))) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= *bound, "{what} [{i}]: {found:e} {expected:e}: {error:e} > {bound:e}");
    }
}

type Norm = fn(&Isa, &mut [f32], Option<&[f32]>, f32);

const NORMS: [Norm; 2] = [Isa::rms_norm, Isa::layer_norm];

/// What `run` makes of `x` with the scalar kernels; fails where another instruction set gives other bits.
fn same_on_all(x: &[f32], run: &dyn Fn(&Isa, &mut [f32]), what: &str) -> Vec<f32> {
    let mut expected = x.to_vec();
    run(scalar(), &mut expected);
    for isa in available() {
        let mut found = x.to_vec();
        run(isa, &mut found);
        assert_same(&found, &expected, &|| format!("{} {what}", isa.name()));
    }
    expected
}

#[test]
fn norms_are_bit_equal() {
    let mut random = Random(11);
    for len in LENGTHS {
        let mut inputs = hostile_activations(len, &mut random);
        inputs.extend((0..4).map(|_| random.gauss_vec(len)));
        let weight = random.gauss_vec(len);
        for (n, x) in inputs.iter().enumerate() {
            for (norm, weight) in
                NORMS.iter().flat_map(|norm| [(norm, None), (norm, Some(weight.as_slice()))])
            {
                let run = |isa: &Isa, x: &mut [f32]| norm(isa, x, weight, 1e-5);
                same_on_all(x, &run, &format!("{len} input {n}"));
            }
        }
    }
}

#[test]
fn rms_norm_is_near_double_precision() {
    let mut random = Random(12);
    for len in LENGTHS {
        let (x, weight) = (random.gauss_vec(len), random.gauss_vec(len));
        let mut found = x.clone();
        scalar().rms_norm(&mut found, Some(&weight), 1e-5);
        let square: f64 = wide(&x).iter().map(|x| x * x).sum();
        let scale = 1.0 / (square / len as f64 + f64::from(1e-5f32)).sqrt();
        let expected: Vec<_> = wide(&x)
            .iter()
            .zip(wide(&weight))
            .map(|(x, w)| (x * scale * w, sum_steps(len) * EPSILON * (x * scale * w).abs()))
            .collect();
        assert_near(&found, &expected, "rms_norm");
    }
}

#[test]
fn layer_norm_is_near_double_precision() {
    let mut random = Random(13);
    for len in LENGTHS {
        let x: Vec<f32> = random.gauss_vec(len).iter().map(|x| x + 1.5).collect();
        let weight = random.gauss_vec(len);
        let mut found = x.clone();
        scalar().layer_norm(&mut found, Some(&weight), 1e-3);
        let (x, count) = (wide(&x), len as f64);
        let (mean, size) =
            (x.iter().sum::<f64>() / count, x.iter().map(|x| x.abs()).sum::<f64>() / count);
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        let scale = 1.0 / (variance + f64::from(1e-3f32)).sqrt();
        // The error of the mean moves every difference; the differences' moves the variance.
        let step = sum_steps(len) * EPSILON * scale;
        let expected: Vec<_> = x
            .iter()
            .zip(wide(&weight))
            .map(|(x, w)| {
                let bound = step * (size + 2.0 * (x - mean).abs()) * w.abs();
                ((x - mean) * scale * w, bound)
            })
            .collect();
        assert_near(&found, &expected, "layer_norm");
    }
}

#[test]
fn softmax_is_bit_equal_and_near_double_precision() {
    let mut random = Random(14);
    for len in LENGTHS {
        let mut inputs = hostile_activations(len, &mut random);
        inputs.extend((0..4).map(|_| random.gauss_vec(len).iter().map(|x| x * 20.0).collect()));
        inputs.push(vec![f32::NEG_INFINITY; len]);
        for (n, x) in inputs.iter().enumerate() {
            let expected = same_on_all(x, &|isa, x| isa.softmax(x), &format!("{len} input {n}"));
            // Where no value is finite the result is NaN; that is compared above.
            if x.iter().all(|x| x.is_finite()) {
                assert_near(&expected, &softmax_f64(x), "softmax");
            }
        }
    }
}

fn softmax_f64(x: &[f32]) -> Vec<(f64, f64)> {
    let (x, len) = (wide(x), x.len());
    let max = x.iter().fold(f64::NEG_INFINITY, |max, x| max.max(*x));
    let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
    // Rounding the argument of the exponential moves the value by as much, relatively, and so each
    // term of the sum; the exponential itself is good to 4 epsilon; below e^-87.3 there is only zero.
    let spread = x.iter().map(|x| (max - x) * (x - max).exp()).sum::<f64>() / sum;
    x.iter()
        .map(|x| {
            let y = (x - max).exp() / sum;
            let steps = sum_steps(len) + 8.0 + (max - x) + spread;
            (y, steps * EPSILON * y + (-87.3f64).exp())
        })
        .collect()
}

#[test]
fn gelu_is_bit_equal_and_near_double_precision() {
    let mut random = Random(16);
    for len in LENGTHS {
        let mut inputs = hostile_activations(len, &mut random);
        inputs.extend((0..4).map(|_| random.gauss_vec(len).iter().map(|x| x * 4.0).collect()));
        for (n, x) in inputs.iter().enumerate() {
            let expected = same_on_all(x, &|isa, x| isa.gelu(x), &format!("{len} input {n}"));
            if x.iter().all(|x| x.abs() < 1e12) {
                let reference: Vec<_> = wide(x)
                    .iter()
                    .map(|x| {
                        let root = (2.0 / std::f64::consts::PI).sqrt();
                        let inner = 2.0 * root * (x + 0.044715 * x * x * x);
                        // One and a tangent near -1 would leave nothing to compare with.
                        let y = x / (1.0 + (-inner).exp());
                        // The argument is rounded six times, and the value moves with it; no exponential
                        // is beyond e^88.3.
                        let steps = 10.0 + 6.0 * inner.abs();
                        (y, steps * EPSILON * y.abs() + 5e-39 * x.abs() + 1e-45)
                    })
                    .collect();
                assert_near(&expected, &reference, "gelu");
            }
        }
    }
}

#[test]
fn swiglu_is_bit_equal_and_near_double_precision() {
    let mut random = Random(15);
    for len in LENGTHS {
        let mut inputs = hostile_activations(len, &mut random);
        inputs.extend((0..4).map(|_| random.gauss_vec(len).iter().map(|x| x * 20.0).collect()));
        for (n, gate) in inputs.iter().enumerate() {
            let up = random.gauss_vec(len);
            let run = |isa: &Isa, gate: &mut [f32]| isa.swiglu(gate, &up);
            let expected = same_on_all(gate, &run, &format!("{len} input {n}"));
            if gate.iter().all(|x| x.abs() < 1e30) {
                let reference: Vec<_> = wide(gate)
                    .iter()
                    .zip(wide(&up))
                    .map(|(g, u)| {
                        let y = g / (1.0 + (-g).exp()) * u;
                        (y, 10.0 * EPSILON * y.abs() + 1e-35)
                    })
                    .collect();
                assert_near(&expected, &reference, "swiglu");
            }
        }
    }
}

/// What keys and values may be encoded in.
const CACHES: [Format; 3] = [Format::F32, Format::F16, Format::Q8_0];

/// Of `widths`, those that are whole blocks.
fn widths(format: Format, widths: &[usize]) -> impl Iterator<Item = usize> {
    let block_len = format.info().block_len;
    widths.iter().copied().filter(move |width| width.is_multiple_of(block_len))
}

#[test]
fn weighted_sum_is_bit_equal_and_near_double_precision() {
    let mut random = Random(16);
    for format in CACHES {
        for width in widths(format, &[1, 2, 7, 8, 16, 17, 33, 64, 80, 96, 100, 128, 160]) {
            for count in [0, 1, 2, 3, 7, 64, 65] {
                for cols in [1, 2, 3, 4, 5, 8] {
                    let rows = weights(format, count, width, Fill::Plain, &mut random);
                    let factors = random.gauss_vec(cols * count);
                    let expected = check_weighted_sum(format, &rows, &factors, width, cols);
                    let mut values = vec![0.0; count * width];
                    format.info().dequantize(&rows, &mut values);
                    let reference: Vec<_> = (0..cols * width)
                        .map(|i| column_f64(&values, &factors, i / width * count, i % width, width))
                        .collect();
                    assert_near(&expected, &reference, "weighted_sum");
                }
            }
        }
    }
}

/// Column `d` of `rows` weighted by the factors from `first` on, and its error bound.
fn column_f64(rows: &[f32], factors: &[f32], first: usize, d: usize, width: usize) -> (f64, f64) {
    let count = rows.len() / width;
    let terms = (0..count).map(|t| f64::from(factors[first + t]) * f64::from(rows[t * width + d]));
    let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
    (sum, (count + 1) as f64 * EPSILON * size * 1.001)
}

fn check_weighted_sum(
    format: Format,
    rows: &[u8],
    factors: &[f32],
    width: usize,
    cols: usize,
) -> Vec<f32> {
    let mut expected = vec![f32::NAN; cols * width];
    scalar().weighted_sum(format, &mut expected, rows, factors, cols);
    for isa in available() {
        let mut out = vec![7.0; cols * width + 32];
        let found = &mut out[16..16 + cols * width];
        isa.weighted_sum(format, found, Framed::new(rows).get(), factors, cols);
        assert_same(found, &expected, &|| format!("{} {format:?} {width} {cols}", isa.name()));
        assert!(out[..16].iter().chain(&out[16 + cols * width..]).all(|x| *x == 7.0));
    }
    expected
}

#[test]
fn weighted_sum_is_bit_equal_on_hostile_input() {
    let mut random = Random(17);
    for format in CACHES {
        for width in widths(format, &[7, 64, 96, 100]) {
            for fill in HOSTILE {
                let rows = weights(format, 9, width, fill, &mut random);
                for factors in hostile_activations(9, &mut random) {
                    check_weighted_sum(format, &rows, &factors, width, 1);
                    check_weighted_sum(format, &rows, &factors.repeat(3), width, 3);
                }
            }
        }
    }
}

/// The summation order is part of the contract: with these values every other order differs.
#[test]
fn tree_adds_halves() {
    let (a, b, c, d) = (1e8, 1.0, -1e8, 3.0);
    assert_eq!(tree([a, b, c, d]), (a + c) + (b + d));
    assert_ne!(tree([a, b, c, d]), (a + b) + (c + d));
    assert_eq!(tree([0.5f32]), 0.5);
}
