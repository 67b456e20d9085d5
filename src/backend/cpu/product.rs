//! Matrix products: inputs are brought into the form the kernels read, once for all matrices that
//! share them, and rows of the matrix are divided among the threads.

use super::{Cpu, Matrices, Rows};
use crate::Result;
use crate::backend::threads::{Ahead, Matrix, Threads};
use crate::backend::{Buffer, View, Weight};
use crate::memory::{self, Block};
use alloc::vec::Vec;
use attar_kernels::{Format, Isa, PanelArgs};

/// From this many columns on, unpacking a panel of weights pays.
const PANEL_COLUMNS_MIN: usize = 4;
/// Rows of a block when one column is multiplied, and how many blocks a thread takes at a time: few rows,
/// so that threads end together, and long runs, as memory likes them.
const MATVEC_ROWS: usize = 16;
const MATVEC_RUN: usize = 4;

/// Kernels, threads, and the memory products need.
pub(super) struct Engine {
    pub(super) isa: &'static Isa,
    pub(super) pool: Threads,
    /// One a thread.
    pub(super) scratch: Vec<Scratch>,
    /// The input as [`Isa::matvec`] reads it, column after column.
    activations: Block<u8>,
    /// What `activations` holds: a view, and whether as floats.
    holds: Option<(View, bool)>,
    /// The matrix multiplied last.
    last: Option<Weight>,
    /// The columns at work as [`Isa::panel`] reads them.
    packed: Block<u8>,
    /// 0, 1, 2, ...: the rows of an ordinary product.
    identity: Block<u32>,
    float_cols_max: usize,
    block_cols_max: usize,
    panel_bytes_max: usize,
}

/// What one thread needs for itself.
#[derive(Default)]
pub(super) struct Scratch {
    panel: Block<u8>,
    tile: Block<f32>,
    pub(super) attention: Block<f32>,
}

/// Which columns are multiplied and to which rows of the output the results go.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) sources: &'a [u32],
    pub(super) targets: &'a [u32],
}

/// A block, its bytes added to `total`.
fn claim<T: Copy>(len: usize, value: T, total: &mut usize) -> Result<Block<T>> {
    let block = Block::claim(len, value)?;
    *total += Block::<T>::bytes(len);
    Ok(block)
}

impl Engine {
    pub(super) fn new(isa: &'static Isa, pool: Threads) -> Result<Self> {
        let scratch = memory::collect((0..pool.count()).map(|_| Scratch::default()))?;
        Ok(Self {
            isa,
            pool,
            scratch,
            activations: Block::default(),
            holds: None,
            last: None,
            packed: Block::default(),
            identity: Block::default(),
            float_cols_max: 0,
            block_cols_max: 0,
            panel_bytes_max: 0,
        })
    }

    /// Notes that matrices of `cols` columns will come.
    pub(super) fn expect(&mut self, format: Format, cols: usize) {
        if format.info().is_float() {
            self.float_cols_max = self.float_cols_max.max(cols);
        } else {
            self.block_cols_max = self.block_cols_max.max(cols);
            self.panel_bytes_max = self.panel_bytes_max.max(Isa::panel_scratch_bytes(cols));
        }
    }

    /// Claims all scratch for batches of `rows`, each going to `used` experts; says how many bytes.
    pub(super) fn seal(&mut self, rows: usize, used: usize, attention: usize) -> Result<usize> {
        let (float, block) = (self.float_cols_max, self.block_cols_max);
        let bytes =
            |of: fn(Format, usize) -> usize| of(Format::F32, float).max(of(Format::Q8_0, block));
        let mut total = 0;
        let slots = rows.saturating_mul(used);
        // Smaller batches never come as panels.
        let panel_rows = if rows < PANEL_COLUMNS_MIN { 0 } else { rows };
        let panel_bytes = if panel_rows > 0 { self.panel_bytes_max } else { 0 };
        self.activations = claim(slots.saturating_mul(bytes(Isa::column_bytes)), 0, &mut total)?;
        self.packed = claim(panel_rows.saturating_mul(bytes(Isa::packed_bytes)), 0, &mut total)?;
        self.identity = claim(rows, 0, &mut total)?;
        self.identity.iter_mut().enumerate().for_each(|(i, id)| *id = i as u32);
        for scratch in &mut self.scratch {
            scratch.panel = claim(panel_bytes, 0, &mut total)?;
            scratch.tile = claim(panel_rows.saturating_mul(Isa::PANEL_ROWS_MAX), 0.0, &mut total)?;
            scratch.attention = claim(attention, 0.0, &mut total)?;
        }
        Ok(total)
    }

    /// Notes that `buffer` is about to change.
    pub(super) fn forget(&mut self, buffer: Buffer) {
        if self.holds.is_some_and(|(view, _)| view.buffer == buffer) {
            self.holds = None;
        }
    }

