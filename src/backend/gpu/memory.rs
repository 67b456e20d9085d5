//! What handles stand for on a device. Loading only notes sizes and places; [`Memory::make`] claims all of
//! it at once and copies the weights, piece by piece from where they lie in their file.

use super::cache::KeyValues;
use super::device::Device;
use super::layout::{self, PLANES, ROWS_STEP, UNIT};
use super::products::MATVEC_ROWS_MAX;
use crate::backend::{RotaryShape, Routing, View, Weight, matrix_shape};
use crate::gguf::Tensor;
use crate::memory::text;
use crate::{Error, Result};
use attar_kernels::Format;

/// Bytes of weights that share a buffer at most: few buffers bind fast, large ones are hard to find room for.
const CHUNK_BYTES_MAX: u64 = 1 << 29;
/// Bytes of a tensor that are rearranged and sent at a time.
const UPLOAD_BYTES: usize = 4 << 20;
/// Bytes sent before waiting, so that the driver does not pile up copies.
const UPLOAD_WAIT_BYTES: usize = 16 << 20;

/// A buffer of the device, by its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(pub(super) u32);

/// Matrices of one shape: one, or one an expert.
pub(super) struct Matrix {
    pub(super) format: Format,
    /// Of one matrix.
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) experts: usize,
    /// Rows from one expert's matrix to the next.
    pub(super) stack: usize,
    /// One unless a binding cannot hold them all.
    pub(super) pieces: Vec<Piece>,
    /// Where they lie until they are sent.
    tensors: Vec<Tensor>,
}

/// A part of matrices that lies in one buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) buffer: Id,
    /// Start of each plane, in 16 bytes.
    pub(super) planes: [u32; PLANES],
    /// First row and the one after the last; of experts, whole matrices instead of rows.
    pub(super) first: usize,
    pub(super) end: usize,
}

/// What of its matrices a piece has: of a stack whole ones, of one matrix some rows.
pub(super) struct Part {
    /// First row of a matrix, and how many.
    pub(super) row: u32,
    pub(super) rows: u32,
    /// First expert, and how many.
    pub(super) expert: u32,
    pub(super) experts: u32,
}

impl Matrix {
    pub(super) fn part(&self, piece: usize) -> Part {
        let Piece { first, end, .. } = self.pieces[piece];
        let (first, len) = (first as u32, (end - first) as u32);
        match self.experts {
            1 => Part { row: first, rows: len, expert: 0, experts: 1 },
            _ => Part { row: 0, rows: self.rows as u32, expert: first, experts: len },
        }
    }
}

/// What a weight's handle stands for.
pub(super) enum Held {
    Matrices(Matrix),
    /// Start among the vectors.
    Vector(u32),
}

/// Rows of f32; a row starts at a multiple of 32 values.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) id: Id,
    pub(super) stride: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Routes {
    pub(super) id: Id,
    pub(super) used: usize,
    /// Where weights start, behind the experts of all slots.
    pub(super) weights: u32,
    /// Where slots in the order of their experts start, and where these begin.
    pub(super) order: u32,
    pub(super) starts: u32,
}

pub(super) struct Turning {
    pub(super) shape: RotaryShape,
    pub(super) angles: Id,
}

#[derive(Default)]
pub(super) struct Memory {
    pub(super) weights: Vec<Held>,
    pub(super) buffers: Vec<Rows>,
    pub(super) caches: Vec<KeyValues>,
    pub(super) rotaries: Vec<Turning>,
    pub(super) routings: Vec<Routes>,
    vectors: Vec<f32>,
    /// The buffer of weights being filled.
    chunk: Option<Id>,
    sizes: Vec<u64>,
    made: Vec<wgpu::Buffer>,
}

impl Memory {
    /// Notes a buffer.
    pub(super) fn claim(&mut self, bytes: u64) -> Id {
        self.sizes.push(bytes.next_multiple_of(16).max(16));
        Id(self.sizes.len() as u32 - 1)
    }

    pub(super) fn claimed_bytes(&self) -> u64 {
        self.sizes.iter().sum()
    }

    pub(super) fn buffer(&self, id: Id) -> &wgpu::Buffer {
        &self.made[id.0 as usize]
    }

