//! Operations in the order in which models ask for them. A graphics device makes several of them one step;
//! the results must be those of the operations one by one, also what lies in between as long as somebody
//! reads it.
#![cfg(feature = "gpu")]

use crate::kit::{Area, Arithmetic, Device, Weights, devices, vector};
use crate::random::Random;
use attar::backend::{
    Backend, Cache, CacheShape, NormKind, NormShape, Pairing, Rotary, RotaryShape, RouteShape,
    Routing, Row, View, Weight,
};
use attar::{Format, Result};

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_LEN: usize = 16;
const EXPERTS: usize = 4;
const USED: usize = 2;
const ROWS_MAX: usize = 7;
const CONTEXT_LEN: usize = 16;
/// How far results may be apart, of the largest value. Two or three products of up to 96 terms in a row
/// err by at most (96 + 16) * 2^-24 of their terms' sizes each, which is 2e-5 with all terms alike in sign;
/// a missing bias or norm, or a buffer of the step before, changes results by a tenth and more.
const NEAR: f64 = 1e-4;

/// The same where inputs are rounded to 8 bits. With its norm in another step an input may round to the next
/// code, 1/127 of the largest of its 32; were all inputs to, a result would change by that part of its terms'
/// sizes, which are a few times the largest result.
const NEAR_BYTES: f64 = 0.03;

/// Formats for matrices in turn: query, key and value differ, gate and up, and those of experts.
const MIXED_FORMATS: [Format; 5] =
    [Format::F32, Format::Q4_1, Format::Q8_0, Format::Q5_0, Format::F16];

/// A small layer's weights.
struct Layer {
    /// Of the matrices in turn.
    formats: &'static [Format],
    width: usize,
    hidden: usize,
    /// Query, key, value, output, gate, up, down; then gate, up, down of experts.
    matrices: Vec<Weights>,
    vectors: Vec<Vec<f32>>,
}

impl Layer {
    fn random(formats: &'static [Format], width: usize, hidden: usize) -> Self {
        let mut random = Random(41);
        let query = HEADS * HEAD_LEN;
        let key = KV_HEADS * HEAD_LEN;
        let shapes = [
            [1, query, width],
            [1, key, width],
            [1, key, width],
            [1, width, query],
            [1, hidden, width],
            [1, hidden, width],
            [1, width, hidden],
            [EXPERTS, hidden, width],
            [EXPERTS, hidden, width],
            [EXPERTS, width, hidden],
        ];
        let formats_in_turn = formats.iter().cycle();
        let matrices = shapes.iter().zip(formats_in_turn);
        let matrices =
            matrices.map(|(shape, format)| Weights::random(*format, *shape, &mut random));
        let matrices = matrices.collect();
        // Norm of rows, of query heads, of key heads; biases of query, key, value, output, gate, up.
        let widths = [width, HEAD_LEN, HEAD_LEN, query, key, key, width, hidden, hidden];
        let vectors = widths.map(|len| random.gauss_vec(len));
        Self { formats, width, hidden, matrices, vectors: vectors.into() }
    }
}

/// The layer on a device.
struct Parts {
    w: Vec<Weight>,
    v: Vec<Weight>,
    rotary: Rotary,
    cache: Cache,
    routing: Routing,
    /// By the numbers below; the last three have a row for each choice.
    areas: Vec<Area>,
}

struct Rig {
    backend: Box<dyn Backend>,
    parts: Parts,
    /// Whether products take inputs as they are.
    is_exact: bool,
}

const X: usize = 0;
const H: usize = 1;
const Y: usize = 2;
const QUERY: usize = 3;
const KEY: usize = 4;
const VALUE: usize = 5;
const MIXED: usize = 6;
const GATE: usize = 7;
const UP: usize = 8;
const SCORES: usize = 9;
const EXPERT_GATE: usize = 10;
const EXPERT_UP: usize = 11;
const EXPERT_DOWN: usize = 12;

impl Rig {
    fn open(device: &Device, layer: &Layer) -> Self {
        let mut backend = device.open();
        let parts = Parts::claim(&mut *backend, layer);
        let parts = parts.unwrap_or_else(|e| panic!("{}: {e}", device.name));
        let is_float = layer.formats.iter().all(|format| format.info().is_float());
        let is_exact = device.arithmetic != Arithmetic::Bytes || is_float;
        Self { backend, parts, is_exact }
    }
}

