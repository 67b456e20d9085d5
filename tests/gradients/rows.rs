//! Products, norms, activations, rotations and attention.

use crate::definitions::{Heads, attention, normalize, product, sigmoid};
use crate::kit::{Case, tensors};
use crate::random::Random;
use attar::Format;
use attar::backend::{Backend, CacheShape, NormKind, NormShape, Pairing, RotaryShape, Row, View};
use attar::train::{Tape, TapeOptions};

fn case<'a>(what: &str, inputs: &'a [[usize; 2]], weights: &'a [[usize; 2]]) -> Case<'a> {
    Case {
        what: what.to_owned(),
        inputs,
        weights,
        experts: 1,
        run: &|_, views, _| views[0],
        definition: &|inputs, _| inputs[0].clone(),
    }
}

fn zip(x: &[f64], y: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| f(*x, *y)).collect()
}

fn buffer(tape: &mut Tape, rows: usize, width: usize) -> View {
    let whole = tape.buffer(rows + 1, width + 2).expect("memory");
    View { row: 1, rows, column: 1, width, ..whole }
}

#[test]
fn products() {
    for (rows, cols, out) in [(1, 5, 3), (7, 33, 20), (70, 3, 2)] {
        Case {
            run: &move |tape, x, w| {
                let y = buffer(tape, rows, out);
                tape.matmul(y, w[0], x[0]);
                y
            },
            definition: &move |x, w| product(&w[0], &x[0], cols),
            ..case(&format!("product {rows} {cols} {out}"), &[[rows, cols]], &[[out, cols]])
        }
        .check();
    }
}

/// What a matrix reads more than once, in place and by parts, is kept once and right.
#[test]
fn reused_buffers_and_parts_of_views() {
    Case {
        run: &|tape, x, w| {
            let y = buffer(tape, 4, 6);
            tape.matmul(y, w[0], x[0]);
            tape.add(x[0], y);
            tape.matmul(y, w[0], x[0]);
            tape.scale(y.columns(2), 3.0);
            tape.copy(y.rows_at(1, 2), x[0].rows_at(0, 2));
            y
        },
        definition: &|x, w| {
            let y = product(&w[0], &x[0], 6);
            let x = zip(&x[0], &y, |x, y| x + y);
            let mut y = product(&w[0], &x, 6);
            y.chunks_exact_mut(6).for_each(|row| row[..2].iter_mut().for_each(|y| *y *= 3.0));
            y[6..18].copy_from_slice(&x[..12]);
            y
        },
        ..case("a buffer used again", &[[4, 6]], &[[6, 6]])
    }
    .check();
}

#[test]
fn sums_and_factors() {
    let (shape, gate) = ([5, 9], [5, 1]);
    Case {
        run: &|tape, x, w| {
            tape.add(x[0], x[1]);
            tape.add_bias(x[0], w[0]);
            tape.scale(x[0], -1.7);
            x[0]
        },
        definition: &|x, w| {
            let sum = zip(&x[0], &x[1], |x, y| x + y);
            sum.iter().enumerate().map(|(i, y)| -1.7 * (y + w[0][i % 9])).collect()
        },
        ..case("add, bias, scale", &[shape, shape], &[[1, 9]])
    }
    .check();
    Case {
        run: &|tape, x, _| {
            tape.scale_rows(x[0], x[1]);
            x[0]
        },
        definition: &|x, _| {
            x[0].iter().enumerate().map(|(i, v)| v * sigmoid(x[1][i / 9])).collect()
        },
        ..case("scale_rows", &[shape, gate], &[])
    }
    .check();
    Case {
        run: &|tape, x, _| {
            tape.gelu(x[0]);
            x[0]
        },
        definition: &|x, _| {
            let inner = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x[0].iter().map(|x| 0.5 * x * (1.0 + inner(*x).tanh())).collect()
        },
        ..case("gelu", &[shape], &[])
    }
    .check();
    Case {
        run: &|tape, x, _| {
            tape.swiglu(x[0], x[1]);
            x[0]
        },
        definition: &|x, _| zip(&x[0], &x[1], |g, u| g * sigmoid(g) * u),
        ..case("swiglu", &[shape, shape], &[])
    }
    .check();
}

#[test]
fn norms() {
    for (kind, about_mean) in [(NormKind::Rms, false), (NormKind::Layer, true)] {
        for (groups, in_place) in [(1, false), (1, true), (3, true), (3, false)] {
            Case {
                run: &move |tape, x, w| {
                    let y = if in_place { x[0] } else { buffer(tape, 4, groups * 11) };
                    let shape = NormShape { kind, weight: Some(w[0]), eps: 1e-3 };
                    tape.norm(y, x[0], shape, 11);
                    y
                },
                definition: &move |x, w| {
                    let groups = x[0].chunks_exact(11);
                    let normal = |x| zip(&normalize(x, about_mean, 1e-3), &w[0], |x, w| x * w);
                    groups.flat_map(normal).collect()
                },
                ..case(&format!("norm {kind:?} {groups}"), &[[4, groups * 11]], &[[1, 11]])
            }
            .check();
        }
    }
}