    pub(super) fn bytes(&self, id: Id) -> u64 {
        self.sizes[id.0 as usize]
    }

    pub(super) fn rows(&self, view: View) -> Rows {
        self.buffers[view.buffer.0 as usize]
    }

    /// Place of the first value of a view in its buffer.
    pub(super) fn start(&self, view: View) -> u32 {
        (view.row * self.rows(view).stride + view.column) as u32
    }

    /// Rows of input of products that are written to `out`.
    pub(super) fn input_rows(&self, out: View, routing: Option<Routing>) -> usize {
        routing.map_or(out.rows, |r| out.rows / self.routings[r.0 as usize].used)
    }

    pub(super) fn matrix(&self, w: Weight) -> &Matrix {
        match &self.weights[w.0 as usize] {
            Held::Matrices(matrix) => matrix,
            Held::Vector(_) => panic!("a vector is no matrix"),
        }
    }

    /// Start of a vector among the vectors.
    pub(super) fn vector(&self, w: Weight) -> u32 {
        match self.weights[w.0 as usize] {
            Held::Vector(start) => start,
            Held::Matrices(_) => panic!("a matrix is no vector"),
        }
    }

    pub(super) fn add_vector(&mut self, tensor: &Tensor) -> Result<()> {
        let (format, len) = (tensor.format()?, tensor.row_len());
        let start = self.vectors.len();
        // A unit that is read in whole ends inside.
        self.vectors.resize((start + len).next_multiple_of(UNIT), 0.0);
        format.info().dequantize(&tensor.bytes, &mut self.vectors[start..start + len]);
        self.weights.push(Held::Vector(start as u32));
        Ok(())
    }

    /// Gives matrices their places.
    pub(super) fn add_matrices(&mut self, tensors: &[Tensor], most: u64) -> Result<()> {
        let (format, rows, cols) = matrix_shape(tensors)?;
        let most = most.min(CHUNK_BYTES_MAX);
        // Split between experts, or else between rows.
        let is_stack = tensors.len() > 1;
        let stack = if is_stack { rows.next_multiple_of(ROWS_STEP) } else { rows };
        let step = if is_stack { stack } else { ROWS_STEP };
        let count = if is_stack { tensors.len() } else { rows.div_ceil(ROWS_STEP) };
        let bytes = |n: usize| layout::matrix_bytes(format, n.saturating_mul(step), cols) as u64;
        if bytes(1) > most {
            let name = &tensors[0].name;
            return Err(Error::Limit(text!(
                "tensor '{name}': {} bytes in one piece, expected at most {most} on this device",
                bytes(1)
            )));
        }
        let mut pieces = Vec::new();
        let mut start = 0;
        while start < count {
            let mut len = ((most / bytes(1)) as usize).clamp(1, count - start);
            while len > 1 && bytes(len) > most {
                len -= 1; // what a plane is rounded up by
            }
            let end = start + len;
            let (planes, buffer) = self.place(format, len * step * layout::units(cols), most);
            let (first, end) =
                if is_stack { (start, end) } else { (start * step, (end * step).min(rows)) };
            pieces.push(Piece { buffer, planes, first, end });
            start += len;
        }
        let tensors = tensors.to_vec();
        let experts = tensors.len();
        let matrix = Matrix { format, rows, cols, experts, stack, pieces, tensors };
        self.weights.push(Held::Matrices(matrix));
        Ok(())
    }

    /// Room for `units` units, behind the last where it fits.
    fn place(&mut self, format: Format, units: usize, most: u64) -> ([u32; PLANES], Id) {
        let planes = layout::plane_bytes(format, units);
        let bytes: usize = planes.iter().sum();
        let fits = |id: &Id| self.bytes(*id) + bytes as u64 <= most;
        let buffer = self.chunk.filter(fits).unwrap_or_else(|| {
            self.sizes.push(0);
            Id(self.sizes.len() as u32 - 1)
        });
        self.chunk = Some(buffer);
        let mut at = self.bytes(buffer);
        self.sizes[buffer.0 as usize] += bytes as u64;
        let planes = planes.map(|bytes| {
            let start = (at / 16) as u32;
            at += bytes as u64;
            start
        });
        (planes, buffer)
    }