    /// Brings `x` into the form matrices of `format` read, unless it is there already.
    fn load(&mut self, format: Format, x: View, rows: &Rows) {
        let float = format.info().is_float();
        if self.holds == Some((x, float)) {
            return;
        }
        let bytes = Isa::column_bytes(format, x.width);
        let isa = self.isa;
        let columns = &mut self.activations[..x.rows * bytes];
        self.pool.rows(&mut self.scratch, columns, bytes, |_, r, column| {
            let values = rows.row(x, r);
            match float {
                true => column.copy_from_slice(bytemuck::cast_slice(values)),
                false => isa.quantize(values, column),
            }
        });
        self.holds = Some((x, float));
    }

    /// `out[targets[i]] = w * column sources[i]`.
    pub(super) fn multiply(
        &mut self,
        out: Matrix<'_>,
        w: &Matrices,
        expert: usize,
        batch: Batch<'_>,
    ) {
        if batch.sources.len() < PANEL_COLUMNS_MIN {
            self.multiply_rows(out, w, expert, batch);
        } else {
            self.multiply_panels(out, w, expert, batch);
        }
    }

    fn multiply_rows(&mut self, out: Matrix<'_>, w: &Matrices, expert: usize, batch: Batch<'_>) {
        let (isa, format) = (self.isa, w.format);
        let bytes = Isa::column_bytes(format, w.cols);
        let row_bytes = format.info().row_bytes(w.cols);
        let (activations, weights) = (&self.activations, &w.experts[expert]);
        self.pool.columns(&mut self.scratch, out, MATVEC_ROWS, MATVEC_RUN, |_, first, mut part| {
            let rows = &weights[first * row_bytes..][..part.width() * row_bytes];
            for (&source, &target) in batch.sources.iter().zip(batch.targets) {
                let column = &activations[source as usize * bytes..][..bytes];
                isa.matvec(format, rows, column, part.row(target as usize));
            }
        });
    }

    fn multiply_panels(&mut self, out: Matrix<'_>, w: &Matrices, expert: usize, batch: Batch<'_>) {
        let (isa, format, len) = (self.isa, w.format, w.cols);
        let info = format.info();
        let (bytes, packed_bytes) =
            (Isa::column_bytes(format, len), Isa::packed_bytes(format, len));
        let cols = batch.sources.len();
        let packed = &mut self.packed[..cols * packed_bytes];
        let activations = &self.activations;
        self.pool.rows(&mut self.scratch, packed, packed_bytes, |_, c, column| {
            let activations = &activations[batch.sources[c] as usize * bytes..][..bytes];
            match info.is_float() {
                true => column.copy_from_slice(activations),
                false => isa.pack(format, activations, column),
            }
        });
        let packed = &self.packed[..cols * packed_bytes];
        let row_bytes = info.row_bytes(len);
        let weights = &w.experts[expert];
        let share = out.width.div_ceil(self.scratch.len()).next_multiple_of(4);
        let block = Isa::panel_rows(len).min(share);
        self.pool.columns(&mut self.scratch, out, block, 1, |scratch, first, mut part| {
            let rows = part.width();
            let tile = &mut scratch.tile[..cols * rows];
            isa.panel(PanelArgs {
                format,
                w: &weights[first * row_bytes..][..rows * row_bytes],
                rows,
                len,
                x: packed,
                cols,
                out: tile,
                scratch: &mut scratch.panel,
            });
            for (values, &target) in tile.chunks_exact(rows).zip(batch.targets) {
                part.row(target as usize).copy_from_slice(values);
            }
        });
    }
}

impl Cpu {
    pub(super) fn product(&mut self, out: View, w: Weight, x: View) {
        let weights = &self.memory.weights[w.0 as usize];
        assert!(out.rows == x.rows && x.width == weights.cols && out.width == weights.rows);
        self.engine.load(weights.format, x, &self.memory.buffers[x.buffer.0 as usize]);
        self.look_ahead(w);
        let mut buffer = self.take(out.buffer);
        let identity = core::mem::take(&mut self.engine.identity);
        let batch = Batch { sources: &identity[..x.rows], targets: &identity[..x.rows] };
        self.engine.multiply(buffer.matrix(out), &self.memory.weights[w.0 as usize], 0, batch);
        self.engine.identity = identity;
        self.put(out.buffer, buffer);
    }

    /// Tells the threads which matrix will follow `w`: the one that did last time.
    fn look_ahead(&mut self, w: Weight) {
        let weights = &mut self.memory.weights;
        if let Some(last) = self.engine.last.replace(w) {
            weights[last.0 as usize].next = Some(w);
        }
        if let Some(next) = weights[w.0 as usize].next {
            let next = &weights[next.0 as usize];
            self.engine.pool.look_ahead(Ahead {
                start: next.experts[0].as_ptr().addr(),
                blocks: next.rows.div_ceil(MATVEC_ROWS),
                block_bytes: MATVEC_ROWS * next.format.info().row_bytes(next.cols),
            });
        }
    }

    /// Brings the input of several matrices into the form they read.
    pub(super) fn load(&mut self, w: Weight, x: View) {
        let weights = &self.memory.weights[w.0 as usize];
        assert!(x.width == weights.cols);
        self.engine.load(weights.format, x, &self.memory.buffers[x.buffer.0 as usize]);
    }
}
