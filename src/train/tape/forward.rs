//! The operations, each run and noted.

use super::attention::KeyValues;
use super::back::{Operation, sigmoid};
use super::experts::Routes;
use super::rows::Rows;
use super::{Parameter, Tape, add};
use crate::Result;
use crate::backend::{
    Backend, Buffer, Cache, CacheShape, NormKind, NormShape, Rotary, RotaryShape, RouteShape,
    Routing, Row, View, Weight, matrix_shape,
};
use crate::gguf::Tensor;
use crate::train::product::multiply_on;
use attar_kernels::Isa;

impl Backend for Tape {
    fn name(&self) -> &str {
        "tape"
    }

    fn threads(&self) -> usize {
        self.threads.count()
    }

    fn vector(&mut self, tensor: &Tensor) -> Result<Weight> {
        let (format, cols) = (tensor.format()?, tensor.row_len());
        let learns = (self.learns)(&tensor.name);
        let mut parameter = Parameter::new(format, [1, cols], std::slice::from_ref(tensor), learns);
        parameter.unpack();
        Ok(Weight(add(&mut self.parameters, parameter)))
    }

    fn weight(&mut self, experts: &[Tensor]) -> Result<Weight> {
        let (format, rows, cols) = matrix_shape(experts)?;
        let learns = (self.learns)(&experts[0].name);
        let parameter = Parameter::new(format, [rows, cols], experts, learns);
        Ok(Weight(add(&mut self.parameters, parameter)))
    }

    fn buffer(&mut self, rows: usize, width: usize) -> Result<View> {
        let buffer = Buffer(add(&mut self.values, Rows::claim(rows, width)?));
        self.gradients.push(Rows::claim(rows, width)?);
        Ok(View { buffer, row: 0, rows, column: 0, width })
    }

    fn cache(&mut self, shape: CacheShape) -> Result<Cache> {
        Ok(Cache(add(&mut self.caches, KeyValues::claim(shape)?)))
    }

    fn rotary(&mut self, shape: RotaryShape) -> Result<Rotary> {
        Ok(Rotary(add(&mut self.rotaries, shape)))
    }

    fn routing(&mut self, rows: usize, used: usize) -> Result<Routing> {
        Ok(Routing(add(&mut self.routings, Routes::new(rows, used))))
    }

    fn seal(&mut self, _rows: usize) -> Result<()> {
        Ok(())
    }

    fn claimed_bytes(&self) -> usize {
        let rows: usize = self.values.iter().map(|rows| rows.data.len() * 8).sum();
        rows + self.cache_bytes() + self.parameters.iter().map(Parameter::bytes).sum::<usize>()
    }

    fn cache_bytes(&self) -> usize {
        self.caches.iter().map(KeyValues::bytes).sum()
    }

    fn cached(&self, cache: Cache, positions: usize, each: &mut dyn FnMut(&[u8])) {
        self.caches[cache.0 as usize].pieces(positions, each);
    }

    fn restore(&mut self, cache: Cache, positions: usize, fill: &mut dyn FnMut(&mut [u8])) {
        self.caches[cache.0 as usize].pieces_mut(positions, fill);
    }

    fn write(&mut self, out: View, values: &[f32]) {
        assert!(values.len() == out.rows * out.width);
        self.each_row(out, |_, r, row| row.copy_from_slice(&values[r * out.width..][..out.width]));
        self.note(Operation::Write { out });
    }

    fn read(&mut self, x: View) -> Result<&[f32]> {
        let rows = &self.values[x.buffer.0 as usize];
        assert!(x.column == 0 && x.width == rows.stride);
        Ok(&rows.data[x.row * rows.stride..][..x.rows * rows.stride])
    }

    fn embed(&mut self, out: View, table: Weight, ids: &[u32]) {
        assert!(out.rows == ids.len());
        self.each_row(out, |reads, r, row| {
            reads.parameters[table.0 as usize].row(ids[r] as usize, row);
        });
        self.note(Operation::Embed { out, table, ids: ids.into() });
    }

    fn matmul(&mut self, out: View, w: Weight, x: View) {
        assert!(out.rows == x.rows);
        let kept = self.parameters[w.0 as usize].learns().then(|| self.keep(x));
        let mut target = self.take(out.buffer);
        let Self { threads, values, parameters, tile, .. } = self;
        let x_values = values[x.buffer.0 as usize].matrix(x);
        parameters[w.0 as usize].tiles(0, threads, tile, |threads, first, w| {
            let columns = View { column: out.column + first, width: w.rows, ..out };
            multiply_on(threads, target.target(columns), 0.0, 1.0, x_values, w.transposed());
        });
        self.put(out.buffer, target);
        self.note(Operation::Product { out, weight: w, x, kept });
    }

    fn copy(&mut self, out: View, x: View) {
        assert!(out.rows == x.rows);
        self.each_row(out, |reads, r, row| row.copy_from_slice(reads.row(x, r)));
        self.note(Operation::Copy { out, x });
    }

