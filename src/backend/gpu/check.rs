//! Whether a device multiplies as it says. What is experimental is asked before it is used.

use super::Gpu;
use crate::Result;
use crate::backend::Backend;
use crate::gguf::Tensor;
use attar_kernels::Format;

/// Rows and columns of a matrix and rows of input: more than one tile of each, and no whole ones.
const ROWS: usize = 80;
const COLS: usize = 64;
const INPUTS: usize = 70;

/// A whole number of four bits.
fn number(i: usize) -> i8 {
    (((i * 7919) >> 4) & 15) as i8 - 8
}

impl Gpu {
    /// Whether a product in tiles comes out exactly: all numbers in it are whole and small, so no way of
    /// multiplying need round.
    pub(super) fn multiplies_exactly(mut self) -> Result<bool> {
        let mut bytes = Vec::new();
        for block in 0..ROWS * COLS / 32 {
            bytes.extend([0x00, 0x3c]); // a scale of 1
            bytes.extend((0..32).map(|i| number(32 * block + i) as u8));
        }
        let w = self.weight(&[Tensor::unnamed(Format::Q8_0, &[COLS, ROWS], bytes)?])?;
        let (x, out) = (self.buffer(INPUTS, COLS)?, self.buffer(INPUTS, ROWS)?);
        self.seal(INPUTS)?;
        let input = |r: usize, c: usize| number(3 + r * COLS + 5 * c);
        let values = (0..INPUTS).flat_map(|r| (0..COLS).map(move |c| f32::from(input(r, c))));
        self.write(x, &values.collect::<Vec<_>>());
        self.matmul(out, w, x);
        let sum = |r: usize, row: usize| {
            let term = |c| i32::from(number(row * COLS + c)) * i32::from(input(r, c));
            (0..COLS).map(term).sum::<i32>() as f32
        };
        let expected = (0..INPUTS).flat_map(|r| (0..ROWS).map(move |row| sum(r, row)));
        Ok(self.read(out)?.iter().copied().eq(expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::GpuOptions;

    #[test]
    fn a_device_that_is_right_passes_its_check() {
        if Gpu::devices().is_empty() {
            println!("skipped: no graphics device and no driver that stands for one");
            return;
        }
        for baseline in [false, true] {
            let gpu = Gpu::open(&GpuOptions { baseline, ..GpuOptions::default() });
            assert!(gpu.expect("a listed device opens").multiplies_exactly().expect("a product"));
        }
    }
}