impl Parts {
    fn claim(backend: &mut dyn Backend, layer: &Layer) -> Result<Self> {
        let w = layer.matrices.iter().map(|w| backend.weight(&w.tensors)).collect::<Result<_>>()?;
        let v = layer.vectors.iter().map(|v| backend.vector(&vector(v))).collect::<Result<_>>()?;
        let frequencies = (0..HEAD_LEN / 2).map(|i| 1.0 / (1.0 + i as f64)).collect();
        let pairing = Pairing::Halves;
        let rotary = backend.rotary(RotaryShape { frequencies, magnitude: 1.0, pairing })?;
        let cache = backend.cache(CacheShape {
            sequences: 1,
            context_len: CONTEXT_LEN,
            heads: KV_HEADS,
            query_heads: HEADS,
            key_len: HEAD_LEN,
            value_len: HEAD_LEN,
            format: Format::F32,
        })?;
        let routing = backend.routing(ROWS_MAX, USED)?;
        let Layer { width, hidden, .. } = *layer;
        let (query, key) = (HEADS * HEAD_LEN, KV_HEADS * HEAD_LEN);
        let of_rows = [width, width, width, query, key, key, query, hidden, hidden, EXPERTS];
        let mut areas: Vec<_> =
            of_rows.iter().map(|width| Area::claim(backend, ROWS_MAX, *width, true)).collect();
        let of_choices = [hidden, hidden, width];
        let claim = |width| Area::claim(backend, ROWS_MAX * USED, width, true);
        areas.extend(of_choices.map(claim));
        backend.seal(ROWS_MAX)?;
        Ok(Self { w, v, rotary, cache, routing, areas })
    }

    fn view(&self, area: usize, rows: usize) -> View {
        let slots = if area >= EXPERT_GATE { rows * USED } else { rows };
        self.areas[area].view.first(slots)
    }
}

/// An operation of a sequence, by the numbers of areas, matrices and vectors.
#[derive(Clone, Copy, Debug)]
enum Step {
    Norm { out: usize, x: usize, vector: usize },
    HeadNorm { x: usize, vector: usize },
    Matmul { out: usize, matrix: usize, x: usize },
    Bias { x: usize, vector: usize },
    Add { x: usize, y: usize },
    Swiglu { gate: usize, up: usize },
    Rope { x: usize, heads: usize },
    Store,
    Attention,
    Route,
    Experts { out: usize, matrix: usize, x: usize },
    Combine { out: usize, x: usize },
    Copy { out: usize, x: usize },
}
use Step::*;

impl Parts {
    fn run(&self, backend: &mut dyn Backend, step: Step, rows: usize) {
        let places: Vec<_> =
            (0..rows as u32).map(|r| Row { sequence: 0, position: r + 2 }).collect();
        let at = |area: usize| self.view(area, rows);
        let (w, v) = (&self.w, &self.v);
        let norm = |vector| NormShape { kind: NormKind::Rms, weight: Some(v[vector]), eps: 1e-5 };
        match step {
            Norm { out, x, vector } => backend.norm(at(out), at(x), norm(vector), at(x).width),
            HeadNorm { x, vector } => backend.norm(at(x), at(x), norm(vector), HEAD_LEN),
            Matmul { out, matrix, x } => backend.matmul(at(out), w[matrix], at(x)),
            Bias { x, vector } => backend.add_bias(at(x), v[vector]),
            Add { x, y } => backend.add(at(x), at(y)),
            Swiglu { gate, up } => backend.swiglu(at(gate), at(up)),
            Rope { x, heads } => backend.rope(at(x), heads, self.rotary, &places),
            Store => backend.store(self.cache, at(KEY), at(VALUE), &places),
            Attention => backend.attention(at(MIXED), at(QUERY), self.cache, 0.25, &places),
            Route => {
                let shape = RouteShape { used: USED, normalize: true, scale: 1.0 };
                backend.route(self.routing, at(SCORES), shape);
            }
            Experts { out, matrix, x } => {
                backend.matmul_experts(at(out), w[matrix], at(x), self.routing);
            }
            Combine { out, x } => backend.combine(at(out), at(x), self.routing),
            Copy { out, x } => backend.copy(at(out), at(x)),
        }
    }
}

