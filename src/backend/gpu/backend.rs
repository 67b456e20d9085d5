//! Operations are noted, results are read, memory is claimed.

use super::cache::{KeyValues, Stretch};
use super::memory::{Id, Routes, Rows, Turning};
use super::record::{Reading, Recorder};
use super::steps::Op;
use super::{EXPERTS_MAX, Fixed, Gpu, HEAD_LEN_MAX, encode, largest, layout};
use crate::backend::{
    Backend, Buffer, Cache, CacheShape, NormShape, Rotary, RotaryShape, RouteShape, Routing, Row,
    View, Weight,
};
use crate::gguf::Tensor;
use crate::{Error, Result};

impl Backend for Gpu {
    fn name(&self) -> &str {
        &self.device.info.name
    }

    fn vector(&mut self, tensor: &Tensor) -> Result<Weight> {
        self.memory.add_vector(tensor)?;
        Ok(self.weight_handle())
    }

    fn weight(&mut self, experts: &[Tensor]) -> Result<Weight> {
        if experts.len() > EXPERTS_MAX {
            let count = experts.len();
            let what =
                format!("{count} experts on a graphics device, expected {EXPERTS_MAX} at most");
            return Err(Error::Unsupported(what.into()));
        }
        self.memory.add_matrices(experts, self.device.binding_bytes_max)?;
        Ok(self.weight_handle())
    }

    fn buffer(&mut self, rows: usize, width: usize) -> Result<View> {
        let stride = width.next_multiple_of(layout::UNIT);
        let bytes = (rows as u64).saturating_mul(stride as u64 * 4);
        if bytes / 4 > u64::from(u32::MAX) {
            return Err(Error::Limit(format!("a buffer of {rows} rows of {width}").into()));
        }
        let id = self.memory.claim(bytes);
        self.memory.buffers.push(Rows { id, stride });
        self.staging_bytes = self.staging_bytes.max(stride as u64 * 4);
        let buffer = Buffer(self.memory.buffers.len() as u32 - 1);
        Ok(View { buffer, row: 0, rows, column: 0, width })
    }

    fn cache(&mut self, shape: CacheShape) -> Result<Cache> {
        let [keys, values] = KeyValues::check(&shape, HEAD_LEN_MAX)?;
        let [keys, values] = [self.memory.claim(keys), self.memory.claim(values)];
        let (key_bytes, value_bytes) = shape.bytes()?;
        self.cache_bytes += (key_bytes + value_bytes) as u64;
        self.memory.caches.push(KeyValues { shape, keys, values });
        Ok(Cache(self.memory.caches.len() as u32 - 1))
    }

    fn rotary(&mut self, shape: RotaryShape) -> Result<Rotary> {
        self.memory.rotaries.push(Turning { shape, angles: Id(u32::MAX) });
        Ok(Rotary(self.memory.rotaries.len() as u32 - 1))
    }

    fn routing(&mut self, rows: usize, used: usize) -> Result<Routing> {
        let slots = (rows as u64).saturating_mul(used as u64);
        if slots > u64::from(u32::MAX / 3) {
            return Err(Error::Limit(format!("{used} choices for each of {rows} rows").into()));
        }
        let id = self.memory.claim((slots * 3 + EXPERTS_MAX as u64 + 1) * 4);
        let [weights, order, starts] = [1, 2, 3].map(|n| n * slots as u32);
        self.memory.routings.push(Routes { id, used, weights, order, starts });
        Ok(Routing(self.memory.routings.len() as u32 - 1))
    }

    fn seal(&mut self, rows: usize) -> Result<()> {
        for i in 0..self.memory.rotaries.len() {
            let pairs = self.memory.rotaries[i].shape.frequencies.len();
            self.memory.rotaries[i].angles = self.memory.claim((rows * pairs * 8) as u64);
        }
        let partials = self.memory.caches.iter().map(|cache| {
            let CacheShape { query_heads, context_len, value_len, .. } = cache.shape;
            let of = |rows| match encode::parts(rows, query_heads, context_len) {
                1 => 0,
                parts => rows * query_heads * parts * (value_len + 2) * 4,
            };
            (1..=rows).map(of).max().unwrap_or(0) as u64
        });
        let partials = partials.max().unwrap_or(0);
        let mut claim = |bytes: usize| self.memory.claim(bytes as u64);
        let (ids, places) = (claim(rows * 4), claim(rows * 8));
        let (dummy, spare) = (claim(16), claim(16));
        let partials = self.memory.claim(partials);
        let most = if self.device.byte_products { self.memory.quantized_bytes(rows) } else { 0 };
        let quantized = self.memory.claim(most);
        let widest = self.memory.buffers.iter().map(|rows| rows.stride).max().unwrap_or(0);
        let candidates = [(); 2].map(|()| self.memory.claim(largest::candidate_bytes(widest)));
        let vectors = self.memory.claim_vectors();
        self.fixed =
            Fixed { vectors, ids, rows: places, partials, quantized, candidates, dummy, spare };
        if self.plan_only {
            return Ok(());
        }
        self.memory.make(&self.device, vectors)?;
        self.recorder = Some(Recorder::new(&self.device, self.staging_bytes)?);
        Ok(())
    }

    fn claimed_bytes(&self) -> usize {
        0
    }

    fn cache_bytes(&self) -> usize {
        self.cache_bytes as usize
    }

    fn device_bytes(&self) -> usize {
        (self.memory.claimed_bytes() + Recorder::bytes(self.staging_bytes)) as usize
    }

