//! A graphics device, through WGSL shaders of our own.
//!
//! Operations are noted, not run. When a result is read, the notes become steps ([`steps`]), steps become
//! dispatches ([`encode`]), and all of them go to the device in one pass and one submission ([`record`]).
//! Memory is claimed when loading ends ([`memory`]); weights are rearranged on the way ([`layout`]).
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "drivers allocate as they like; this is no part of the core"
)]

mod backend;
mod cache;
mod check;
mod device;
mod encode;
mod largest;
mod layout;
mod memory;
mod outside;
mod products;
mod record;
mod shaders;
mod steps;

use super::{Cache, Routing, Row, View, Weight};
use crate::Result;
use device::Device;
pub use device::{DeviceInfo, GpuOptions};
use memory::{Id, Memory};
pub(crate) use outside::Outside;
use record::{Reading, Recorder};
use std::sync::Arc;
use steps::{Op, Weights};

/// Widest key or value head.
const HEAD_LEN_MAX: usize = 512;
/// Experts that routing sorts at most.
const EXPERTS_MAX: usize = 1024;
/// Bytes the host reads at a time at least.
const STAGING_BYTES: u64 = 1 << 20;

/// A graphics device with a model's weights.
pub struct Gpu {
    device: Arc<Device>,
    memory: Memory,
    fixed: Fixed,
    recorder: Option<Recorder>,
    plan_only: bool,
    ops: Vec<Op>,
    /// The input that lies in bytes, as long as nothing may have changed it.
    quantized: Option<View>,
    batch: Batch,
    values: Vec<f32>,
    largest: Vec<(f32, u32)>,
    cache_bytes: u64,
    staging_bytes: u64,
}

/// Buffers every model has.
#[derive(Clone, Copy)]
struct Fixed {
    vectors: Id,
    ids: Id,
    rows: Id,
    partials: Id,
    /// Inputs of products in bytes.
    quantized: Id,
    candidates: [Id; 2],
    /// Bound where a shader's input is not used, and where an output is not.
    dummy: Id,
    spare: Id,
}

/// Tokens and places of the rows at work.
#[derive(Default)]
struct Batch {
    ids: Vec<u32>,
    rows: Vec<Row>,
    angles: Vec<[f32; 2]>,
}

impl Batch {
    /// Positions that the furthest row sees.
    fn positions(&self) -> usize {
        self.rows.iter().map(|row| row.position as usize + 1).max().unwrap_or(1)
    }
}

impl Gpu {
    /// The devices there are.
    pub fn devices() -> Vec<DeviceInfo> {
        device::devices()
    }

    /// Opens a device.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is none, or its driver refuses.
    pub fn open(options: &GpuOptions) -> Result<Self> {
        let device = Arc::new(Device::open(options, true)?);
        let is_right =
            || Self::on(Arc::clone(&device), false).multiplies_exactly().unwrap_or(false);
        if device.matrices && !is_right() {
            log::warn!("{}: its units for matrices err, and are left alone", device.info.name);
            return Ok(Self::on(Arc::new(Device::open(options, false)?), false));
        }
        Ok(Self::on(device, false))
    }

    /// The same device without weights. It claims no memory when loading ends, so nothing can run on it:
    /// it says how many bytes a model would take.
    pub fn planner(&self) -> Self {
        Self::on(Arc::clone(&self.device), true)
    }

    fn on(device: Arc<Device>, plan_only: bool) -> Self {
        let none = Id(u32::MAX);
        Self {
            device,
            memory: Memory::default(),
            fixed: Fixed {
                vectors: none,
                ids: none,
                rows: none,
                partials: none,
                quantized: none,
                candidates: [none; 2],
                dummy: none,
                spare: none,
            },
            recorder: None,
            plan_only,
            ops: Vec::new(),
            quantized: None,
            batch: Batch::default(),
            values: Vec::new(),
            largest: Vec::new(),
            cache_bytes: 0,
            staging_bytes: STAGING_BYTES,
        }
    }

    /// The device.
    pub fn info(&self) -> &DeviceInfo {
        &self.device.info
    }

    /// Whether the device has room for `bytes` more.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.device.has_room(bytes as u64)
    }

    /// Dispatches and submissions so far.
    pub fn counts(&self) -> (u64, u64) {
        self.recorder.as_ref().map_or((0, 0), |r| (r.dispatches, r.submissions))
    }

    fn note(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Turns the notes into dispatches, which go with the next submission.
    fn record(&mut self) {
        if self.ops.is_empty() {
            return;
        }
        self.send_batch();
        self.quantized = None;
        let ops = std::mem::take(&mut self.ops);
        let steps: Vec<_> = steps::steps(&ops, &Fusing(&self.memory)).collect();
        for step in steps {
            if let Err(error) = self.encode(step) {
                self.device.note(&error);
            }
        }
        self.ops = ops;
        self.ops.clear();
    }

    /// Sends tokens, places and angles of the batch at work.
    fn send_batch(&mut self) {
        let Self { device, memory, fixed, batch, .. } = self;
        let places: Vec<u32> = batch.rows.iter().flat_map(|r| [r.sequence, r.position]).collect();
        device.queue.write_buffer(memory.buffer(fixed.ids), 0, bytemuck::cast_slice(&batch.ids));
        device.queue.write_buffer(memory.buffer(fixed.rows), 0, bytemuck::cast_slice(&places));
        for turning in &memory.rotaries {
            let places = batch.rows.iter().map(|row| row.position);
            batch.angles.clear();
            batch.angles.extend(places.flat_map(|place| turning.shape.angles(place)));
            let angles = bytemuck::cast_slice(&batch.angles);
            device.queue.write_buffer(memory.buffer(turning.angles), 0, angles);
        }
    }

    /// Sends everything noted so far.
    fn flush(&mut self) {
        self.record();
        if let Some(recorder) = &mut self.recorder {
            recorder.submit(&self.device, &self.memory, None);
        }
    }

    /// Makes `rows` the rows at work; what was noted for others goes first.
    fn at_rows(&mut self, rows: &[Row]) {
        if self.batch.rows != rows {
            if self.ops.iter().any(Op::has_rows) {
                self.flush();
            }
            self.batch.rows.clear();
            self.batch.rows.extend_from_slice(rows);
        }
    }

    fn read_bytes(&mut self, reading: Reading, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.record();
        let recorder = self.recorder.as_mut().expect("sealed before it is read");
        recorder.read(&self.device, &self.memory, reading, each)
    }

    fn weight_handle(&self) -> Weight {
        Weight(self.memory.weights.len() as u32 - 1)
    }
}

/// What fusing needs to know.
struct Fusing<'a>(&'a Memory);

impl Weights for Fusing<'_> {
    fn together(&self, a: Weight, b: Weight) -> bool {
        let (a, b) = (self.0.matrix(a), self.0.matrix(b));
        let alone = a.pieces.len() == 1 && b.pieces.len() == 1;
        alone && a.pieces[0].buffer == b.pieces[0].buffer
    }

    fn fuses(&self, out: View, routing: Option<Routing>) -> bool {
        self.0.input_rows(out, routing) <= products::MATVEC_ROWS_MAX
    }

    fn heads(&self, cache: Cache) -> (usize, usize) {
        let shape = self.0.caches[cache.0 as usize].shape;
        (shape.heads, shape.key_len)
    }

    fn head_len_max(&self) -> usize {
        HEAD_LEN_MAX
    }
}