/// Sequences as layers ask for them, and some that look like these and must not be taken for them.
fn sequences() -> Vec<(&'static str, Vec<Step>)> {
    let matmul = |out, matrix, x| Matmul { out, matrix, x };
    let bias = |x, vector| Bias { x, vector };
    let norm = Norm { out: H, x: X, vector: 0 };
    let project = vec![
        norm,
        matmul(QUERY, 0, H),
        bias(QUERY, 3),
        matmul(KEY, 1, H),
        bias(KEY, 4),
        matmul(VALUE, 2, H),
        bias(VALUE, 5),
    ];
    let bare = vec![norm, matmul(QUERY, 0, H), matmul(KEY, 1, H), matmul(VALUE, 2, H)];
    let rope = [Rope { x: QUERY, heads: HEADS }, Rope { x: KEY, heads: KV_HEADS }, Store];
    let head_norms = [HeadNorm { x: QUERY, vector: 1 }, HeadNorm { x: KEY, vector: 2 }];
    let attend = [Attention, matmul(Y, 3, MIXED)];
    let gated = [matmul(GATE, 4, H), matmul(UP, 5, H), Swiglu { gate: GATE, up: UP }];
    let biased = [
        norm,
        matmul(GATE, 4, H),
        bias(GATE, 7),
        matmul(UP, 5, H),
        bias(UP, 8),
        Swiglu { gate: GATE, up: UP },
        matmul(Y, 6, GATE),
        bias(Y, 6),
        Add { x: X, y: Y },
    ];
    let experts = vec![
        Route,
        Experts { out: EXPERT_GATE, matrix: 7, x: H },
        Experts { out: EXPERT_UP, matrix: 8, x: H },
        Swiglu { gate: EXPERT_GATE, up: EXPERT_UP },
        Experts { out: EXPERT_DOWN, matrix: 9, x: EXPERT_GATE },
        Combine { out: Y, x: EXPERT_DOWN },
        Add { x: X, y: Y },
    ];
    let feed = [&[norm], &gated[..], &[matmul(Y, 6, GATE), Add { x: X, y: Y }]].concat();
    let layer = [&project, &head_norms[..], &rope, &attend, &[Add { x: X, y: Y }], &feed].concat();
    vec![
        ("norm, three products with biases", project.clone()),
        ("norm, three products", bare.clone()),
        ("gate, up, activation", gated.to_vec()),
        ("norm, gate and up with biases, down, sum", biased.to_vec()),
        ("product, sum", vec![matmul(Y, 3, MIXED), bias(Y, 6), Add { x: X, y: Y }]),
        ("head norms, rotations, store, attention", [&head_norms[..], &rope, &attend].concat()),
        ("key norm alone", [&head_norms[1..], &rope, &attend].concat()),
        ("query norm alone", [&head_norms[..1], &rope, &attend].concat()),
        ("rotations, store, attention", [&rope[..], &attend].concat()),
        ("experts", experts),
        ("a layer", layer.clone()),
        ("two layers", [layer.clone(), layer].concat()),
        ("gate used otherwise", [&gated[..2], &[Swiglu { gate: UP, up: GATE }]].concat()),
        ("a norm of half the products' input", vec![norm, matmul(QUERY, 0, H), matmul(KEY, 1, Y)]),
        ("a norm overwritten later", vec![norm, matmul(QUERY, 0, H), Copy { out: Y, x: H }, norm]),
        ("a sum of itself", vec![matmul(Y, 3, MIXED), Add { x: X, y: Y }, Add { x: H, y: Y }]),
        ("head norms in the other order", {
            [&[head_norms[1], head_norms[0]][..], &rope, &attend].concat()
        }),
        ("an input copied over between its products", {
            vec![matmul(GATE, 4, H), Copy { out: H, x: X }, matmul(UP, 5, H)]
        }),
        ("an input that a product changes between its products", {
            vec![matmul(GATE, 4, H), matmul(H, 3, MIXED), matmul(UP, 5, H)]
        }),
        ("a product of what was just written", vec![matmul(Y, 3, MIXED), matmul(KEY, 1, Y)]),
    ]
}

/// Fills all areas alike on every device.
fn reset(rig: &mut Rig) {
    let Rig { backend, parts, .. } = rig;
    let mut random = Random(42);
    for area in &parts.areas {
        let values = random.gauss_vec(area.view.rows * area.view.width);
        area.fill(&mut **backend, &values);
    }
    backend.restore(parts.cache, CONTEXT_LEN, &mut |piece| piece.fill(0));
    // Positions before those of the batch.
    let (key, value) = (parts.areas[KEY].view.first(2), parts.areas[VALUE].view.first(2));
    let places = [0, 1].map(|position| Row { sequence: 0, position });
    backend.store(parts.cache, key, value, &places);
}

/// Overwrites what lies between a layer's operations, by copies of other things.
const OVERWRITE: [Step; 5] = [
    Copy { out: H, x: X },
    Copy { out: Y, x: X },
    Copy { out: UP, x: GATE },
    Copy { out: KEY, x: VALUE },
    Copy { out: EXPERT_UP, x: EXPERT_GATE },
];