    fn cached(&self, cache: Cache, positions: usize, each: &mut dyn FnMut(&[u8])) {
        let Some(recorder) = &self.recorder else { return };
        let (mut body, mut scales) = (Vec::new(), Vec::new());
        for piece in self.memory.caches[cache.0 as usize].pieces(positions) {
            let read = |Stretch { start, bytes }, whole: &mut Vec<u8>| {
                let reading = Reading { from: piece.id, start, bytes };
                whole.clear();
                let mut take = |part: &[u8]| whole.extend_from_slice(part);
                let done = recorder.peek(&self.device, &self.memory, reading, &mut take);
                if let Err(error) = done {
                    self.device.note(&error);
                }
                whole.resize(bytes as usize, 0);
            };
            read(piece.body, &mut body);
            match piece.scales {
                None => each(&body),
                Some(stretch) => {
                    read(stretch, &mut scales);
                    each(&piece.join(&body, &scales));
                }
            }
        }
    }

    fn restore(&mut self, cache: Cache, positions: usize, fill: &mut dyn FnMut(&mut [u8])) {
        self.flush();
        let mut host = Vec::new();
        for piece in self.memory.caches[cache.0 as usize].pieces(positions) {
            host.resize(piece.host_bytes(), 0);
            fill(&mut host);
            let write = |to: Stretch, bytes: &[u8]| {
                self.device.queue.write_buffer(self.memory.buffer(piece.id), to.start, bytes);
            };
            let Some(stretch) = piece.scales else {
                write(piece.body, &host);
                continue;
            };
            let (codes, scales) = piece.split(&host);
            write(piece.body, &codes);
            write(stretch, &scales);
        }
    }

    fn write(&mut self, out: View, values: &[f32]) {
        assert!(values.len() == out.rows * out.width);
        self.flush();
        let Rows { id, stride } = self.memory.rows(out);
        let start = self.memory.start(out) as usize;
        for (r, row) in values.chunks_exact(out.width).enumerate() {
            let at = ((start + r * stride) * 4) as u64;
            self.device.queue.write_buffer(self.memory.buffer(id), at, bytemuck::cast_slice(row));
        }
    }

    fn read(&mut self, x: View) -> Result<&[f32]> {
        assert!(x.column == 0);
        let Rows { id, stride } = self.memory.rows(x);
        let reading = Reading {
            from: id,
            start: u64::from(self.memory.start(x)) * 4,
            bytes: (x.rows * stride * 4) as u64,
        };
        let mut values = std::mem::take(&mut self.values);
        values.clear();
        let mut place = 0; // among the padded rows
        let done = self.read_bytes(reading, &mut |bytes| {
            for value in bytemuck::cast_slice::<u8, f32>(bytes) {
                if place % stride < x.width {
                    values.push(*value);
                }
                place += 1;
            }
        });
        self.values = values;
        done.map(|()| &self.values[..])
    }

    fn largest_max(&self) -> usize {
        largest::COUNT_MAX
    }

    fn largest(&mut self, x: View, count: usize) -> Result<&[(f32, u32)]> {
        self.find_largest(x, count)?;
        Ok(&self.largest)
    }

    fn embed(&mut self, out: View, table: Weight, ids: &[u32]) {
        if self.batch.ids != ids {
            if self.ops.iter().any(|op| matches!(op, Op::Embed { .. })) {
                self.flush();
            }
            self.batch.ids.clear();
            self.batch.ids.extend_from_slice(ids);
        }
        self.note(Op::Embed { out, table });
    }

    fn matmul(&mut self, out: View, w: Weight, x: View) {
        self.note(Op::Matmul { out, w, x });
    }

    fn copy(&mut self, out: View, x: View) {
        self.note(Op::Copy { out, x });
    }

    fn add(&mut self, x: View, y: View) {
        self.note(Op::Add { x, y });
    }

    fn add_bias(&mut self, x: View, bias: Weight) {
        self.note(Op::AddBias { x, bias });
    }

    fn scale(&mut self, x: View, factor: f32) {
        self.note(Op::Scale { x, factor });
    }

    fn scale_rows(&mut self, x: View, gate: View) {
        self.note(Op::ScaleRows { x, gate });
    }

    fn norm(&mut self, out: View, x: View, norm: NormShape, group: usize) {
        self.note(Op::Norm { out, x, norm, group });
    }

    fn gelu(&mut self, x: View) {
        self.note(Op::Gelu { x });
    }

    fn swiglu(&mut self, gate: View, up: View) {
        self.note(Op::Swiglu { gate, up });
    }

    fn rope(&mut self, x: View, heads: usize, rotary: Rotary, rows: &[Row]) {
        self.at_rows(rows);
        self.note(Op::Rope { x, heads, rotary });
    }

    fn store(&mut self, cache: Cache, key: View, value: View, rows: &[Row]) {
        self.at_rows(rows);
        self.note(Op::Store { cache, key, value });
    }

    fn attention(&mut self, out: View, query: View, cache: Cache, scale: f32, rows: &[Row]) {
        self.at_rows(rows);
        self.note(Op::Attention { out, query, cache, scale });
    }

    fn route(&mut self, routing: Routing, scores: View, shape: RouteShape) {
        assert!(scores.width <= EXPERTS_MAX);
        self.note(Op::Route { routing, scores, shape });
    }

    fn matmul_experts(&mut self, out: View, w: Weight, x: View, routing: Routing) {
        self.note(Op::MatmulExperts { out, w, x, routing });
    }

    fn scale_experts(&mut self, x: View, factors: Weight, routing: Routing) {
        self.note(Op::ScaleExperts { x, factors, routing });
    }

    fn combine(&mut self, out: View, x: View, routing: Routing) {
        self.note(Op::Combine { out, x, routing });
    }
}
