//! What a device can do: the trait the model is written against, and the handles it speaks in.
//!
//! The forward pass is written once, in [`crate::model`], as calls to [`Backend`]. The CPU runs each
//! call, a graphics device records it, a training tape remembers it, a planner counts its bytes.
//!
//! Operands are handles, outputs come first. A [`View`] names a rectangle of a buffer, so that
//! concatenating, splitting and permuting need no operation of their own.

#[cfg(feature = "std")]
mod compare;
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "std")]
mod pair;
#[cfg(feature = "std")]
mod split;
mod threads;
#[cfg(feature = "std")]
mod watch;

#[cfg(feature = "std")]
pub use compare::{Compare, Departure, Findings};
pub use cpu::{Cpu, CpuOptions};
#[cfg(feature = "gpu")]
pub(crate) use gpu::Outside;
#[cfg(feature = "gpu")]
pub use gpu::{DeviceInfo, Gpu, GpuOptions};
#[cfg(feature = "std")]
pub use split::Split;
pub use threads::Executor;
#[cfg(feature = "train")]
pub(crate) use threads::Threads;
#[cfg(feature = "std")]
pub use watch::{Inputs, Observations, Watch};

use crate::gguf::Tensor;
use crate::memory::text;
use crate::{Error, Result};
use alloc::vec::Vec;
use attar_kernels::{Format, math};

/// Weights on a device: one matrix, or one an expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(pub(crate) u32);

/// f32 rows on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer(pub(crate) u32);

/// Keys and values of one layer, by sequence and position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache(pub(crate) u32);

/// Rotation angles, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotary(pub(crate) u32);

/// Which experts each row goes to, and with what weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routing(pub(crate) u32);

/// A rectangle of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The buffer.
    pub buffer: Buffer,
    /// First row.
    pub row: usize,
    /// Number of rows.
    pub rows: usize,
    /// First column.
    pub column: usize,
    /// Number of columns.
    pub width: usize,
}

impl View {
    /// The first `rows` rows.
    pub fn first(self, rows: usize) -> Self {
        self.rows_at(0, rows)
    }

    /// `rows` rows from `row`, counted within this view.
    pub fn rows_at(self, row: usize, rows: usize) -> Self {
        assert!(row + rows <= self.rows);
        Self { row: self.row + row, rows, ..self }
    }

    /// The first `width` columns.
    pub fn columns(self, width: usize) -> Self {
        assert!(width <= self.width);
        Self { width, ..self }
    }
}

/// One row of a batch: which sequence it continues and where it stands in it. Decoding is one row,
/// a prompt is many rows of one sequence, serving is rows of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Sequence, below [`CacheShape::sequences`].
    pub sequence: u32,
    /// Position, below [`CacheShape::context_len`].
    pub position: u32,
}

/// Size and encoding of a [`Cache`].
#[derive(Clone, Copy, Debug)]
pub struct CacheShape {
    /// Independent sequences.
    pub sequences: usize,
    /// Positions a sequence.
    pub context_len: usize,
    /// Heads that have keys and values of their own.
    pub heads: usize,
    /// Query heads that read them, a multiple of `heads`.
    pub query_heads: usize,
    /// Width of a key.
    pub key_len: usize,
    /// Width of a value.
    pub value_len: usize,
    /// F32, F16, or Q8_0 where heads are whole blocks.
    pub format: Format,
}

impl CacheShape {
    /// Bytes of the keys and of the values.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another format or heads that are no whole blocks, [`Error::Limit`].
    fn bytes(&self) -> Result<(usize, usize)> {
        let Self { key_len, value_len, format, .. } = *self;
        let info = format.info();
        if !matches!(format, Format::F32 | Format::F16 | Format::Q8_0) {
            let name = info.name;
            return Err(Error::Unsupported(text!(
                "a key-value cache in {name}; use f32, f16 or q8_0"
            )));
        }
        if [key_len, value_len].iter().any(|len| !len.is_multiple_of(info.block_len)) {
            let (name, block) = (info.name, info.block_len);
            return Err(Error::Unsupported(text!(
                "a key-value cache in {name} for keys of {key_len} and values of {value_len} \
                 numbers; it needs multiples of {block}"
            )));
        }
        let lines = [self.sequences, self.heads, self.context_len]
            .iter()
            .try_fold(1usize, |product, n| product.checked_mul(*n));
        let of = |len: usize| lines.and_then(|lines| lines.checked_mul(info.row_bytes(len)));
        of(key_len).zip(of(value_len)).ok_or_else(|| {
            let len = self.context_len;
            Error::Limit(text!("a cache of {len} positions has more bytes than addresses"))
        })
    }
}

