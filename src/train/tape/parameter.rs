//! Weights: f32 that learn, or a file's own format that does not.

use crate::backend::Threads;
use crate::bytes::Bytes;
use crate::gguf::{Dims, Tensor};
use crate::train::product::Matrix;
use attar_kernels::Format;

/// Weights unpacked at a time from a matrix that does not learn: they stay in the cache.
const TILE_LEN: usize = 1 << 18;

/// A matrix, or one an expert, or a vector.
pub struct Parameter {
    pieces: Vec<Piece>,
    format: Format,
    /// Rows and columns of each matrix.
    rows: usize,
    cols: usize,
    /// Where it lies in its file, one an expert; not looked at once it is unpacked.
    frozen: Vec<Bytes>,
    /// All matrices, or nothing while the file's own format is used.
    value: Vec<f32>,
    /// What products use instead: the value rounded to a format it shall be written in.
    rounded: Option<Rounded>,
    /// Empty where it does not learn.
    gradient: Vec<f32>,
}

/// A value as it will be once it is written.
struct Rounded {
    format: Format,
    value: Vec<f32>,
}

/// The tensor of a file that a matrix came from.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Name.
    pub name: String,
    /// Sizes, the length of a row first.
    pub dims: Dims,
}

impl Parameter {
    pub(super) fn new(format: Format, shape: [usize; 2], tensors: &[Tensor], learns: bool) -> Self {
        let piece = |tensor: &Tensor| Piece { name: tensor.name.to_string(), dims: tensor.dims };
        let mut parameter = Self {
            pieces: tensors.iter().map(piece).collect(),
            format,
            rows: shape[0],
            cols: shape[1],
            frozen: tensors.iter().map(|tensor| tensor.bytes.clone()).collect(),
            value: Vec::new(),
            rounded: None,
            gradient: Vec::new(),
        };
        if learns {
            parameter.unpack();
            parameter.gradient = vec![0.0; parameter.value.len()];
        }
        parameter
    }

    /// Holds the weights in f32 from now on.
    pub(super) fn unpack(&mut self) {
        let len = self.rows * self.cols;
        self.value.resize(len * self.frozen.len(), 0.0);
        for (bytes, value) in self.frozen.iter().zip(self.value.chunks_exact_mut(len)) {
            self.format.info().dequantize(bytes, value);
        }
    }

    /// The tensors it came from, one an expert.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Whether it has a gradient.
    pub fn learns(&self) -> bool {
        !self.gradient.is_empty()
    }

    /// Length of a row.
    pub fn row_len(&self) -> usize {
        self.cols
    }

    /// All weights in f32, piece after piece; empty where the file's format is kept.
    pub fn value(&self) -> &[f32] {
        &self.value
    }

    /// Gradient of all weights since it was last cleared.
    pub fn gradient(&self) -> &[f32] {
        &self.gradient
    }

    /// Value and gradient, to be changed.
    pub(crate) fn both_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        (&mut self.value, &mut self.gradient)
    }

    pub(super) fn gradient_mut(&mut self) -> &mut [f32] {
        &mut self.gradient
    }

    /// Has products use the value rounded to `format`, as of the next [`Parameter::round`]; gradients pass
    /// the rounding as if it were not there (straight-through estimator, arXiv 1308.3432).
    pub(crate) fn round_to(&mut self, format: Format) {
        self.rounded = Some(Rounded { format, value: vec![0.0; self.value.len()] });
    }

    /// Rounds the value again after it has changed.
    pub(crate) fn round(&mut self, threads: &mut Threads) {
        let Some(Rounded { format, value }) = &mut self.rounded else { return };
        let info = format.info();
        let mut rows: Vec<_> =
            self.value.chunks_exact(self.cols).zip(value.chunks_exact_mut(self.cols)).collect();
        threads.each(&mut rows, |_, (row, rounded)| {
            let mut bytes = vec![0; info.row_bytes(row.len())];
            info.quantize(row, &mut bytes);
            info.dequantize(&bytes, rounded);
        });
    }

    /// What products use, where it is in f32.
    pub(super) fn used(&self) -> &[f32] {
        self.rounded.as_ref().map_or(&self.value, |rounded| &rounded.value)
    }

    /// One row of the first matrix.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        if self.value.is_empty() {
            let info = self.format.info();
            let bytes = info.row_bytes(self.cols);
            info.dequantize(&self.frozen[0][row * bytes..][..bytes], out);
        } else {
            out.copy_from_slice(&self.used()[row * self.cols..][..self.cols]);
        }
    }

    /// Calls `f(threads, first row, rows)` for the matrix of an expert: once, or tile by tile.
    pub(super) fn tiles(
        &self,
        expert: usize,
        threads: &mut Threads,
        tile: &mut Vec<f32>,
        mut f: impl FnMut(&mut Threads, usize, Matrix<'_>),
    ) {
        let Self { rows, cols, .. } = *self;
        if !self.value.is_empty() {
            let whole = &self.used()[expert * rows * cols..][..rows * cols];
            return f(threads, 0, Matrix::new(whole, rows, cols, cols));
        }
        if self.format == Format::F32
            && let Ok(whole) = bytemuck::try_cast_slice(&self.frozen[expert])
        {
            return f(threads, 0, Matrix::new(whole, rows, cols, cols));
        }
        let info = self.format.info();
        let row_bytes = info.row_bytes(cols);
        let most = (TILE_LEN / cols).max(1);
        for first in (0..rows).step_by(most) {
            let count = most.min(rows - first);
            tile.resize(count * cols, 0.0);
            let bytes = &self.frozen[expert][first * row_bytes..][..count * row_bytes];
            let mut pairs: Vec<_> =
                bytes.chunks_exact(row_bytes).zip(tile.chunks_exact_mut(cols)).collect();
            threads.each(&mut pairs, |_, (bytes, row)| info.dequantize(bytes, row));
            f(threads, first, Matrix::new(tile, count, cols, cols));
        }
    }

    /// Number of matrices.
    pub(super) fn experts(&self) -> usize {
        self.pieces.len()
    }

    /// Weights of one matrix.
    pub(super) fn matrix_len(&self) -> usize {
        self.rows * self.cols
    }

    pub(super) fn bytes(&self) -> usize {
        let rounded = self.rounded.as_ref().map_or(0, |rounded| rounded.value.len());
        (self.value.len() + self.gradient.len() + rounded) * size_of::<f32>()
    }
}
