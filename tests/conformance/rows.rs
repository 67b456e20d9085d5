//! What is done to rows of numbers: arithmetic, activations, norms, rotation.

use crate::kit::{Area, Device, EPSILON, TINY, assert_near, devices, vector, wide};
use crate::random::Random;
use attar::backend::{Backend, NormKind, NormShape, Pairing, Rotary, RotaryShape, Row, Weight};

const ROWS: [usize; 4] = [1, 3, 5, 67];
const ROWS_MAX: usize = 67;
/// One, a prime, one past a workgroup of 64, one past 256.
const WIDTHS: [usize; 5] = [1, 37, 64, 65, 257];
/// A factor that is no power of two.
const FACTOR: f32 = -1.7;
/// Of values that an exponential takes; larger ones tell nothing new.
const SPREAD: f32 = 6.0;

/// WGSL allows the exponential 3 + 2|x| units in the last place, each two roundings; what surrounds it in
/// a sigmoid rounds a few times, its division by 2.5 units.
fn sigmoid_steps(x: f64) -> f64 {
    2.0 * (3.0 + 2.0 * x.abs()) + 12.0
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

struct Case {
    rows: usize,
    width: usize,
    x: Area,
    y: Area,
    gate: Area,
    bias: Weight,
    bias_values: Vec<f32>,
}

impl Case {
    fn claim(backend: &mut dyn Backend, rows: usize, width: usize, random: &mut Random) -> Self {
        let inner = rows != 3;
        let [x, y, gate] = [width, width, 1].map(|w| Area::claim(backend, rows, w, inner));
        let bias_values = random.gauss_vec(width);
        let bias = backend.vector(&vector(&bias_values)).expect("a vector");
        Self { rows, width, x, y, gate, bias, bias_values }
    }

    /// Runs `run` on views filled with `x`, `y` and a gate; `reference` has the value and its bound from
    /// those three and the place in a row.
    fn check(
        &self,
        backend: &mut dyn Backend,
        what: &str,
        run: impl Fn(&Self, &mut dyn Backend),
        reference: impl Fn(&Self, [f64; 3], usize) -> (f64, f64),
    ) {
        let what = format!("{what}, {} rows of {}", self.rows, self.width);
        println!("{what}");
        let mut random = Random(7);
        let mut values =
            |len| -> Vec<f32> { random.gauss_vec(len).iter().map(|v| v * SPREAD).collect() };
        let (x, y, gate) =
            (values(self.rows * self.width), values(self.rows * self.width), values(self.rows));
        self.x.fill(backend, &x);
        self.y.fill(backend, &y);
        self.gate.fill(backend, &gate);
        run(self, backend);
        let expected: Vec<_> = (0..x.len())
            .map(|i| {
                let inputs = [x[i], y[i], gate[i / self.width]].map(f64::from);
                let (value, bound) = reference(self, inputs, i % self.width);
                (value, if bound == 0.0 { 0.0 } else { bound + TINY })
            })
            .collect();
        assert_near(&self.x.read(backend, &what), &expected, &what);
        let same: Vec<_> = wide(&y).into_iter().map(|y| (y, 0.0)).collect();
        assert_near(&self.y.read(backend, &what), &same, &format!("{what}: the other operand"));
    }
}

fn check_each(device: &Device, backend: &mut dyn Backend, case: &Case) {
    let what = |operation: &str| format!("{}: {operation}", device.name);
    case.check(
        backend,
        &what("copy"),
        |c, b| b.copy(c.x.view, c.y.view),
        |_, [_, y, _], _| (y, 0.0),
    );
    // One rounding each.
    let rounded = |y: f64| (y, EPSILON * y.abs());
    case.check(
        backend,
        &what("add"),
        |c, b| b.add(c.x.view, c.y.view),
        |_, [x, y, _], _| rounded(x + y),
    );
    case.check(
        backend,
        &what("add_bias"),
        |c, b| b.add_bias(c.x.view, c.bias),
        |c, [x, ..], column| rounded(x + f64::from(c.bias_values[column])),
    );
    case.check(
        backend,
        &what("scale"),
        |c, b| b.scale(c.x.view, FACTOR),
        |_, [x, ..], _| rounded(x * f64::from(FACTOR)),
    );
    case.check(
        backend,
        &what("scale_rows"),
        |c, b| b.scale_rows(c.x.view, c.gate.view),
        |_, [x, _, gate], _| {
            let y = x * sigmoid(gate);
            (y, sigmoid_steps(gate) * EPSILON * y.abs())
        },
    );
    case.check(
        backend,
        &what("gelu"),
        |c, b| b.gelu(c.x.view),
        |_, [x, ..], _| {
            let inner = 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            let value = x * sigmoid(inner);
            // The argument of the sigmoid is rounded six times, and the value moves with it.
            let steps = sigmoid_steps(inner) + 6.0 * inner.abs();
            // No exponential is beyond e^88.3.
            (value, steps * EPSILON * value.abs() + 5e-39 * x.abs())
        },
    );
    case.check(
        backend,
        &what("swiglu"),
        |c, b| b.swiglu(c.x.view, c.y.view),
        |_, [x, y, _], _| {
            let value = x * sigmoid(x) * y;
            (value, sigmoid_steps(x) * EPSILON * value.abs())
        },
    );
}

#[test]
fn arithmetic_and_activations() {
    for device in devices() {
        let mut backend = device.open();
        let mut random = Random(6);
        let mut cases = Vec::new();
        for (rows, width) in ROWS.into_iter().flat_map(|rows| WIDTHS.map(|width| (rows, width))) {
            if device.holds(rows + 2, width + 8) {
                cases.push(Case::claim(&mut *backend, rows, width, &mut random));
            }
        }
        backend.seal(ROWS_MAX).unwrap_or_else(|e| panic!("{}: {e}", device.name));
        cases.iter().for_each(|case| check_each(&device, &mut *backend, case));
    }
}

/// A group's values normalised, with bounds. A sum of n squares is rounded n + 2 times at most, a root
/// halves that; the error of a mean moves all differences.
fn normalized(kind: NormKind, x: &[f32], weight: &[f32], eps: f32) -> Vec<(f64, f64)> {
    let (x, weight, count) = (wide(x), wide(weight), x.len() as f64);
    let mean = match kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => x.iter().sum::<f64>() / count,
    };
    let size = match kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => x.iter().map(|x| x.abs()).sum::<f64>() / count,
    };
    let square = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    let scale = 1.0 / (square + f64::from(eps)).sqrt();
    let steps = (count + 12.0) * EPSILON * scale;
    let one = |(x, w): (&f64, &f64)| {
        ((x - mean) * scale * w, steps * (size + 2.0 * (x - mean).abs()) * w.abs() + TINY)
    };
    x.iter().zip(&weight).map(one).collect()
}