/// Format, rows and columns of each of the matrices, one or one an expert.
///
/// # Errors
/// [`Error::Unsupported`] if they are not alike or no kernel reads them.
pub(crate) fn matrix_shape(experts: &[Tensor]) -> Result<(Format, usize, usize)> {
    let first = &experts[0];
    let format = first.format()?;
    let (cols, rows) = (first.dims[0], first.dims[1..].iter().product());
    match experts.iter().find(|t| t.kind != first.kind || t.dims != first.dims) {
        None => Ok((format, rows, cols)),
        Some(other) => {
            let (name, kind, expected) = (&other.name, other.kind.name, first.kind.name);
            Err(Error::Unsupported(text!(
                "tensor '{name}' of {:?} {kind} among experts of {:?} {expected}",
                other.dims,
                first.dims
            )))
        }
    }
}

/// How values pair up under rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Values `2i` and `2i + 1` (RoFormer, arXiv 2104.09864).
    Adjacent,
    /// Values `i` and `i + n / 2` (GPT-NeoX).
    Halves,
}

/// A rotary position embedding.
#[derive(Debug)]
pub struct RotaryShape {
    /// Radians a position, for each pair; twice as many values of a head are rotated.
    pub frequencies: Vec<f64>,
    /// What rotated values are multiplied by; 1 but for YaRN.
    pub magnitude: f32,
    /// How values pair up.
    pub pairing: Pairing,
}

impl RotaryShape {
    /// Cosine and sine, times the magnitude, of each pair at a position.
    pub(crate) fn angles(&self, position: u32) -> impl Iterator<Item = [f32; 2]> {
        self.frequencies.iter().map(move |frequency| {
            let (sin, cos) = math::sin_cos(f64::from(position) * frequency);
            [cos * self.magnitude, sin * self.magnitude]
        })
    }
}

/// How a router's scores become a choice of experts.
#[derive(Clone, Copy, Debug)]
pub struct RouteShape {
    /// Experts each row goes to.
    pub used: usize,
    /// Whether the weights of the chosen are scaled to sum to 1.
    pub normalize: bool,
    /// What the weights are multiplied by.
    pub scale: f32,
}

/// Kind of normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// By the root mean square.
    Rms,
    /// By mean and variance.
    Layer,
}

/// A device.
///
/// Loading methods claim memory and may fail; operations do neither. An operation on shapes that do
/// not match is a bug of the model code and panics.
pub trait Backend: Send {
    /// What it runs with: the CPU's kernels, or a graphics device's name.
    fn name(&self) -> &str;
    /// Threads that work, the caller's included.
    fn threads(&self) -> usize {
        1
    }
    /// Takes what is added or multiplied element by element: a bias, the weight of a norm.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] if the device cannot run the tensor's format.
    fn vector(&mut self, tensor: &Tensor) -> Result<Weight>;
    /// Takes a matrix `[rows, cols]`, or with several tensors one matrix an expert.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] if the device cannot run the tensor's format.
    fn weight(&mut self, experts: &[Tensor]) -> Result<Weight>;
    /// Claims `rows` rows of `width` zeros.
    fn buffer(&mut self, rows: usize, width: usize) -> Result<View>;
    /// Claims a cache.
    fn cache(&mut self, shape: CacheShape) -> Result<Cache>;
    /// Takes a rotation.
    fn rotary(&mut self, shape: RotaryShape) -> Result<Rotary>;
    /// Claims room for the routing of `rows` rows to `used` experts each.
    fn routing(&mut self, rows: usize, used: usize) -> Result<Routing>;
    /// Ends loading: claims what operations on up to `rows` rows need themselves. Nothing is
    /// allocated afterwards.
    fn seal(&mut self, rows: usize) -> Result<()>;
    /// Bytes claimed so far, weights left in their file not counted.
    fn claimed_bytes(&self) -> usize;
    /// Of these, the bytes of keys and values.
    fn cache_bytes(&self) -> usize;
    /// Bytes claimed so far in a device's own memory, weights included; 0 where it has none.
    fn device_bytes(&self) -> usize {
        0
    }
    /// Says that what is loaded or run from now on belongs to layer `index`; the number of layers
    /// stands for what comes after the last.
    fn layer(&mut self, _index: usize) {}
    /// Calls `each` with a cache's keys and values at the first `positions` of all sequences, as of the
    /// last reading, piece by piece: in the same order, and as many bytes each, on every device.
    fn cached(&self, cache: Cache, positions: usize, each: &mut dyn FnMut(&[u8]));
    /// The same pieces, to be overwritten.
    fn restore(&mut self, cache: Cache, positions: usize, fill: &mut dyn FnMut(&mut [u8]));

