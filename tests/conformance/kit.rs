//! The devices, weights with their exact values, and comparison within bounds.

use crate::random::Random;
use attar::backend::{Backend, Cpu, CpuOptions, View, Weight};
use attar::gguf::write::{TensorPlan, Writer};
use attar::gguf::{Tensor, TensorType};
use attar::kernels::{self, SUPERBLOCK, Superblock};
use attar::{Error, Format, Gguf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Half a unit in the last place of 1: what one rounding costs, relatively.
pub(crate) const EPSILON: f64 = 1.0 / (1u64 << 24) as f64;
/// A unit in the last place of 1 in f16, and what f16 may lose of its own below 2^-14 where rows reach 2^14.
const HALF: f64 = 1.0 / (1 << 10) as f64;
const TINY_HALF: f64 = 1.0 / (1u64 << 28) as f64;
/// What results may lose where a device flushes numbers below the normal ones to zero.
pub(crate) const TINY: f64 = 1.2e-38;
/// Bytes of a binding of the device that splits matrices; 16 rows of 256 f32 are one piece.
#[cfg(feature = "gpu")]
pub(crate) const SMALL_BINDING: usize = 16384;
/// What lies around a view; no operation may change it, nor take it in.
const AROUND: f32 = f32::NAN;

/// What a device does with the inputs of products with block formats. Those of floats it takes as they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Exact,
    /// Rounds them to 8 bits, 256 at a time.
    Bytes,
    /// Rounds a few rows to 8 bits, 32 at a time, where the matrix has 4 rows or more for each of its
    /// columns; multiplies many in f16.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "of graphics devices"))]
    Graphics {
        bytes: bool,
        halves: bool,
    },
}

/// What a product may lose beyond the rounding of f32.
#[derive(Clone, Copy)]
pub(crate) enum Rounding {
    None,
    /// Of inputs, under one scale for so many.
    Bytes(usize),
    /// Of inputs and weights, once they are near 2^15.
    Halves,
}

/// A device to be tested.
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) arithmetic: Arithmetic,
    /// Keys and values are in the format asked for.
    pub(crate) keeps_formats: bool,
    /// Bytes a buffer may have.
    pub(crate) buffer_bytes: usize,
    open: Box<dyn Fn() -> Box<dyn Backend>>,
}

impl Device {
    pub(crate) fn open(&self) -> Box<dyn Backend> {
        (self.open)()
    }

    /// How it rounds in products with `rows` rows of input, each for `shared` rows of output.
    pub(crate) fn rounding(&self, weights: &Weights, rows: usize, shared: usize) -> Rounding {
        let wide = weights.rows * shared >= 4 * weights.cols;
        match self.arithmetic {
            _ if weights.format.info().is_float() => Rounding::None,
            Arithmetic::Bytes => Rounding::Bytes(SUPERBLOCK),
            Arithmetic::Graphics { bytes: true, .. } if rows <= 4 && wide => Rounding::Bytes(32),
            Arithmetic::Graphics { halves: true, .. } if rows > 4 => Rounding::Halves,
            _ => Rounding::None,
        }
    }

    /// Loads weights, or nothing where the device says that a piece of them does not fit its bindings.
    pub(crate) fn weight(&self, backend: &mut dyn Backend, weights: &Weights) -> Option<Weight> {
        match backend.weight(&weights.tensors) {
            Ok(weight) => Some(weight),
            Err(Error::Limit(_)) if self.buffer_bytes < usize::MAX => None,
            Err(e) => panic!("{}: {:?}: {e}", self.name, weights.format),
        }
    }

    /// Whether a buffer of `rows` rows of `width` fits, its rows padded.
    pub(crate) fn holds(&self, rows: usize, width: usize) -> bool {
        rows * width.next_multiple_of(32) * 4 <= self.buffer_bytes
    }
}

/// All devices of this machine.
pub(crate) fn devices() -> Vec<Device> {
    let cpus = kernels::available().map(|isa| Device {
        name: format!("cpu {}", isa.name()),
        arithmetic: Arithmetic::Bytes,
        keeps_formats: true,
        buffer_bytes: usize::MAX,
        open: Box::new(move || {
            let options = CpuOptions { threads: 2, isa: Some(isa), ..CpuOptions::default() };
            Box::new(Cpu::new(options).expect("a CPU"))
        }),
    });
    cpus.chain(tape()).chain(graphics()).collect()
}

#[cfg(not(feature = "train"))]
fn tape() -> Option<Device> {
    println!("skipped: built without training");
    None
}

/// The device that remembers what it ran.
#[cfg(feature = "train")]
fn tape() -> Option<Device> {
    use attar::train::{Tape, TapeOptions};
    let options = TapeOptions { threads: 2, ..TapeOptions::default() };
    Some(Device {
        name: "tape".to_owned(),
        arithmetic: Arithmetic::Exact,
        keeps_formats: false,
        buffer_bytes: usize::MAX,
        open: Box::new(move || Box::new(Tape::new(options).expect("a tape"))),
    })
}