/// Groups of a row, and columns of a group.
const GROUPS: [(usize, usize); 6] = [(1, 1), (1, 37), (1, 257), (3, 8), (5, 65), (2, 64)];

struct Norms {
    rows: usize,
    groups: usize,
    group: usize,
    weight: Weight,
    weights: Vec<f32>,
    x: Area,
    out: Area,
}

fn check_norm(device: &Device, backend: &mut dyn Backend, case: &Norms) {
    let mut random = Random(9);
    let Norms { rows, groups, group, x, .. } = *case;
    let ones = vec![1.0; group];
    for kind in [NormKind::Rms, NormKind::Layer] {
        for (weight, weights) in [(Some(case.weight), &case.weights), (None, &ones)] {
            for out in [case.out, x] {
                let place = if out.view == x.view { "in place" } else { "apart" };
                let shape = format!("{rows} rows of {groups} groups of {group}, {place}");
                let what = format!("{}: norm {kind:?} {shape}, weight {weight:?}", device.name);
                println!("{what}");
                let values: Vec<f32> =
                    random.gauss_vec(rows * groups * group).iter().map(|v| v + 0.5).collect();
                x.fill(backend, &values);
                if out.view != x.view {
                    out.clear(backend);
                }
                backend.norm(out.view, x.view, NormShape { kind, weight, eps: 1e-3 }, group);
                let expected: Vec<_> = values
                    .chunks_exact(group)
                    .flat_map(|values| normalized(kind, values, weights, 1e-3))
                    .collect();
                assert_near(&out.read(backend, &what), &expected, &what);
            }
        }
    }
}

#[test]
fn norms() {
    for device in devices() {
        let mut backend = device.open();
        let mut random = Random(8);
        let mut cases = Vec::new();
        for (rows, (groups, group)) in ROWS.into_iter().flat_map(|r| GROUPS.map(|g| (r, g))) {
            if device.holds(rows + 2, groups * group + 8) {
                let weights = random.gauss_vec(group);
                let weight = backend.vector(&vector(&weights)).expect("a vector");
                let [x, out] =
                    [(); 2].map(|()| Area::claim(&mut *backend, rows, groups * group, rows != 3));
                cases.push(Norms { rows, groups, group, weight, weights, x, out });
            }
        }
        backend.seal(ROWS_MAX).unwrap_or_else(|e| panic!("{}: {e}", device.name));
        cases.iter().for_each(|case| check_norm(&device, &mut *backend, case));
    }
}

/// Heads, width of a head, and pairs of it that are rotated.
const HEADS: [(usize, usize, usize); 5] =
    [(1, 2, 1), (3, 10, 5), (2, 64, 8), (5, 37, 13), (1, 260, 129)];
const MAGNITUDE: f32 = 1.25;

fn frequencies(pairs: usize) -> Vec<f64> {
    (0..pairs).map(|i| 100f64.powf(-(i as f64) / pairs as f64)).collect()
}