    /// Copies f32 values to the device, row after row.
    fn write(&mut self, out: View, values: &[f32]);
    /// Waits for what was asked and lends the values of a view that has whole rows.
    fn read(&mut self, x: View) -> Result<&[f32]>;
    /// How many values [`Backend::largest`] finds at most; 0 where reading them all is as good.
    fn largest_max(&self) -> usize {
        0
    }
    /// Waits for what was asked and lends the `count` largest values of a view of one whole row with
    /// their columns: largest first, of equals the lower column, what is no number last. Fewer come where
    /// the row has fewer, and what is minus infinity or no number may be left out.
    fn largest(&mut self, _x: View, _count: usize) -> Result<&[(f32, u32)]> {
        Ok(&[])
    }

    /// `out[r] = table[ids[r]]`.
    fn embed(&mut self, out: View, table: Weight, ids: &[u32]);
    /// `out[r, i] = sum over k of w[i, k] * x[r, k]`.
    fn matmul(&mut self, out: View, w: Weight, x: View);
    /// `out = x`.
    fn copy(&mut self, out: View, x: View);
    /// `x += y`.
    fn add(&mut self, x: View, y: View);
    /// `x[r] += bias`.
    fn add_bias(&mut self, x: View, bias: Weight);
    /// `x *= factor`.
    fn scale(&mut self, x: View, factor: f32);
    /// `x[r] *= sigmoid(gate[r])`, `gate` one column wide.
    fn scale_rows(&mut self, x: View, gate: View);
    /// Normalises every `group` columns of `x` and multiplies them by the norm's weight; `out` may
    /// be `x`.
    fn norm(&mut self, out: View, x: View, norm: NormShape, group: usize);
    /// `x = gelu(x)` by the hyperbolic tangent (arXiv 1606.08415).
    fn gelu(&mut self, x: View);
    /// `gate = silu(gate) * up`.
    fn swiglu(&mut self, gate: View, up: View);
    /// Rotates the first values of each of `heads` heads by their row's position.
    fn rope(&mut self, x: View, heads: usize, rotary: Rotary, rows: &[Row]);
    /// Puts a key and a value into the cache at each row's place.
    fn store(&mut self, cache: Cache, key: View, value: View, rows: &[Row]);
    /// Attention of each row to the positions up to its own, scores multiplied by `scale` before the
    /// softmax (arXiv 1706.03762). Query head `h` reads head `h / (query_heads / heads)` of the cache
    /// (grouped queries, arXiv 2305.13245).
    fn attention(&mut self, out: View, query: View, cache: Cache, scale: f32, rows: &[Row]);
    /// Softmax of each row of `scores` and choice of its largest; ties go to the lower number.
    fn route(&mut self, routing: Routing, scores: View, shape: RouteShape);
    /// `out[r * used + j] = w[expert j of row r] * x[r]`; or, if `x` has a row for each choice
    /// already, `* x[r * used + j]`.
    fn matmul_experts(&mut self, out: View, w: Weight, x: View, routing: Routing);
    /// `x[slot] *= factors[expert of slot]`, a slot being a choice of a row.
    fn scale_experts(&mut self, x: View, factors: Weight, routing: Routing);
    /// `out[r] = sum over j of weight j of row r * x[r * used + j]`.
    fn combine(&mut self, out: View, x: View, routing: Routing);
}

/// A normalisation without its place.
#[derive(Clone, Copy, Debug)]
pub struct NormShape {
    /// Kind.
    pub kind: NormKind,
    /// Multiplier of each column, if any.
    pub weight: Option<Weight>,
    /// Added to the mean square or variance.
    pub eps: f32,
}
