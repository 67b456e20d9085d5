//! Products of matrices as dispatches: a pass over the matrix for each of few rows, or tiles of many.

use super::Gpu;
use super::encode::{NONE, Params};
use super::layout::{self, UNIT};
use super::memory::{Id, Matrix, Part, Piece};
use super::shaders::{Id as Shader, Key, LANES, Way};
use super::steps::{Product, Products};
use crate::Result;
use crate::backend::NormShape;
use attar_kernels::Format;

/// Rows of input up to which a product reads the matrix once a row; beyond, in tiles.
pub(super) const MATVEC_ROWS_MAX: usize = 4;
/// Rows of matrices for each of their columns from which on it pays to round their input in a step of its
/// own. A layer's gate and up have them, and the head; no more is dispatched for the sake of fewer.
const QUANTIZED_ROWS_MIN: usize = 4;
/// Workgroups in a row of the grid; WebGPU promises 65535.
const GRID: u32 = 32768;

impl Gpu {
    pub(super) fn products(&mut self, products: &Products) -> Result<()> {
        let Products { each: [first, ..], x, routing, .. } = *products;
        let pieces = 0..self.memory.matrix(first.w).pieces.len();
        if self.memory.input_rows(first.out, routing) > MATVEC_ROWS_MAX {
            return pieces.into_iter().try_for_each(|piece| self.matmul(products, piece));
        }
        let input = match self.takes_bytes(products) {
            true => self.quantize(products)?,
            false => Input {
                way: Way::Floats,
                id: self.id(x),
                at: self.at_fours(x),
                norm: products.norm,
            },
        };
        pieces.into_iter().try_for_each(|piece| self.matvec(products, input, piece))
    }

    /// Whether it pays to round the input of products.
    fn takes_bytes(&self, products: &Products) -> bool {
        let cols = self.memory.matrix(products.each[0].w).cols;
        let rows: usize = products.each().iter().map(|p| p.out.rows * p.out.width).sum();
        self.device.byte_products
            && products.each().iter().all(|p| Way::Bytes.takes(self.memory.matrix(p.w).format))
            && rows >= QUANTIZED_ROWS_MIN * cols * products.x.rows
    }

    /// Rounds the input of products, unless that was done already.
    fn quantize(&mut self, products: &Products) -> Result<Input> {
        let Products { x, norm, .. } = *products;
        let units = layout::units(x.width) as u32;
        if norm.is_some() || self.quantized != Some(x) {
            let weight = norm.and_then(|n| n.weight).map_or(0, |w| self.memory.vector(w) / 4);
            let params = Params::new(&self.at_fours(x))
                .push(&[units, x.width as u32, weight])
                .float(norm.map_or(0.0, |n| n.eps));
            let key = Key::new(Shader::Quantize, &[]).when(norm.is_some(), "NORM");
            let buffers = [self.id(x), self.fixed.vectors, self.fixed.quantized];
            self.dispatch(&key, &buffers, &params, [units.div_ceil(LANES), x.rows as u32, 1])?;
            self.quantized = if norm.is_none() { Some(x) } else { None };
        }
        let stride = units * (layout::QUANTIZED_BYTES / 16) as u32;
        Ok(Input { way: Way::Bytes, id: self.fixed.quantized, at: [0, stride], norm: None })
    }

    /// The part of a product that one piece makes, as `matvec` reads it.
    fn product(&self, product: Product, piece: usize) -> [u32; 12] {
        let matrix = self.memory.matrix(product.w);
        let [p, q, r, s] = matrix.pieces[piece].planes;
        let Part { row, rows, expert, experts } = matrix.part(piece);
        let [out, stride] = self.at(product.out);
        let bias = product.bias.map_or(NONE, |bias| self.memory.vector(bias) + row);
        let (stack, end, blocks) = (matrix.stack as u32, expert + experts, rows.div_ceil(4));
        [p, q, r, s, out + row, stride, rows, stack, expert, end, bias, blocks]
    }

