//! Keys and values on a device. Floats lie as they do on the CPU. Of Q8_0, codes lie line after line, and
//! behind all of them the scales, two to a word, a line of them beginning with a word of its own.

use super::memory::Id;
use crate::backend::CacheShape;
use crate::memory::text;
use crate::{Error, Result};
use attar_kernels::Format;

/// Lanes that add the values of one position.
const LANES: usize = 64;
/// Bytes of a scale, and numbers under it.
const SCALE: usize = 2;
const BLOCK: usize = 32;

#[derive(Clone, Copy)]
pub(super) struct KeyValues {
    pub(super) shape: CacheShape,
    pub(super) keys: Id,
    pub(super) values: Id,
}

/// Bytes of a buffer.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// The keys, or the values, at the first positions of a head.
pub(super) struct Piece {
    pub(super) id: Id,
    /// Numbers or codes.
    pub(super) body: Stretch,
    pub(super) scales: Option<Stretch>,
    /// Numbers of a line.
    len: usize,
}

/// How a line of `len` numbers lies on the device.
#[derive(Clone, Copy)]
struct Line {
    body_bytes: usize,
    /// 0 where there are none.
    scale_bytes: usize,
}

impl Line {
    fn new(format: Format, len: usize) -> Self {
        match format {
            Format::Q8_0 => {
                Self { body_bytes: len, scale_bytes: (len / BLOCK * SCALE).next_multiple_of(4) }
            }
            _ => Self { body_bytes: format.info().row_bytes(len), scale_bytes: 0 },
        }
    }
}

impl KeyValues {
    /// Bytes of the keys and of the values on the device.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for heads the shaders cannot read, [`Error::Limit`].
    pub(super) fn check(shape: &CacheShape, head_len_max: usize) -> Result<[u64; 2]> {
        shape.bytes()?;
        let CacheShape { key_len, value_len, format, .. } = *shape;
        let each = if format == Format::F32 { 4 } else { 8 };
        let fits = key_len % each == 0
            && value_len % each == 0
            && value_len / each <= LANES
            && key_len <= head_len_max;
        if !fits {
            return Err(Error::Unsupported(text!(
                "keys of {key_len} and values of {value_len} numbers in {} on a graphics device",
                format.info().name
            )));
        }
        let lines = Self::lines(shape);
        Ok([key_len, value_len].map(|len| {
            let line = Line::new(format, len);
            lines.saturating_mul((line.body_bytes + line.scale_bytes) as u64)
        }))
    }

    fn lines(shape: &CacheShape) -> u64 {
        (shape.sequences * shape.heads * shape.context_len) as u64
    }

    /// Words before the scales of keys and of values.
    pub(super) fn scales(&self) -> [u32; 2] {
        let CacheShape { key_len, value_len, format, .. } = self.shape;
        let lines = Self::lines(&self.shape);
        [key_len, value_len]
            .map(|len| (lines * Line::new(format, len).body_bytes as u64 / 4) as u32)
    }

    /// The first `positions` of each head of each sequence: keys, then values.
    pub(super) fn pieces(&self, positions: usize) -> impl Iterator<Item = Piece> + use<> {
        let Self { shape, keys, values } = *self;
        let lines = Self::lines(&shape);
        let piece = move |head: usize, id, len| {
            let line = Line::new(shape.format, len);
            let stretch = |bytes: usize| Stretch {
                start: (head * shape.context_len * bytes) as u64,
                bytes: (positions * bytes) as u64,
            };
            let mut scales = stretch(line.scale_bytes);
            scales.start += lines * line.body_bytes as u64;
            let scales = (line.scale_bytes > 0).then_some(scales);
            Piece { id, body: stretch(line.body_bytes), scales, len }
        };
        (0..shape.sequences * shape.heads).flat_map(move |head| {
            [piece(head, keys, shape.key_len), piece(head, values, shape.value_len)]
        })
    }
}

impl Piece {
    /// Bytes of the same piece on the CPU.
    pub(super) fn host_bytes(&self) -> usize {
        let body = self.body.bytes as usize;
        if self.scales.is_some() { Format::Q8_0.info().row_bytes(body) } else { body }
    }

    /// Blocks as the CPU has them, of codes and scales.
    pub(super) fn join(&self, codes: &[u8], scales: &[u8]) -> Vec<u8> {
        let mut host = Vec::with_capacity(self.host_bytes());
        let line = Line::new(Format::Q8_0, self.len);
        for (codes, scales) in
            codes.chunks_exact(line.body_bytes).zip(scales.chunks_exact(line.scale_bytes))
        {
            for (codes, scale) in codes.chunks_exact(BLOCK).zip(scales.chunks_exact(SCALE)) {
                host.extend_from_slice(scale);
                host.extend_from_slice(codes);
            }
        }
        host
    }

    /// Codes and scales, of blocks as the CPU has them.
    pub(super) fn split(&self, host: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        for line in host.chunks_exact(Format::Q8_0.info().row_bytes(self.len)) {
            for block in line.chunks_exact(SCALE + BLOCK) {
                scales.extend_from_slice(&block[..SCALE]);
                codes.extend_from_slice(&block[SCALE..]);
            }
            scales.resize(scales.len().next_multiple_of(4), 0);
        }
        (codes, scales)
    }
}
