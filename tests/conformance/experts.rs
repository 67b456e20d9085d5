//! Choice of experts, products with their matrices, and what joins their results.

use crate::kit::{Area, Device, EPSILON, TINY, Weights, assert_near, devices, vector, wide};
use crate::random::Random;
use attar::backend::{Backend, RouteShape, Routing, Weight};
use attar::kernels::FORMATS;

const ROWS: [usize; 4] = [1, 3, 5, 67];
const ROWS_MAX: usize = 67;
const EXPERTS: usize = 37;
const USED: usize = 3;
/// Experts of products; fewer, as each is a matrix.
const MATRICES: usize = 5;

/// Rows and columns of one expert's matrix; of the last so many rows, with those of all choices or alone,
/// that it pays to round the input.
fn shapes(block_len: usize) -> [[usize; 2]; 3] {
    match block_len {
        1 => [[33, 64], [7, 37], [129, 32]],
        32 => [[33, 256], [7, 96], [129, 32]],
        _ => [[33, 256], [7, 512], [342, 256]],
    }
}

/// Scores of which no two of a row are near each other, but for ties where `tied`.
fn scores(rows: usize, experts: usize, tied: bool, random: &mut Random) -> Vec<f32> {
    let mut all = Vec::new();
    for _ in 0..rows {
        let mut row: Vec<f32> = (0..experts).map(|i| i as f32 * 0.125 - 2.0).collect();
        for i in (1..experts).rev() {
            row.swap(i, random.below(i + 1));
        }
        if tied {
            // The largest three times, and the choice between the last two left to their numbers.
            let top = experts as f32;
            [experts - 1, experts / 2, 1].iter().for_each(|i| row[*i] = top);
            row[0] = top + 1.0;
        }
        all.extend(row);
    }
    all
}

/// Experts of a row from the largest score down, of equals the lower number first.
fn choices(scores: &[f32], used: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a])); // stable
    order.truncate(used);
    order
}

/// Softmax with bounds. Rounding the argument of an exponential moves it by as much, relatively; WGSL
/// allows the exponential 3 + 2|x| units in the last place; a sum rounds each term, a division 2.5 units.
fn softmax(scores: &[f32]) -> Vec<(f64, f64)> {
    let scores = wide(scores);
    let max = scores.iter().fold(f64::NEG_INFINITY, |max, s| max.max(*s));
    let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
    let steps = |s: &f64| 2.0 * (3.0 + 2.0 * (max - s)) + (max - s);
    let spread: f64 = scores.iter().map(|s| steps(s) * (s - max).exp() / sum).sum();
    let few = scores.len() as f64 + 8.0;
    let chance = |s: &f64| {
        let y = (s - max).exp() / sum;
        (y, (steps(s) + spread + few) * EPSILON * y + TINY)
    };
    scores.iter().map(chance).collect()
}

/// What routing chose, made visible: factors that are the experts' numbers, and unit vectors that become
/// weights when they are combined.
struct Probe {
    routing: Routing,
    numbers: Weight,
    batches: Vec<(usize, [Area; 4])>,
}

impl Probe {
    fn claim(device: &Device, backend: &mut dyn Backend) -> Self {
        let numbers: Vec<f32> = (0..EXPERTS).map(|i| i as f32).collect();
        let numbers = backend.vector(&vector(&numbers)).expect("a vector");
        let routing = backend.routing(ROWS_MAX, USED).expect("a routing");
        let mut batches = Vec::new();
        for rows in ROWS.into_iter().filter(|rows| device.holds(rows * USED + 2, 64)) {
            let widths = [(rows, EXPERTS), (rows * USED, 1), (rows * USED, USED), (rows, USED)];
            let areas = widths.map(|(rows, width)| Area::claim(backend, rows, width, true));
            batches.push((rows, areas));
        }
        Self { routing, numbers, batches }
    }

    fn check(&self, backend: &mut dyn Backend, name: &str, shape: RouteShape, tied: bool) {
        let mut random = Random(3);
        for &(rows, [scored, number, unit, weight]) in &self.batches {
            let what = format!("{name}: route {rows} rows, {shape:?}, tied {tied}");
            println!("{what}");
            let values = scores(rows, EXPERTS, tied, &mut random);
            scored.fill(backend, &values);
            number.fill(backend, &vec![1.0; rows * USED]);
            let units = (0..rows * USED * USED).map(|i| f32::from(i / USED % USED == i % USED));
            unit.fill(backend, &units.collect::<Vec<f32>>());
            weight.clear(backend);
            backend.route(self.routing, scored.view, shape);
            backend.scale_experts(number.view, self.numbers, self.routing);
            backend.combine(weight.view, unit.view, self.routing);
            let (mut chosen, mut weights) = (Vec::new(), Vec::new());
            for row in values.chunks_exact(EXPERTS) {
                let (own, chances) = (choices(row, USED), softmax(row));
                let sum = own.iter().map(|e| chances[*e].0).sum::<f64>();
                let off = own.iter().map(|e| chances[*e].1).sum::<f64>();
                let scale = f64::from(shape.scale);
                weights.extend(own.iter().map(|e| match (shape.normalize, chances[*e]) {
                    // Four more roundings: the sum, the quotient and the products.
                    (true, (y, bound)) => {
                        let y = scale * y / sum;
                        (y, scale * bound / sum + y * (off / sum + 8.0 * EPSILON))
                    }
                    (false, (y, bound)) => (scale * y, scale * bound + 4.0 * EPSILON * scale * y),
                }));
                chosen.extend(own.iter().map(|e| (*e as f64, 0.0)));
            }
            assert_near(&number.read(backend, &what), &chosen, &what);
            assert_near(&weight.read(backend, &what), &weights, &what);
            let chances: Vec<_> = values.chunks_exact(EXPERTS).flat_map(softmax).collect();
            assert_near(&scored.read(backend, &what), &chances, &what);
        }
    }
}