#[cfg(not(feature = "gpu"))]
fn graphics() -> Vec<Device> {
    println!("skipped: built without graphics devices");
    Vec::new()
}

/// The graphics device with all it has, with no more than WebGPU promises, and with small bindings.
#[cfg(feature = "gpu")]
fn graphics() -> Vec<Device> {
    use attar::backend::{Gpu, GpuOptions};
    if Gpu::devices().is_empty() {
        println!("skipped: no graphics device and no driver that stands for one");
        return Vec::new();
    }
    let arithmetic = |options: &GpuOptions| {
        let gpu = Gpu::open(options).expect("a listed device opens");
        let has = |name: &str| gpu.info().features.contains(&name);
        Arithmetic::Graphics { bytes: has("dot4I8Packed"), halves: has("f16") }
    };
    let device = |name: &str, options: GpuOptions| Device {
        name: name.to_owned(),
        arithmetic: arithmetic(&options),
        keeps_formats: true,
        buffer_bytes: options.binding_bytes_max.map_or(usize::MAX, |bytes| bytes as usize),
        open: Box::new(move || Box::new(Gpu::open(&options).expect("a listed device opens"))),
    };
    let small = Some(SMALL_BINDING as u64);
    vec![
        device("gpu", GpuOptions::default()),
        device("gpu baseline", GpuOptions { baseline: true, ..GpuOptions::default() }),
        device("gpu split", GpuOptions { binding_bytes_max: small, ..GpuOptions::default() }),
    ]
}

/// A matrix, or a stack of them, with the exact value of each weight.
pub(crate) struct Weights {
    pub(crate) format: Format,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// One an expert.
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) value: Vec<f64>,
    /// `|scale * code| + |min|`: devices may add the two apart, and round each.
    pub(crate) size: Vec<f64>,
    /// Of each row, more than its largest weight: what 256 codes under the largest scale reach, and the
    /// largest minimum.
    reach: Vec<f64>,
}

impl Weights {
    pub(crate) fn random(
        format: Format,
        [experts, rows, cols]: [usize; 3],
        random: &mut Random,
    ) -> Self {
        // Rows of different size, so that a scale taken from another row shows.
        let values: Vec<f32> = (0..experts * rows)
            .flat_map(|_| {
                let factor = random.gauss().abs() + 0.1;
                random.gauss_vec(cols).into_iter().map(move |w| factor * (w + 0.3))
            })
            .collect();
        Self::of(format, [experts, rows, cols], &values)
    }

    /// `values` as near as the format has them.
    pub(crate) fn of(format: Format, [_, rows, cols]: [usize; 3], values: &[f32]) -> Self {
        let info = format.info();
        let mut bytes = vec![0; info.row_bytes(values.len())];
        info.quantize(values, &mut bytes);
        let (mut value, mut size, mut reach) = (Vec::new(), Vec::new(), Vec::new());
        for row in bytes.chunks_exact(info.row_bytes(cols)) {
            reach.push(exact(format, cols, row, &mut value, &mut size));
        }
        let tensors = tensors(format, &[cols, rows], &bytes);
        Self { format, rows, cols, tensors, value, size, reach }
    }

    /// Product of row `row` of expert `expert` with `x`, and how far a device may be from it.
    pub(crate) fn dot(
        &self,
        expert: usize,
        row: usize,
        x: &[f32],
        rounding: Rounding,
    ) -> (f64, f64) {
        let start = (expert * self.rows + row) * self.cols;
        let (mut sum, mut size, mut rounded) = (0.0, 0.0, 0.0);
        // Of a number, and of the largest of its row or, of inputs, its chunk.
        let (chunk, of_own, of_input, of_weight) = match rounding {
            Rounding::None => (x.len(), 0.0, 0.0, 0.0),
            // The largest input has code 127, and an input is off by half a code at most.
            Rounding::Bytes(len) => (len, 0.0, 1.0 / 254.0, 0.0),
            // A unit in the last place, as WGSL lets a driver cut off; and numbers 2^28 times smaller than
            // the largest of their row have become too small for f16, which it may flush.
            Rounding::Halves => (x.len(), HALF, TINY_HALF, TINY_HALF),
        };
        let least = self.reach[expert * self.rows + row] * of_weight;
        for (b, x) in x.chunks(chunk).enumerate() {
            let max = x.iter().fold(0.0, |max: f64, x| max.max(f64::from(x.abs())));
            for (i, x) in x.iter().enumerate() {
                let (at, x) = (start + b * chunk + i, f64::from(*x));
                let w = self.value[at];
                let (w_off, x_off) = (w.abs() * of_own + least, x.abs() * of_own + max * of_input);
                sum += w * x;
                size += (self.size[at] + w_off) * (x.abs() + x_off);
                rounded += w.abs() * x_off + x.abs() * w_off + w_off * x_off;
            }
        }
        // n terms of a sum are rounded n times at most in any order; a product, its scale, its minimum and
        // a lane's zeros add a few.
        (sum, rounded * 1.001 + (self.cols + 16) as f64 * EPSILON * size + TINY)
    }
}

