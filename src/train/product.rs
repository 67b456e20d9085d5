//! f32 products for training, by the crate `matrixmultiply`, divided among our own threads.
//!
//! An element's sum runs over the inner dimension in an order that depends on its length alone, so the
//! number of threads changes no bit.
#![allow(unsafe_code, reason = "the crate takes pointers; bounds are checked here")]

use crate::backend::Threads;

/// A matrix somewhere in a slice: element `(r, c)` is `data[r * row_step + c * column_step]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_step: usize,
    pub(crate) column_step: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `columns`, each `step` after the last.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize, step: usize) -> Self {
        Self { data, rows, columns, row_step: step, column_step: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        let Self { data, rows, columns, row_step, column_step } = self;
        Self { data, rows: columns, columns: rows, row_step: column_step, column_step: row_step }
    }

    fn rows_from(self, first: usize, rows: usize) -> Self {
        assert!(first + rows <= self.rows);
        Self { data: &self.data[first * self.row_step..], rows, ..self }
    }

    fn end(&self) -> usize {
        match (self.rows, self.columns) {
            (0, _) | (_, 0) => 0,
            (rows, columns) => (rows - 1) * self.row_step + (columns - 1) * self.column_step + 1,
        }
    }
}

/// Columns `column..column + columns` of rows of `step`.
pub(crate) struct Target<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) step: usize,
    pub(crate) column: usize,
    pub(crate) columns: usize,
}

/// `out = keep * out + factor * a b`; where `keep` is 0, what `out` held does not matter.
pub(crate) fn multiply(out: &mut Target<'_>, keep: f32, factor: f32, a: Matrix<'_>, b: Matrix<'_>) {
    let (rows, inner, columns) = (a.rows, a.columns, b.columns);
    assert!(b.rows == inner && out.columns == columns && out.column + columns <= out.step);
    assert!(a.end() <= a.data.len() && b.end() <= b.data.len());
    assert!(rows == 0 || (rows - 1) * out.step + out.column + columns <= out.data.len());
    let target = out.data[out.column..].as_mut_ptr();
    // SAFETY: all three matrices lie in their slices by the assertions, and the slice written to is
    // borrowed mutably, so that it meets no other.
    unsafe {
        matrixmultiply::sgemm(
            rows,
            inner,
            columns,
            factor,
            a.data.as_ptr(),
            a.row_step as isize,
            a.column_step as isize,
            b.data.as_ptr(),
            b.row_step as isize,
            b.column_step as isize,
            keep,
            target,
            out.step as isize,
            1,
        );
    }
}

/// The same, the rows of `out` divided among threads.
pub(crate) fn multiply_on(
    threads: &mut Threads,
    out: Target<'_>,
    keep: f32,
    factor: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    let Target { data, step, column, columns } = out;
    let share = a.rows.div_ceil(threads.count()).max(1);
    let mut parts: Vec<&mut [f32]> = data.chunks_mut(share * step).collect();
    let count = a.rows.div_ceil(share);
    threads.each(&mut parts[..count], |part, data| {
        let first = part * share;
        let a = a.rows_from(first, share.min(a.rows - first));
        multiply(&mut Target { data, step, column, columns }, keep, factor, a, b);
    });
}

/// The sum of products, in eight lanes added in a fixed order.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut lanes = [0.0f32; 8];
    for (a, b) in a8.iter().zip(b8) {
        (0..8).for_each(|i| lanes[i] += a[i] * b[i]);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, seed: u32) -> Vec<f32> {
        let hash = |i: u32| i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 20;
        (0..len).map(|i| hash(i as u32) as f32 / 2048.0 - 1.0).collect()
    }

    /// All transpositions, with margins, on any number of threads: within the bound of a sum in any
    /// order, and equal bits.
    #[test]
    fn products_are_right_and_equal_on_any_number_of_threads() {
        for (rows, inner, columns) in [(1, 1, 1), (3, 70, 5), (130, 300, 17), (65, 9, 33)] {
            let (a_data, b_data) = (values(inner * rows + 7, 1), values(inner * columns + 7, 2));
            let a = Matrix::new(&a_data, inner, rows, rows).transposed();
            let b = Matrix::new(&b_data, columns, inner, inner).transposed();
            let step = columns + 3;
            let first = values(rows * step, 3);
            let mut results = Vec::new();
            for threads in [1, 2, 3] {
                let mut threads = Threads::new(threads, None).expect("threads");
                let mut data = first.clone();
                let out = Target { data: &mut data, step, column: 2, columns };
                multiply_on(&mut threads, out, 0.5, 2.0, a, b);
                results.push(data);
            }
            assert!(results.iter().all(|data| *data == results[0]));
            for (i, (found, before)) in results[0].iter().zip(&first).enumerate() {
                let (r, c) = (i / step, i % step);
                if !(2..2 + columns).contains(&c) {
                    assert_eq!(found, before);
                    continue;
                }
                let terms = (0..inner).map(|k| {
                    f64::from(a_data[k * rows + r]) * f64::from(b_data[(c - 2) * inner + k])
                });
                let (sum, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()));
                let expected = f64::from(*before) * 0.5 + 2.0 * sum;
                let bound = (inner + 4) as f64 * 6e-8 * (2.0 * size + 1.0);
                assert!((f64::from(*found) - expected).abs() <= bound, "{found} {expected}");
            }
        }
    }

    #[test]
    fn a_dot_product_takes_every_term() {
        let (a, b) = (values(21, 4), values(21, 5));
        let expected: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        assert!((f64::from(dot(&a, &b)) - expected).abs() < 1e-5);
    }
}