#[test]
fn choice_of_experts() {
    for device in devices() {
        let mut backend = device.open();
        let probe = Probe::claim(&device, &mut *backend);
        backend.seal(ROWS_MAX).unwrap_or_else(|e| panic!("{}: {e}", device.name));
        for (normalize, scale) in [(false, 1.0), (true, 1.0), (true, 2.5), (false, 2.5)] {
            for tied in [false, true] {
                let shape = RouteShape { used: USED, normalize, scale };
                probe.check(&mut *backend, &device.name, shape, tied);
            }
        }
    }
}

/// A stack of matrices with inputs and outputs.
struct Case<'a> {
    weights: &'a Weights,
    handle: Weight,
    /// Rows, scores, an input for each row, one for each choice, and the output.
    batches: Vec<(usize, [Area; 4])>,
}

fn case<'a>(device: &Device, backend: &mut dyn Backend, weights: &'a Weights) -> Option<Case<'a>> {
    let handle = device.weight(backend, weights)?;
    let Weights { rows: height, cols, .. } = *weights;
    let mut batches = Vec::new();
    // As in `products`, those as tall as the last are there for the path of a few rows.
    let few = |rows: &usize| *rows < 5 || height < 300;
    for rows in ROWS.into_iter().filter(few) {
        let slots = rows * USED;
        if device.holds(slots + 2, cols + 8) && device.holds(slots + 2, height + 8) {
            let areas = [(rows, MATRICES), (rows, cols), (slots, cols), (slots, height)];
            let claim = |(rows, width)| Area::claim(backend, rows, width, true);
            batches.push((rows, areas.map(claim)));
        }
    }
    Some(Case { weights, handle, batches })
}

fn check(device: &Device, backend: &mut dyn Backend, case: &Case<'_>, routing: Routing) {
    let mut random = Random(4);
    let Weights { format, rows: height, cols, .. } = *case.weights;
    for &(rows, [scored, shared, own, out]) in &case.batches {
        let scores = scores(rows, MATRICES, false, &mut random);
        let chosen: Vec<_> = scores.chunks_exact(MATRICES).flat_map(|s| choices(s, USED)).collect();
        scored.fill(backend, &scores);
        backend.route(routing, scored.view, RouteShape { used: USED, normalize: true, scale: 1.0 });
        for (x, each) in [(shared, USED), (own, 1)] {
            let shape =
                format!("{MATRICES} of [{height}, {cols}], {rows} rows, {each} choices an input");
            let what = format!("{}: matmul_experts {format:?} {shape}", device.name);
            println!("{what}");
            let values = random.heavy_vec(x.view.rows * cols);
            x.fill(backend, &values);
            out.clear(backend);
            backend.matmul_experts(out.view, case.handle, x.view, routing);
            let rounding = device.rounding(case.weights, rows, each);
            let slot = |(slot, expert): (usize, &usize)| {
                let (x, expert) = (&values[slot / each * cols..][..cols], *expert);
                let dot = move |r| case.weights.dot(expert, r, x, rounding);
                (0..height).map(dot)
            };
            let expected: Vec<_> = chosen.iter().enumerate().flat_map(slot).collect();
            assert_near(&out.read(backend, &what), &expected, &what);
        }
    }
}

#[test]
fn products_with_experts_of_every_format() {
    let mut random = Random(5);
    let stack = |info: &attar::kernels::FormatInfo, [rows, cols]: [usize; 2], random: &mut _| {
        Weights::random(info.format, [MATRICES, rows, cols], random)
    };
    let mut all = Vec::new();
    for info in &FORMATS {
        all.extend(shapes(info.block_len).map(|shape| stack(info, shape, &mut random)));
    }
    for device in devices() {
        let mut backend = device.open();
        let routing = backend.routing(ROWS_MAX, USED).expect("a routing");
        let cases: Vec<_> = all.iter().filter_map(|w| case(&device, &mut *backend, w)).collect();
        backend.seal(ROWS_MAX).unwrap_or_else(|e| panic!("{}: {e}", device.name));
        cases.iter().for_each(|case| check(&device, &mut *backend, case, routing));
        println!("{}: {} of {} stacks fit", device.name, cases.len(), all.len());
        assert!(cases.len() * 2 > all.len(), "{}: few stacks fit", device.name);
    }
}