/// Appends a row's weights and their sizes; what its weights reach.
fn exact(
    format: Format,
    cols: usize,
    row: &[u8],
    value: &mut Vec<f64>,
    size: &mut Vec<f64>,
) -> f64 {
    let info = format.info();
    if info.is_float() {
        let mut values = vec![0.0; cols];
        info.dequantize(row, &mut values);
        value.extend(values.iter().map(|w| f64::from(*w)));
        size.extend(values.iter().map(|w| f64::from(w.abs())));
        return 0.0; // floats are not rounded
    }
    let (mut scale, mut least) = (0.0, 0.0);
    let mut block = Superblock::ZERO;
    for (b, bytes) in row.chunks(info.superblock_bytes()).enumerate() {
        info.unpack(bytes, &mut block);
        for i in 0..SUPERBLOCK.min(cols - b * SUPERBLOCK) {
            let group = i / info.group_len();
            let code = f64::from(i32::from(block.codes[i]) - info.offset());
            let (product, min) =
                (f64::from(block.scale[group]) * code, f64::from(block.min[group]));
            value.push(product - min);
            size.push(product.abs() + min.abs());
            scale = f64::max(scale, f64::from(block.scale[group].abs()));
            least = f64::max(least, min.abs());
        }
    }
    256.0 * scale + least
}

/// As many tensors of `dims` as `bytes` are, through a file that is gone at once.
fn tensors(format: Format, dims: &[usize], bytes: &[u8]) -> Vec<Tensor> {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let len = format.info().row_bytes(dims.iter().product());
    let plans: Vec<_> = (0..bytes.len() / len)
        .map(|i| TensorPlan {
            name: format!("w{i}"),
            kind: TensorType::of(format),
            dims: dims.to_vec(),
        })
        .collect();
    let (process, file) = (std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(format!("attar-conformance-{process}-{file}.gguf"));
    let mut writer = Writer::create(&path, std::iter::empty(), &plans).expect("a file");
    bytes.chunks_exact(len).for_each(|tensor| writer.append(tensor).expect("a tensor"));
    writer.finish().expect("a whole file");
    let whole = std::fs::read(&path).expect("the file");
    std::fs::remove_file(&path).expect("no file is left");
    let gguf = Gguf::parse(attar::bytes::Bytes::from_vec(whole).expect("memory")).expect("sound");
    gguf.tensors().to_vec()
}

/// A vector of f32 weights.
pub(crate) fn vector(values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensors(Format::F32, &[values.len()], &bytes).swap_remove(0)
}

/// A view inside a buffer of its own: with a margin of a row and of 4 columns on each side, or none.
#[derive(Clone, Copy)]
pub(crate) struct Area {
    whole: View,
    pub(crate) view: View,
}

impl Area {
    pub(crate) fn claim(backend: &mut dyn Backend, rows: usize, width: usize, inner: bool) -> Self {
        let margin = usize::from(inner);
        let whole = backend.buffer(rows + 2 * margin, width + 8 * margin).expect("a buffer");
        let view = View { row: margin, rows, column: 4 * margin, width, ..whole };
        Self { whole, view }
    }

    /// The whole buffer.
    #[cfg(feature = "gpu")]
    pub(crate) fn whole(&self) -> View {
        self.whole
    }

    /// Sets the view, and everything around it.
    pub(crate) fn fill(&self, backend: &mut dyn Backend, values: &[f32]) {
        backend.write(self.whole, &vec![AROUND; self.whole.rows * self.whole.width]);
        backend.write(self.view, values);
    }

    /// Sets the view to what no operation gives, and everything around it.
    pub(crate) fn clear(&self, backend: &mut dyn Backend) {
        self.fill(backend, &vec![-1e30; self.view.rows * self.view.width]);
    }

    /// The view's values; what is around it must be as it was.
    pub(crate) fn read(&self, backend: &mut dyn Backend, what: &str) -> Vec<f32> {
        let View { row, rows, column, width, .. } = self.view;
        let values = backend.read(self.whole).unwrap_or_else(|e| panic!("{what}: {e}"));
        let mut inside = Vec::new();
        for (r, values) in values.chunks_exact(self.whole.width).enumerate() {
            for (c, value) in values.iter().enumerate() {
                if (row..row + rows).contains(&r) && (column..column + width).contains(&c) {
                    inside.push(*value);
                } else {
                    assert!(value.is_nan(), "{what}: row {r} column {c} outside is {value}");
                }
            }
        }
        inside
    }
}

/// Fails where a value is further from what is expected than its bound.
pub(crate) fn assert_near(found: &[f32], expected: &[(f64, f64)], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, (value, bound))) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - value).abs();
        assert!(error <= *bound, "{what} [{i}]: {found:e}, expected {value:e} within {bound:e}");
    }
}

pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}
