//! A model on two devices: its first layers on one, all else on the other. Of a layer that the first does
//! not take in whole, what follows is the other's.
//!
//! What belongs to a layer lives where the layer does; buffers and rotations live on both devices. An
//! operation runs on the device of its layer, or on the other if what it needs lives there. Each row of a
//! buffer knows where its newest content is, and moves when it is needed on the other device: once at
//! each border between the devices.

use super::pair::{Device, Handle, Operand, Operation, copy, load, loads, operations};
use super::{
    Backend, Cache, CacheShape, NormShape, Rotary, RotaryShape, RouteShape, Routing, Row, View,
    Weight,
};
use crate::gguf::Tensor;
use crate::memory::{self, Block, Text, text};
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Indices of the devices.
const FIRST: usize = 0;
const REST: usize = 1;

/// Two devices as one.
pub struct Split {
    devices: [Device; 2],
    name: Text,
    layers_on_first: usize,
    /// Of these, the ones it does not take.
    refused: Vec<usize>,
    /// The layer at work, and its device.
    layer: usize,
    here: usize,
    buffers: Vec<Content>,
    claimed_bytes: usize,
    /// Why a move failed. What came after it is lost, so it stays.
    failed: Option<Error>,
}

/// Where the content of a buffer is.
struct Content {
    width: usize,
    /// Of each row, which devices have the newest; one of them at least.
    newest: Block<[bool; 2]>,
}

impl Split {
    /// Splits a model between two devices without weights: its layers below `layers_on_first` go to
    /// `first`, all else to `rest`. More than the model has layers brings the input table, the last norm
    /// and the head to `first` too.
    pub fn new(first: Box<dyn Backend>, rest: Box<dyn Backend>, layers_on_first: usize) -> Self {
        Self {
            name: text!("{} and {}", first.name(), rest.name()),
            devices: [Device::new(first), Device::new(rest)],
            layers_on_first,
            refused: Vec::new(),
            layer: usize::MAX,
            here: REST,
            buffers: Vec::new(),
            claimed_bytes: 0,
            failed: None,
        }
    }

    /// Loads what belongs to the layer at work. What the first device does not take goes to the other, and
    /// so does all that follows of the layer.
    fn load<T: Handle>(&mut self, take: &dyn Fn(&mut dyn Backend) -> Result<T>) -> Result<T> {
        if self.here == FIRST {
            match load(&mut self.devices, &[true, false], take) {
                Err(error @ (Error::Unsupported(_) | Error::Limit(_))) => {
                    log::info!("layer {} leaves {}: {error}", self.layer, self.name);
                    memory::push(&mut self.refused, self.layer)?;
                    self.here = REST;
                }
                done => return done,
            }
        }
        load(&mut self.devices, &[false, true], take)
    }

    fn content(&mut self, view: View) -> &mut Content {
        &mut self.buffers[view.buffer.0 as usize]
    }

    fn run(&mut self, operation: &Operation<'_>, call: &dyn Fn(&mut Device)) {
        let here = &self.devices[self.here];
        let device = if operation.can_run_on(here) { self.here } else { 1 - self.here };
        if self.failed.is_none() {
            self.failed = self.prepare(operation, device).err();
        }
        if self.failed.is_none() {
            call(&mut self.devices[device]);
        }
    }

    /// Brings what the operation reads, and notes what it writes.
    fn prepare(&mut self, operation: &Operation<'_>, device: usize) -> Result<()> {
        for view in operation.reads {
            self.bring(*view, device)?;
        }
        if let Some(out) = operation.out {
            if out.width < self.content(out).width {
                self.bring(out, device)?; // the other columns
            }
            let newest = [device == FIRST, device == REST];
            self.content(out).newest[out.row..][..out.rows].fill(newest);
        }
        Ok(())
    }

    /// Makes the rows of a view the newest on a device.
    fn bring(&mut self, view: View, device: usize) -> Result<()> {
        let newest = &mut self.buffers[view.buffer.0 as usize].newest[view.row..][..view.rows];
        let [first, rest] = &mut self.devices;
        let (from, to) = if device == FIRST { (rest, first) } else { (first, rest) };
        let mut row = 0;
        while row < view.rows {
            let rows = newest[row..].iter().take_while(|newest| !newest[device]).count();
            if rows > 0 {
                let lacking = view.rows_at(row, rows);
                to.backend.write(to.handles.rows(lacking), from.read(lacking)?);
                newest[row..][..rows].fill([true; 2]);
            }
            row += rows.max(1);
        }
        Ok(())
    }
}

impl Backend for Split {
    fn name(&self) -> &str {
        &self.name
    }

    fn threads(&self) -> usize {
        self.devices.iter().map(|device| device.backend.threads()).max().unwrap_or(1)
    }

    fn buffer(&mut self, rows: usize, width: usize) -> Result<View> {
        let content = Content { width, newest: Block::claim(rows, [true; 2])? };
        self.claimed_bytes += Block::<[bool; 2]>::bytes(rows);
        memory::push(&mut self.buffers, content)?;
        load(&mut self.devices, &[true; 2], &|backend| backend.buffer(rows, width))
    }

    fn rotary(&mut self, shape: RotaryShape) -> Result<Rotary> {
        load(&mut self.devices, &[true; 2], &|backend| backend.rotary(copy(&shape)?))
    }

    fn seal(&mut self, rows: usize) -> Result<()> {
        self.devices.iter_mut().try_for_each(|device| device.backend.seal(rows))
    }

    fn claimed_bytes(&self) -> usize {
        let devices = self.devices.iter().map(|device| device.backend.claimed_bytes());
        devices.sum::<usize>() + self.claimed_bytes
    }

    fn cache_bytes(&self) -> usize {
        self.devices.iter().map(|device| device.backend.cache_bytes()).sum()
    }

    fn device_bytes(&self) -> usize {
        self.devices.iter().map(|device| device.backend.device_bytes()).sum()
    }

    fn layer(&mut self, index: usize) {
        self.layer = index;
        let is_first = index < self.layers_on_first && !self.refused.contains(&index);
        self.here = if is_first { FIRST } else { REST };
        self.devices.iter_mut().for_each(|device| device.backend.layer(index));
    }

    fn cached(&self, cache: Cache, positions: usize, each: &mut dyn FnMut(&[u8])) {
        for Device { backend, handles } in self.devices.iter().filter(|d| cache.held(&d.handles)) {
            backend.cached(cache.on(handles), positions, each);
        }
    }

    fn restore(&mut self, cache: Cache, positions: usize, fill: &mut dyn FnMut(&mut [u8])) {
        for Device { backend, handles } in &mut self.devices {
            if cache.held(handles) {
                backend.restore(cache.on(handles), positions, fill);
            }
        }
    }

    fn read(&mut self, x: View) -> Result<&[f32]> {
        let device = self.here;
        if self.failed.is_none() {
            self.failed = self.bring(x, device).err();
        }
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.devices[device].read(x),
        }
    }

    loads!(vector weight cache routing);
    operations!();
}