    fn matvec(&mut self, products: &Products, input: Input, piece: usize) -> Result<()> {
        let Products { each, count, x, gated, add, routing, .. } = *products;
        let Input { way, id, at, norm } = input;
        let matrix = self.memory.matrix(each[0].w);
        let Matrix { cols, .. } = *matrix;
        let buffer = matrix.pieces[piece].buffer;
        let formats = each.map(|product| self.memory.matrix(product.w).format);
        let mut params = Params::default();
        let mut blocks = 0;
        for (i, product) in each.iter().enumerate() {
            let mut values = self.product(*product, piece);
            if i >= count {
                values[11] = 0; // no rows
            }
            if i < count && !(gated && i > 0) {
                blocks += values[11];
            }
            params = params.push(&values);
        }
        let units = layout::units(cols) as u32;
        let weight = norm.and_then(|n| n.weight).map_or(0, |w| self.memory.vector(w) / 4);
        let slots = each[0].out.rows;
        let used = if routing.is_some() { slots / x.rows } else { 1 };
        let params = params
            .push(&at)
            .push(&[units, cols as u32, weight])
            .float(norm.map_or(0.0, |n| n.eps))
            .push(&[u32::from(add), used as u32]);
        let key = self
            .weighing(Shader::Matvec, &formats[..count], cols)
            .by(way)
            .when(norm.is_some(), "NORM")
            .when(gated, "GATED")
            .when(routing.is_some(), "EXPERTS");
        let routes = routing.map_or(self.fixed.dummy, |r| self.memory.routings[r.0 as usize].id);
        let out = |i: usize| self.id(each[if i < count && !gated { i } else { 0 }].out);
        let buffers = [buffer, id, self.fixed.vectors, routes, out(0), out(1), out(2)];
        self.dispatch(&key, &buffers, &params, grid(blocks, slots as u32))
    }

    fn weighing(&self, shader: Shader, formats: &[Format], cols: usize) -> Key {
        Key::new(shader, formats).when(!cols.is_multiple_of(UNIT), "RAGGED")
    }

    fn matmul(&mut self, products: &Products, piece: usize) -> Result<()> {
        let Products { each: [product, ..], x, add, routing, .. } = *products;
        let matrix = self.memory.matrix(product.w);
        let Matrix { format, cols, stack, .. } = *matrix;
        let Piece { buffer, planes, .. } = matrix.pieces[piece];
        let Part { row, rows, expert, experts } = matrix.part(piece);
        let columns = product.out.rows as u32;
        let [out, stride] = self.at(product.out);
        let bias = product.bias.map_or(NONE, |bias| self.memory.vector(bias) + row);
        let routes = routing.map(|r| self.memory.routings[r.0 as usize]);
        let [order, starts] = routes.map_or([0; 2], |r| [r.order, r.starts]);
        let params = Params::new(&planes)
            .push(&[out + row, stride, rows, columns])
            .push(&self.at_fours(x))
            .push(&[layout::units(cols) as u32, cols as u32, bias, u32::from(add)])
            .push(&[stack as u32, expert, order, starts, columns / x.rows as u32]);
        let way = match &self.device {
            _ if !Way::Halves.takes(format) => Way::Singles,
            device if device.matrices => Way::Matrices,
            device if device.halves => Way::Halves,
            _ => Way::Singles,
        };
        let key = self.weighing(Shader::Matmul, &[format], cols).by(way);
        let key = key.when(routes.is_some(), "EXPERTS");
        let routes = routes.map_or(self.fixed.dummy, |r| r.id);
        let buffers = [buffer, self.id(x), self.fixed.vectors, routes, self.id(product.out)];
        self.dispatch(&key, &buffers, &params, [rows.div_ceil(64), columns.div_ceil(64), experts])
    }
}

/// The input of products as `matvec` reads it.
#[derive(Clone, Copy)]
struct Input {
    way: Way,
    id: Id,
    /// Start and stride, in 16 bytes.
    at: [u32; 2],
    /// What it still goes through.
    norm: Option<NormShape>,
}

/// `blocks` workgroups as a grid of rows, one layer a slot.
fn grid(blocks: u32, slots: u32) -> [u32; 3] {
    [blocks.min(GRID), blocks.div_ceil(GRID), slots]
}