    /// The buffer of all vectors: call once, after the last was added.
    pub(super) fn claim_vectors(&mut self) -> Id {
        self.claim(self.vectors.len() as u64 * 4)
    }

    /// Bytes of the widest inputs of products with blocks, of batches of `rows`, once they are bytes.
    pub(super) fn quantized_bytes(&self, rows: usize) -> u64 {
        let widths = self.weights.iter().filter_map(|held| match held {
            Held::Matrices(matrix) if !matrix.format.info().is_float() => Some(matrix.cols),
            _ => None,
        });
        let used = self.routings.iter().map(|routes| routes.used).max().unwrap_or(1);
        let units = layout::units(widths.max().unwrap_or(0)) * rows.min(MATVEC_ROWS_MAX) * used;
        (units * layout::QUANTIZED_BYTES) as u64
    }

    /// Claims everything on the device and copies what is known already.
    pub(super) fn make(&mut self, device: &Device, vectors: Id) -> Result<()> {
        for bytes in &self.sizes {
            let most = device.binding_bytes_max.max(256);
            if *bytes > most {
                return Err(Error::Limit(text!(
                    "{bytes} bytes in one buffer, expected at most {most} on this device"
                )));
            }
            let usage = wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST;
            let descriptor = wgpu::BufferDescriptor {
                label: None,
                size: *bytes,
                usage,
                mapped_at_creation: false,
            };
            let what = format!("a buffer of {bytes} bytes");
            self.made.push(device.scoped(&what, || device.device.create_buffer(&descriptor))?);
        }
        device.queue.write_buffer(self.buffer(vectors), 0, bytemuck::cast_slice(&self.vectors));
        self.vectors = Vec::new();
        self.send_matrices(device)
    }

    fn send_matrices(&mut self, device: &Device) -> Result<()> {
        let mut sent = 0;
        for held in &mut self.weights {
            let Held::Matrices(matrix) = held else { continue };
            for tensor in 0..matrix.tensors.len() {
                send(device, &self.made, matrix, tensor, &mut sent)?;
            }
            matrix.tensors = Vec::new();
        }
        device.queue.submit([]);
        device.wait()
    }
}

/// Sends one tensor of `matrix` to the pieces it lies in.
fn send(
    device: &Device,
    made: &[wgpu::Buffer],
    matrix: &Matrix,
    tensor: usize,
    sent: &mut usize,
) -> Result<()> {
    let Matrix { format, rows, cols, .. } = *matrix;
    let bytes = &matrix.tensors[tensor].bytes;
    let row_bytes = format.info().row_bytes(cols);
    let is_stack = matrix.experts > 1;
    // Rows of this tensor that lie in a piece, and which row of the piece the first of them is.
    for piece in &matrix.pieces {
        let (from, to, base) = match is_stack {
            true if (piece.first..piece.end).contains(&tensor) => {
                (0, rows, (tensor - piece.first) * matrix.stack)
            }
            true => continue,
            false => (piece.first, piece.end, 0),
        };
        let step = (UPLOAD_BYTES / row_bytes.max(1)).max(1).next_multiple_of(ROWS_STEP);
        for start in (from..to).step_by(step) {
            let end = (start + step).min(to);
            let mut planes = <[Vec<u8>; PLANES]>::default();
            let part = &bytes[start * row_bytes..end * row_bytes];
            layout::append(format, cols, part, &mut planes);
            let offsets = layout::offsets(format, (base + start - from) * layout::units(cols));
            for (i, mut plane) in planes.into_iter().enumerate().filter(|(_, p)| !p.is_empty()) {
                plane.resize(plane.len().next_multiple_of(4), 0);
                let at = u64::from(piece.planes[i]) * 16 + offsets[i] as u64;
                device.queue.write_buffer(&made[piece.buffer.0 as usize], at, &plane);
                *sent += plane.len();
            }
            if *sent >= UPLOAD_WAIT_BYTES {
                device.queue.submit([]);
                device.wait()?;
                *sent = 0;
            }
        }
    }
    Ok(())
}
