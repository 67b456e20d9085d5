//! One operation at a time: random inputs and weights, a random gradient of the result, and the same by
//! central differences.

use crate::random::Random;
use attar::backend::{Backend, View, Weight};
use attar::bytes::Bytes;
use attar::gguf::write::{TensorPlan, Writer};
use attar::gguf::{Tensor, TensorType};
use attar::train::{Tape, TapeOptions};
use attar::{Format, Gguf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows and width.
pub(crate) type Shape = [usize; 2];

/// Runs an operation on views of the inputs, which it may overwrite; says where the result is.
pub(crate) type Run<'a> = dyn Fn(&mut Tape, &[View], &[Weight]) -> View + 'a;
/// The same of inputs and weights in double precision.
pub(crate) type Definition<'a> = dyn Fn(&[Vec<f64>], &[Vec<f64>]) -> Vec<f64> + 'a;

/// An operation with its operands.
pub(crate) struct Case<'a> {
    pub(crate) what: String,
    /// Of each input.
    pub(crate) inputs: &'a [Shape],
    /// Of each matrix; one row is a vector.
    pub(crate) weights: &'a [Shape],
    /// How many matrices there are of each weight.
    pub(crate) experts: usize,
    pub(crate) run: &'a Run<'a>,
    pub(crate) definition: &'a Definition<'a>,
}

/// Half a unit in the last place of 1.
const EPSILON: f64 = 1.0 / (1u64 << 24) as f64;
/// Of central differences: their own error is its square.
const STEP: f64 = 1e-5;
/// Terms of the longest sum in any case here, with what comes before and after it.
const ROUNDINGS: f64 = 400.0;

pub(crate) fn tensors(format: Format, dims: &[usize], values: &[f32]) -> Vec<Tensor> {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let len: usize = dims.iter().product();
    let plan =
        |i| TensorPlan { name: format!("w{i}"), kind: TensorType::of(format), dims: dims.to_vec() };
    let plans: Vec<_> = (0..values.len() / len).map(plan).collect();
    let (process, file) = (std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(format!("attar-gradients-{process}-{file}.gguf"));
    let mut writer = Writer::create(&path, std::iter::empty(), &plans).expect("a file");
    for values in values.chunks_exact(len) {
        let mut bytes = vec![0; format.info().row_bytes(len)];
        format.info().quantize(values, &mut bytes);
        writer.append(&bytes).expect("a tensor");
    }
    writer.finish().expect("a whole file");
    let whole = std::fs::read(&path).expect("the file");
    std::fs::remove_file(&path).expect("no file is left");
    let gguf = Gguf::parse(Bytes::from_vec(whole).expect("memory")).expect("sound");
    gguf.tensors().to_vec()
}

fn wide(x: &[Vec<f32>]) -> Vec<Vec<f64>> {
    x.iter().map(|x| x.iter().map(|x| f64::from(*x)).collect()).collect()
}

impl Case<'_> {
    pub(crate) fn check(&self) {
        println!("{}", self.what);
        let mut random = Random(21);
        let inputs: Vec<_> = self.inputs.iter().map(|[r, w]| random.gauss_vec(r * w)).collect();
        let weights: Vec<_> =
            self.weights.iter().map(|[r, w]| random.gauss_vec(r * w * self.experts)).collect();
        let mut tape = Tape::new(TapeOptions { threads: 2, ..Default::default() }).expect("a tape");
        let handles: Vec<_> = self
            .weights
            .iter()
            .zip(&weights)
            .map(|([rows, cols], values)| match rows {
                1 => tape.vector(&tensors(Format::F32, &[*cols], values)[0]),
                _ => tape.weight(&tensors(Format::F32, &[*cols, *rows], values)),
            })
            .map(|weight| weight.expect("f32 is known"))
            .collect();
        // Views inside larger buffers, so that strides and offsets count.
        let views: Vec<View> = self
            .inputs
            .iter()
            .map(|[rows, width]| {
                let whole = tape.buffer(rows + 2, width + 3).expect("memory");
                View { row: 1, rows: *rows, column: 2, width: *width, ..whole }
            })
            .collect();
        views.iter().zip(&inputs).for_each(|(view, values)| tape.write(*view, values));
        let mark = tape.mark();
        let out = (self.run)(&mut tape, &views, &handles);
        let given = random.gauss_vec(out.rows * out.width);
        tape.seed(out, &given);
        tape.back_to(mark);

        let (mut inputs, mut weights) = (wide(&inputs), wide(&weights));
        let loss = |inputs: &[Vec<f64>], weights: &[Vec<f64>]| -> f64 {
            let result = (self.definition)(inputs, weights);
            assert_eq!(result.len(), given.len(), "{}", self.what);
            result.iter().zip(&given).map(|(y, g)| y * f64::from(*g)).sum()
        };
        for i in 0..inputs.len() {
            let found = tape.gradient(views[i]);
            let expected = differences(inputs[i].len(), |at, step| {
                inputs[i][at] += step;
                let value = loss(&inputs, &weights);
                inputs[i][at] -= step;
                value
            });
            near(&found, &expected, &format!("{}, input {i}", self.what));
        }
        for i in 0..weights.len() {
            let found = tape.parameters()[i].gradient().to_vec();
            let expected = differences(weights[i].len(), |at, step| {
                weights[i][at] += step;
                let value = loss(&inputs, &weights);
                weights[i][at] -= step;
                value
            });
            near(&found, &expected, &format!("{}, weight {i}", self.what));
        }
    }
}

fn differences(len: usize, mut at: impl FnMut(usize, f64) -> f64) -> Vec<f64> {
    (0..len).map(|i| (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP)).collect()
}

/// Within what as many roundings can do to the largest derivative.
fn near(found: &[f32], expected: &[f64], what: &str) {
    let largest = expected.iter().fold(1e-3, |max: f64, x| max.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        let bound = ROUNDINGS * EPSILON * largest;
        assert!(error <= bound, "{what} [{i}]: {found:e}, expected {expected:e} within {bound:e}");
    }
}
