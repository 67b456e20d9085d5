//! Rows of f32, and copies of them that wait for the way back.

use crate::Result;
use crate::backend::{Threads, View};
use crate::memory;
use crate::train::product::{Matrix, Target};

/// A buffer's values or gradients.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) data: Vec<f32>,
    pub(super) stride: usize,
    /// The view whose present content was kept last, and where.
    pub(super) kept: Option<(View, usize)>,
}

impl Rows {
    pub(super) fn claim(rows: usize, width: usize) -> Result<Self> {
        let data = memory::filled(rows.saturating_mul(width), 0.0)?;
        Ok(Self { data, stride: width, kept: None })
    }

    pub(super) fn row(&self, view: View, r: usize) -> &[f32] {
        &self.data[(view.row + r) * self.stride + view.column..][..view.width]
    }

    pub(super) fn row_mut(&mut self, view: View, r: usize) -> &mut [f32] {
        &mut self.data[(view.row + r) * self.stride + view.column..][..view.width]
    }

    /// All rows of a view, in whole.
    fn whole(&mut self, view: View) -> &mut [f32] {
        &mut self.data[view.row * self.stride..][..view.rows * self.stride]
    }

    /// Calls `f(row index, columns)` for each row of a view, rows divided among the threads.
    pub(super) fn each(
        &mut self,
        threads: &mut Threads,
        view: View,
        f: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let mut rows: Vec<&mut [f32]> = Vec::with_capacity(view.rows);
        let stride = self.stride;
        rows.extend(
            self.whole(view)
                .chunks_exact_mut(stride)
                .map(|row| &mut row[view.column..][..view.width]),
        );
        threads.each(&mut rows, |r, row| f(r, row));
    }

    pub(super) fn matrix(&self, view: View) -> Matrix<'_> {
        let data = &self.data[view.row * self.stride + view.column..];
        Matrix::new(data, view.rows, view.width, self.stride)
    }

    pub(super) fn target(&mut self, view: View) -> Target<'_> {
        let step = self.stride;
        Target { data: self.whole(view), step, column: view.column, columns: view.width }
    }

    /// Sets a view to zeros.
    pub(super) fn clear(&mut self, view: View) {
        (0..view.rows).for_each(|r| self.row_mut(view, r).fill(0.0));
    }
}

/// Copies of views, each `[rows, width]`, in the order of the record; their memory is used again.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) blocks: Vec<Vec<f32>>,
    pub(super) used: usize,
}

impl Kept {
    /// Where a copy of the view is; one copy serves until the buffer changes.
    pub(super) fn keep(&mut self, rows: &mut Rows, view: View) -> usize {
        match rows.kept {
            Some((of, at)) if of == view && at < self.used => return at,
            _ => {}
        }
        let at = self.next();
        let block = &mut self.blocks[at];
        block.clear();
        (0..view.rows).for_each(|r| block.extend_from_slice(rows.row(view, r)));
        rows.kept = Some((view, at));
        at
    }

    /// Keeps values that are in no buffer.
    pub(super) fn keep_values(&mut self, values: &[f32]) -> usize {
        let at = self.next();
        self.blocks[at].clear();
        self.blocks[at].extend_from_slice(values);
        at
    }

    fn next(&mut self) -> usize {
        if self.used == self.blocks.len() {
            self.blocks.push(Vec::new());
        }
        self.used += 1;
        self.used - 1
    }

    /// Forgets all but the first `used`. What comes next may take their places under the same numbers, so
    /// buffers must forget them too: see [`super::Tape::back_to`].
    pub(super) fn truncate(&mut self, used: usize) {
        self.used = used;
    }
}
