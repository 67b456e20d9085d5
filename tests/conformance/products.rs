//! Products with matrices of every format, a few rows and many, and rows looked up in a table.

use crate::kit::{Area, Device, EPSILON, TINY, Weights, assert_near, devices};
use crate::random::Random;
use attar::Format;
use attar::backend::{Backend, Weight};
use attar::kernels::FORMATS;

/// Up to 4 rows a graphics device reads the matrix once a row, beyond in tiles of 64.
const ROWS: [usize; 4] = [1, 4, 5, 67];
const ROWS_MAX: usize = 67;

/// Rows and columns of matrices: single, prime, one past a tile, and more columns than a workgroup has
/// lanes times weights a lane (64 times 32); and so many rows that it pays to round the input.
fn shapes(block_len: usize) -> [[usize; 2]; 7] {
    match block_len {
        1 => [[1, 1], [7, 37], [33, 65], [65, 257], [257, 256], [5, 2081], [257, 64]],
        32 => [[1, 32], [7, 96], [33, 288], [65, 64], [257, 256], [5, 2080], [257, 64]],
        _ => [[1, 256], [7, 512], [33, 256], [65, 256], [257, 256], [5, 2304], [1025, 256]],
    }
}

struct Case<'a> {
    weights: &'a Weights,
    handle: Weight,
    x: Vec<f32>,
    /// For each number of rows that fits: how many, and input and output.
    batches: Vec<(usize, Area, Area)>,
    /// Rows of the table, if they fit.
    looked_up: Option<Area>,
}

fn all_weights() -> Vec<Weights> {
    let mut random = Random(1);
    let formats = FORMATS.iter().flat_map(|info| shapes(info.block_len).map(|s| (info, s)));
    formats
        .map(|(info, [rows, cols])| Weights::random(info.format, [1, rows, cols], &mut random))
        .collect()
}

/// `None` where 16 rows of the matrix do not fit a binding.
fn case<'a>(
    device: &Device,
    backend: &mut dyn Backend,
    weights: &'a Weights,
    random: &mut Random,
) -> Option<Case<'a>> {
    let Weights { rows, cols, .. } = *weights;
    let handle = device.weight(backend, weights)?;
    let mut batches = Vec::new();
    // Matrices as tall as the last are there for the path of a few rows.
    let few = |batch: &usize| *batch < 5 || rows < 1000;
    for batch in ROWS.into_iter().filter(few) {
        if device.holds(batch + 2, cols + 8) && device.holds(batch + 2, rows + 8) {
            // Only a view inside its buffer, or only a whole buffer, would be half the story.
            let inner = batch != 4;
            let x = Area::claim(backend, batch, cols, inner);
            batches.push((batch, x, Area::claim(backend, batch, rows, inner)));
        }
    }
    let looked_up = device.holds(5, cols + 8).then(|| Area::claim(backend, 3, cols, true));
    let x = random.heavy_vec(ROWS_MAX * cols);
    Some(Case { weights, handle, x, batches, looked_up })
}

fn check_matmul(device: &Device, backend: &mut dyn Backend, case: &Case<'_>) {
    let Weights { format, rows, cols, .. } = *case.weights;
    for &(batch, x, out) in &case.batches {
        let what = format!("{}: matmul {format:?} [{rows}, {cols}] of {batch} rows", device.name);
        println!("{what}");
        let values = &case.x[..batch * cols];
        x.fill(backend, values);
        out.clear(backend);
        backend.matmul(out.view, case.handle, x.view);
        let rounding = device.rounding(case.weights, batch, 1);
        let expected: Vec<_> = values
            .chunks_exact(cols)
            .flat_map(|x| (0..rows).map(move |r| case.weights.dot(0, r, x, rounding)))
            .collect();
        assert_near(&out.read(backend, &what), &expected, &what);
    }
}

fn check_embed(device: &Device, backend: &mut dyn Backend, case: &Case<'_>) {
    let Some(out) = case.looked_up else { return };
    let Weights { format, rows, cols, ref value, ref size, .. } = *case.weights;
    let what = format!("{}: embed {format:?} [{rows}, {cols}]", device.name);
    println!("{what}");
    let ids = [rows - 1, 0, rows / 2];
    out.clear(backend);
    backend.embed(out.view, case.handle, &ids.map(|id| id as u32));
    // A float is itself; a block's weight is a product, rounded, less a minimum, rounded again.
    let steps = if format.info().is_float() { 0.0 } else { 3.0 };
    let expected: Vec<_> = ids
        .iter()
        .flat_map(|id| (id * cols..(id + 1) * cols).map(|i| (value[i], steps * EPSILON * size[i])))
        .map(|(value, bound)| (value, bound + TINY))
        .collect();
    assert_near(&out.read(backend, &what), &expected, &what);
}

#[test]
fn matrices_and_tables_of_every_format() {
    let all = all_weights();
    for device in devices() {
        let mut random = Random(2);
        let mut backend = device.open();
        let case = |weights| case(&device, &mut *backend, weights, &mut random);
        let cases: Vec<_> = all.iter().filter_map(case).collect();
        backend.seal(ROWS_MAX).unwrap_or_else(|e| panic!("{}: {e}", device.name));
        for case in &cases {
            check_matmul(&device, &mut *backend, case);
            check_embed(&device, &mut *backend, case);
        }
        println!("{}: {} of {} matrices fit", device.name, cases.len(), all.len());
        assert!(cases.len() * 2 > all.len(), "{}: few matrices fit", device.name);
    }
}

/// With one weight a row the bound is that of one input: were it cut off where it should be rounded, other
/// weights would not hide it.
#[test]
fn an_input_is_off_by_its_rounding_alone() {
    let (rows, cols) = (128, 32);
    let only = |i: usize| f32::from(i / cols % cols == i % cols);
    let values: Vec<f32> = (0..rows * cols).map(only).collect();
    let weights = Weights::of(Format::Q8_0, [1, rows, cols], &values);
    for device in devices() {
        let mut random = Random(3);
        let mut backend = device.open();
        let case = case(&device, &mut *backend, &weights, &mut random).expect("a small matrix");
        backend.seal(ROWS_MAX).unwrap_or_else(|e| panic!("{}: {e}", device.name));
        check_matmul(&device, &mut *backend, &case);
    }
}