/// `x` rotated, with bounds: cosine, sine and their products with the magnitude are rounded, then two
/// products and a sum.
fn rotated(x: &[f32], pairs: usize, pairing: Pairing, position: u32) -> Vec<(f64, f64)> {
    let mut out: Vec<_> = wide(x).into_iter().map(|x| (x, 0.0)).collect();
    for (i, frequency) in frequencies(pairs).into_iter().enumerate() {
        let (a, b) = match pairing {
            Pairing::Adjacent => (2 * i, 2 * i + 1),
            Pairing::Halves => (i, i + pairs),
        };
        let (sin, cos) = (f64::from(position) * frequency).sin_cos();
        let magnitude = f64::from(MAGNITUDE);
        let (first, second) = (f64::from(x[a]), f64::from(x[b]));
        let bound = 6.0 * EPSILON * magnitude * (first.abs() + second.abs()) + TINY;
        out[a] = (magnitude * (first * cos - second * sin), bound);
        out[b] = (magnitude * (first * sin + second * cos), bound);
    }
    out
}

struct Turn {
    rows: usize,
    heads: usize,
    len: usize,
    pairs: usize,
    pairing: Pairing,
    rotary: Rotary,
    x: Area,
}

fn check_rope(device: &Device, backend: &mut dyn Backend, case: &Turn) {
    let Turn { rows, heads, len, pairs, pairing, rotary, x } = *case;
    let shape = format!("{pairs} pairs of {heads} heads of {len}, {rows} rows");
    let what = format!("{}: rope {pairing:?} {shape}", device.name);
    println!("{what}");
    let values = Random(11).gauss_vec(rows * heads * len);
    let places: Vec<_> =
        (0..rows as u32).map(|r| Row { sequence: 0, position: r * 613 % 4099 }).collect();
    x.fill(backend, &values);
    backend.rope(x.view, heads, rotary, &places);
    let expected: Vec<_> = values
        .chunks_exact(len)
        .enumerate()
        .flat_map(|(i, head)| rotated(head, pairs, pairing, places[i / heads].position))
        .collect();
    assert_near(&x.read(backend, &what), &expected, &what);
}

#[test]
fn rotation() {
    for device in devices() {
        let mut backend = device.open();
        let mut cases = Vec::new();
        for (heads, len, pairs) in HEADS {
            for pairing in [Pairing::Adjacent, Pairing::Halves] {
                // Angles of all rows are a buffer too.
                let fitting = ROWS.into_iter().filter(|rows| {
                    device.holds(rows + 2, heads * len + 8) && device.holds(ROWS_MAX, 2 * pairs)
                });
                let shape =
                    RotaryShape { frequencies: frequencies(pairs), magnitude: MAGNITUDE, pairing };
                let fitting: Vec<_> = fitting.collect();
                if fitting.is_empty() {
                    continue;
                }
                let rotary = backend.rotary(shape).expect("a rotation");
                for rows in fitting {
                    let x = Area::claim(&mut *backend, rows, heads * len, rows != 3);
                    cases.push(Turn { rows, heads, len, pairs, pairing, rotary, x });
                }
            }
        }
        backend.seal(ROWS_MAX).unwrap_or_else(|e| panic!("{}: {e}", device.name));
        cases.iter().for_each(|case| check_rope(&device, &mut *backend, case));
    }
}

/// Widths of a row of which the largest are found: less than asked for, one past a workgroup's 1024, and so
/// many that candidates take a second pass.
const LONG: [usize; 5] = [1, 37, 1025, 4096, 33_333];

/// The largest values with their columns, of equals the lower first.
fn largest(values: &[f32], count: usize) -> Vec<(f32, u32)> {
    let mut all: Vec<_> = values.iter().copied().zip(0..).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0)); // stable
    all.truncate(count);
    all
}

#[test]
fn largest_of_a_row() {
    for device in devices() {
        let mut backend = device.open();
        let fitting = LONG.into_iter().filter(|width| device.holds(3, *width));
        let rows: Vec<_> = fitting.map(|width| backend.buffer(3, width).expect("a row")).collect();
        backend.seal(1).unwrap_or_else(|e| panic!("{}: {e}", device.name));
        let most = backend.largest_max();
        for x in rows {
            let mut random = Random(12);
            // Few different values, so that many are equal.
            let values: Vec<f32> =
                (0..3 * x.width).map(|_| (random.gauss() * 8.0).round()).collect();
            backend.write(x, &values);
            for count in [1, 7, 64].into_iter().filter(|count| *count <= most) {
                let what = format!("{}: largest {count} of {}", device.name, x.width);
                println!("{what}");
                let found = backend.largest(x.rows_at(1, 1), count);
                let found = found.unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(found, largest(&values[x.width..2 * x.width], count), "{what}");
            }
        }
    }
}