    fn add(&mut self, x: View, y: View) {
        assert!(x.rows == y.rows && x.width == y.width);
        self.each_row(x, |reads, r, row| {
            row.iter_mut().zip(reads.row(y, r)).for_each(|(a, b)| *a += b);
        });
        self.note(Operation::Add { x, y });
    }

    fn add_bias(&mut self, x: View, bias: Weight) {
        self.each_row(x, |reads, _, row| {
            row.iter_mut().zip(reads.vector(bias)).for_each(|(a, b)| *a += b);
        });
        self.note(Operation::Bias { x, bias });
    }

    fn scale(&mut self, x: View, factor: f32) {
        self.each_row(x, |_, _, row| row.iter_mut().for_each(|v| *v *= factor));
        self.note(Operation::Scale { x, factor });
    }

    fn scale_rows(&mut self, x: View, gate: View) {
        assert!(x.rows == gate.rows && gate.width == 1);
        let (kept, kept_gate) = (self.keep(x), self.keep(gate));
        self.each_row(x, |reads, r, row| {
            let factor = sigmoid(reads.row(gate, r)[0]);
            row.iter_mut().for_each(|v| *v *= factor);
        });
        self.note(Operation::ScaleRows { x, gate, kept, kept_gate });
    }

    fn norm(&mut self, out: View, x: View, norm: NormShape, group: usize) {
        let kept = self.keep(x);
        let isa = self.isa;
        let apply = match norm.kind {
            NormKind::Rms => Isa::rms_norm,
            NormKind::Layer => Isa::layer_norm,
        };
        let blocks = std::mem::take(&mut self.kept.blocks);
        self.each_row(out, |reads, r, row| {
            row.copy_from_slice(&blocks[kept][r * x.width..][..x.width]);
            let weight = norm.weight.map(|w| reads.vector(w));
            row.chunks_mut(group).for_each(|x| apply(isa, x, weight, norm.eps));
        });
        self.kept.blocks = blocks;
        self.note(Operation::Norm { out, x, norm, group, kept });
    }

    fn gelu(&mut self, x: View) {
        let kept = self.keep(x);
        let isa = self.isa;
        self.each_row(x, |_, _, row| isa.gelu(row));
        self.note(Operation::Gelu { x, kept });
    }

    fn swiglu(&mut self, gate: View, up: View) {
        assert!(gate.rows == up.rows && gate.width == up.width);
        let (kept_gate, kept_up) = (self.keep(gate), self.keep(up));
        let isa = self.isa;
        self.each_row(gate, |reads, r, row| isa.swiglu(row, reads.row(up, r)));
        self.note(Operation::Swiglu { gate, up, kept_gate, kept_up });
    }

    fn rope(&mut self, x: View, heads: usize, rotary: Rotary, rows: &[Row]) {
        assert!(x.rows == rows.len() && x.width.is_multiple_of(heads));
        let rows = self.batch(rows);
        self.turn(rotary, &rows);
        let mut out = self.take(x.buffer);
        self.rotate(&mut out, x, heads, rotary, false);
        self.put(x.buffer, out);
        self.note(Operation::Rope { x, heads, rotary, rows });
    }

    fn store(&mut self, cache: Cache, key: View, value: View, rows: &[Row]) {
        assert!(key.rows == rows.len() && value.rows == rows.len());
        let held = &mut self.caches[cache.0 as usize];
        held.store(&self.values[key.buffer.0 as usize], key, true, rows);
        held.store(&self.values[value.buffer.0 as usize], value, false, rows);
        let rows = self.batch(rows);
        self.note(Operation::Store { cache, key, value, rows });
    }

    fn attention(&mut self, out: View, query: View, cache: Cache, scale: f32, rows: &[Row]) {
        let kept = self.keep(query);
        let mut target = self.take(out.buffer);
        let held = &self.caches[cache.0 as usize];
        held.attend(
            &mut self.threads,
            self.isa,
            &mut target,
            out,
            &self.kept.blocks[kept],
            scale,
            rows,
        );
        self.put(out.buffer, target);
        let kept_out = self.keep(out);
        let rows = self.batch(rows);
        self.note(Operation::Attention { out, query, cache, scale, rows, kept, kept_out });
    }

    fn route(&mut self, routing: Routing, scores: View, shape: RouteShape) {
        self.choose(routing, scores, shape);
    }

    fn matmul_experts(&mut self, out: View, w: Weight, x: View, routing: Routing) {
        self.product_experts(out, w, x, routing);
    }

    fn scale_experts(&mut self, x: View, factors: Weight, routing: Routing) {
        let kept = self.keep(x);
        let experts = self.routings[routing.0 as usize].experts.clone();
        self.each_row(x, |reads, slot, row| {
            let factor = reads.vector(factors)[experts[slot] as usize];
            row.iter_mut().for_each(|v| *v *= factor);
        });
        self.note(Operation::ScaleExperts { x, factors, experts, kept });
    }

    fn combine(&mut self, out: View, x: View, routing: Routing) {
        self.combine_experts(out, x, routing);
    }
}