/// All areas after a sequence, and the cache. With `apart` a result is read after each operation, so that
/// none can be fused.
fn outcome(rig: &mut Rig, steps: &[Step], rows: usize, apart: bool, what: &str) -> Vec<Vec<f32>> {
    reset(rig);
    for step in steps {
        rig.parts.run(&mut *rig.backend, *step, rows);
        if apart {
            rig.parts.areas[SCORES].read(&mut *rig.backend, what);
        }
    }
    let areas = rig.parts.areas.iter();
    let mut all: Vec<_> = areas.map(|area| area.read(&mut *rig.backend, what)).collect();
    let mut cached = Vec::new();
    rig.backend.cached(rig.parts.cache, CONTEXT_LEN, &mut |bytes| {
        cached.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    });
    all.push(cached);
    all
}

fn compare(found: &[Vec<f32>], expected: &[Vec<f32>], near: f64, what: &str) {
    for (area, (found, expected)) in found.iter().zip(expected).enumerate() {
        let largest = expected.iter().fold(0.0, |max: f32, v| max.max(v.abs()));
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let error = f64::from((found - expected).abs());
            let bound = near * f64::from(largest);
            assert!(error <= bound, "{what}: area {area} [{i}]: {found:e}, expected {expected:e}");
        }
    }
}

/// The steps fused and apart, and on the CPU, where its products are as exact.
fn check(rig: &mut Rig, cpu: &mut Rig, steps: &[Step], rows: usize, near: f64, what: &str) {
    println!("{what}");
    let fused = outcome(rig, steps, rows, false, what);
    let apart = outcome(rig, steps, rows, true, what);
    compare(&fused, &apart, near, what);
    if cpu.is_exact {
        compare(
            &fused,
            &outcome(cpu, steps, rows, false, what),
            near,
            &format!("{what}, beside the CPU"),
        );
    }
}

#[test]
fn sequences_of_operations_give_what_the_operations_give() {
    let all = devices();
    // Widths that are no multiple of 32, a format with minimums, and so many rows that it pays to round inputs.
    let layers: [(&[Format], usize, usize, f64); 5] = [
        (&[Format::F32], 100, 30, NEAR),
        (&[Format::Q4_1], 96, 32, NEAR),
        (&MIXED_FORMATS, 96, 32, NEAR),
        (&[Format::Q4_1], 64, 256, NEAR_BYTES),
        (&MIXED_FORMATS[1..], 64, 256, NEAR_BYTES),
    ];
    for (formats, width, hidden, near) in layers {
        let layer = Layer::random(formats, width, hidden);
        let mut cpu = Rig::open(&all[0], &layer);
        let fits = |device: &&Device| device.holds(ROWS_MAX * USED + 2, hidden + 8);
        let others = all.iter().filter(|device| device.arithmetic != Arithmetic::Bytes);
        for device in others.filter(fits) {
            let mut rig = Rig::open(device, &layer);
            for (name, steps) in sequences() {
                for rows in [1, 4, ROWS_MAX] {
                    let what = format!("{}: {name}, {formats:?}, {rows} rows", device.name);
                    check(&mut rig, &mut cpu, &steps, rows, near, &what);
                    let steps = [&steps[..], &OVERWRITE].concat();
                    let what = format!("{what}, overwritten");
                    check(&mut rig, &mut cpu, &steps, rows, near, &what);
                }
            }
        }
    }
}

/// Were nothing fused, the test above would compare equals.
#[test]
fn a_layer_takes_fewer_dispatches_than_operations() {
    use attar::backend::{Gpu, GpuOptions};
    if !devices().iter().any(|device| device.name.starts_with("gpu")) {
        return;
    }
    for formats in [&MIXED_FORMATS[1..2], &MIXED_FORMATS] {
        let layer = Layer::random(formats, 96, 32);
        let mut gpu = Gpu::open(&GpuOptions::default()).expect("a listed device opens");
        let parts = Parts::claim(&mut gpu, &layer).expect("room for a layer");
        let (_, steps) =
            sequences().into_iter().find(|(name, _)| *name == "a layer").expect("listed");
        let mut count = |extra: &[Step]| {
            let before = gpu.counts().0;
            [&steps[..], extra].concat().iter().for_each(|step| parts.run(&mut gpu, *step, 1));
            gpu.read(parts.areas[X].whole()).expect("a reading");
            (gpu.counts().0 - before) as usize
        };
        let (kept, overwritten) = (count(&[]), count(&OVERWRITE) - OVERWRITE.len());
        println!("{} operations: {kept} dispatches, {overwritten} overwritten", steps.len());
        // Two norms go into products, the activation and two sums behind them, and biases; heads are one.
        assert!(kept < steps.len() && overwritten < kept && overwritten <= 6);
    }
}