#[test]
fn embeddings() {
    let ids = [3u32, 0, 3, 6];
    Case {
        run: &move |tape, _, w| {
            let y = buffer(tape, 4, 5);
            tape.embed(y, w[0], &ids);
            y
        },
        definition: &move |_, w| {
            ids.iter().flat_map(|id| w[0][*id as usize * 5..][..5].to_vec()).collect()
        },
        ..case("embed", &[], &[[7, 5]])
    }
    .check();
}

#[test]
fn rotations() {
    let frequencies = [1.0, 0.3, 0.01];
    let rows = [0, 5, 1, 77].map(|position| Row { sequence: 0, position });
    for pairing in [Pairing::Adjacent, Pairing::Halves] {
        Case {
            run: &move |tape, x, _| {
                let frequencies = frequencies.to_vec();
                let shape = RotaryShape { frequencies, magnitude: 1.25, pairing };
                let rotary = tape.rotary(shape).expect("memory");
                tape.rope(x[0], 2, rotary, &rows);
                x[0]
            },
            definition: &move |x, _| {
                let mut y = x[0].clone();
                for (h, head) in y.chunks_exact_mut(8).enumerate() {
                    for (i, frequency) in frequencies.iter().enumerate() {
                        let (sin, cos) = (f64::from(rows[h / 2].position) * frequency).sin_cos();
                        let (a, b) = match pairing {
                            Pairing::Adjacent => (2 * i, 2 * i + 1),
                            Pairing::Halves => (i, i + 3),
                        };
                        let (first, second) = (head[a] * 1.25, head[b] * 1.25);
                        head[a] = first * cos - second * sin;
                        head[b] = first * sin + second * cos;
                    }
                }
                y
            },
            ..case(&format!("rope {pairing:?}"), &[[4, 16]], &[])
        }
        .check();
    }
}

#[test]
fn attention_of_several_sequences() {
    let row = |sequence, position| Row { sequence, position };
    let two: Vec<Row> = (0..5).map(|p| row(1, p)).chain((0..3).map(|p| row(0, p))).collect();
    let mixed = vec![row(0, 0), row(1, 0), row(0, 1), row(1, 1), row(1, 2), row(0, 2)];
    let long: Vec<Row> = (0..70).map(|p| row(0, p)).collect();
    let one = Heads { heads: 1, kv_heads: 1, key_len: 4, value_len: 4 };
    let grouped = Heads { heads: 4, kv_heads: 2, key_len: 6, value_len: 5 };
    for (of, rows) in [(one, &two), (grouped, &two), (grouped, &mixed), (one, &long)] {
        let Heads { heads, kv_heads, key_len, value_len } = of;
        let count = rows.len();
        Case {
            run: &move |tape, x, _| {
                let shape = CacheShape {
                    sequences: 2,
                    context_len: 80,
                    heads: kv_heads,
                    query_heads: heads,
                    key_len,
                    value_len,
                    format: Format::F32,
                };
                let cache = tape.cache(shape).expect("memory");
                let y = buffer(tape, count, heads * value_len);
                tape.store(cache, x[1], x[2], rows);
                tape.attention(y, x[0], cache, 0.7, rows);
                y
            },
            definition: &move |x, _| attention(of, rows, 0.7, &x[0], &x[1], &x[2]),
            ..case(
                &format!("attention {heads} on {kv_heads}, {count} rows"),
                &[
                    [count, heads * key_len],
                    [count, kv_heads * key_len],
                    [count, kv_heads * value_len],
                ],
                &[],
            )
        }
        .check();
    }
}

/// A frozen matrix in a block format passes the gradient of its rounded weights, and has none itself.
#[test]
fn frozen_blocks_pass_gradients() {
    let (rows, cols, out) = (5, 64, 300);
    let mut random = Random(3);
    for format in [Format::Q8_0, Format::Q4_0, Format::F16] {
        let tensor = tensors(format, &[cols, out], &random.gauss_vec(cols * out)).swap_remove(0);
        let mut rounded = vec![0.0; cols * out];
        format.info().dequantize(&tensor.bytes, &mut rounded);
        let options = TapeOptions { threads: 2, learns: |_| false, records: true };
        let mut tape = Tape::new(options).expect("a tape");
        let weight = tape.weight(&[tensor]).expect("a known format");
        let (x, y) = (buffer(&mut tape, rows, cols), buffer(&mut tape, rows, out));
        tape.write(x, &random.gauss_vec(rows * cols));
        let mark = tape.mark();
        tape.matmul(y, weight, x);
        let given = random.gauss_vec(rows * out);
        tape.seed(y, &given);
        tape.back_to(mark);
        assert!(!tape.parameters()[0].learns());
        for (i, found) in tape.gradient(x).iter().enumerate() {
            let (r, c) = (i / cols, i % cols);
            let terms =
                (0..out).map(|o| f64::from(given[r * out + o]) * f64::from(rounded[o * cols + c]));
            let (sum, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()));
            assert!(
                (f64::from(*found) - sum).abs() <= 310.0 * 6e-8 * size,
                "{format:?}: {found} {sum}"
            );
        }
    }
}
